"""Text from outside within Markdown."""

from __future__ import annotations

import re

_MARK = re.compile(r"[\\|`<\[\]]")


def in_markdown(text: str) -> str:
    """Return a text in one line that stays text: no cell ends in it, and it makes no link, picture or HTML."""
    return " ".join(_MARK.sub(r"\\\g<0>", text).split())
