"""Render what the code knows into the documentation: settings, commands, and the lists of settings in example files.

`make docs` runs it; with ``--check`` it only says what is out of date.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import typer
import typer.main
from typer.cli import get_docs_for_click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ml_backend.commands.main import app
from ml_backend.settings import PREFIX, SECRETS, SECTIONS, Settings

ROOT = Path(__file__).resolve().parents[1]
SETTINGS_INTRODUCTION = f"""# Settings

Settings are environment variables. They are read once, when a process starts. A wrong or unknown one stops it with a
message that names it. `{SECRETS}` names a folder whose files hold values too, each named like the setting in lower
case, such as `/run/secrets/tsal_webhook_secret`. The environment wins, unless it is empty there.

This page is generated from `ml_backend/settings.py`.
"""
# The compose file sets these itself, or takes them from lines of their own.
COMPOSED = (
    "label_studio_url",
    "label_studio_token",
    "document_root",
    "backend_url",
    "host",
    "port",
    "webhook_secret",
    "basic_auth_user",
    "basic_auth_password",
    "data_dir",
    "cache_dir",
    "redis_url",
)


def main(arguments: list[str] | None = None) -> int:
    """Write every rendered file; with --check, write nothing and return 1 where one is out of date."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="only say which files are out of date")
    check = parser.parse_args(arguments).check
    stale = [path for path, text in rendered() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    for path, text in rendered():
        if path in stale and not check:
            path.write_text(text, encoding="utf-8")
    for path in stale:
        print(f"{path.relative_to(ROOT)} {'is out of date: run `make docs`' if check else 'written'}")
    return 1 if check and stale else 0


def rendered() -> Iterator[tuple[Path, str]]:
    """Each rendered file and what belongs into it."""
    yield ROOT / "docs" / "settings.md", settings_page()
    yield ROOT / "docs" / "commands.md", commands_page()
    others = [f"{PREFIX}{name.upper()}" for name in Settings.model_fields if name not in COMPOSED]
    example = ROOT / ".env.example"
    yield example, between_marks(example.read_text(encoding="utf-8"), "".join(f"# {name}=\n" for name in others))
    compose = ROOT / "docker-compose.yml"
    handed_on = "".join(f"    {name}:\n" for name in others)
    yield compose, between_marks(compose.read_text(encoding="utf-8"), handed_on)


def settings_page() -> str:
    """The page of all settings, a table for each section."""
    lines = [SETTINGS_INTRODUCTION]
    first_of = {first: title for title, first in SECTIONS.items()}
    for name, field in Settings.model_fields.items():
        if name in first_of:
            lines.append(f"\n## {first_of[name]}\n\n| setting | default | what it is |\n|---|---|---|")
        default = "–" if field.default in (None, ()) else f"`{field.default}`"
        lines.append(f"| `{PREFIX}{name.upper()}` | {default} | {field.description} |")
    return "\n".join(lines) + "\n"


def commands_page() -> str:
    """The page of all commands, as their own help has it."""
    command = typer.main.get_command(app)
    return get_docs_for_click(obj=command, ctx=typer.Context(command), name="tsal", title="Commands").rstrip() + "\n"


def between_marks(text: str, listed: str) -> str:
    """Put ``listed`` between the two lines of a file that mark where its list of settings begins and ends."""
    pattern = r"(?m)(^ *# settings: begin.*\n)(?:.*\n)*?(^ *# settings: end)"
    return re.sub(pattern, lambda match: match[1] + listed + match[2], text, count=1)


if __name__ == "__main__":
    sys.exit(main())
