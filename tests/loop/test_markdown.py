"""Text from outside within Markdown."""

from __future__ import annotations

import re

import pytest

from ml_backend.loop.markdown import in_markdown


@pytest.mark.parametrize(
    "text",
    [
        "a|b",
        "<script>x</script>",
        "![x](http://example.com/beacon)",
        "[x](javascript:1)",
        "`code`",
        "a\\|b",
        "<http://x>",
    ],
)
def test_no_mark_keeps_its_meaning(text: str) -> None:
    shown = in_markdown(text)
    assert not re.search(r"(?<!\\)(?:\\\\)*[|<`\[\]]", shown)
    assert re.sub(r"\\(.)", r"\1", shown) == text


def test_it_stays_in_its_line() -> None:
    assert in_markdown("a\n\n# b\r\n\tc") == "a # b c"
    assert in_markdown("A-line, 3 (B_line)") == "A-line, 3 (B_line)"
