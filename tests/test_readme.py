from __future__ import annotations

import re
from pathlib import Path

from ml_backend.launch.options import Options
from ml_backend.settings import PREFIX, Settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_setting_stands_in_the_table_as_it_is() -> None:
    rows = re.findall(rf"^\| `({PREFIX}\w+)` \| (.*?) \| (.*) \|$", README, flags=re.MULTILINE)
    expected = []
    for name, field in Settings.model_fields.items():
        default = "–" if field.default in (None, ()) else f"`{field.default}`"
        expected.append((f"{PREFIX}{name.upper()}", default, field.description))
    assert rows == expected


def test_what_the_readme_names_is_there() -> None:
    for path in set(re.findall(r"(?:scripts|label_config|docs|ml_backend)/[\w/]+\.\w+", README)):
        assert (ROOT / path).exists(), path
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"^ {4}make (\w+)", README, flags=re.MULTILINE)) <= targets


def test_the_makefile_passes_only_options_that_the_demo_has() -> None:
    passed = set(
        re.findall(r"(--[a-z-]+)", re.search(r"DEMO_OPTIONS := (.*?)\n\n", (ROOT / "Makefile").read_text(), re.S)[1])
    )  # type: ignore[index]
    known = {f"--{name.replace('_', '-')}" for name in Options.__annotations__}
    assert passed <= known
    assert {"--clips", "--labels", "--unattended", "--rounds", "--batch", "--report"} <= passed
