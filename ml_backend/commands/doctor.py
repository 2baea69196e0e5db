"""Say what is right with this installation, and what to change."""

from __future__ import annotations

import argparse

from ml_backend.setup.doctor import examine


def main(arguments: list[str] | None = None) -> int:
    """Check settings, machine, Label Studio and the connected projects; exit code 0 where nothing has to be changed."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--project", type=int, metavar="ID", help="only this project (default: every connected one)")
    return 0 if examine(lambda line: print(line, flush=True), parser.parse_args(arguments).project) else 1
