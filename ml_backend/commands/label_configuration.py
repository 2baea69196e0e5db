"""Print the labelling configuration, with a team's example pictures inside."""

from __future__ import annotations

import argparse
from pathlib import Path

from ml_backend.setup.label_configuration import EXAMPLES, render


def main(arguments: list[str] | None = None) -> int:
    """Print the labelling configuration with the example pictures inside, to paste into a Label Studio project."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--examples", type=Path, default=EXAMPLES, metavar="DIR", help="your own example pictures")
    parser.add_argument("--symptom", action="append", help="a choice to keep; may be repeated (default: all)")
    options = parser.parse_args(arguments)
    print(render(options.examples, options.symptom))
    return 0
