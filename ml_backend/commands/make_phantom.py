"""Write clips of lung-ultrasound phantoms, and the table of their labels."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ml_backend.errors import BackendError
from ml_backend.phantom.clips import generate, write_examples


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make_phantom.py",
        description="Write lung-ultrasound phantoms: OUT/clips/*.mp4 and OUT/clips.csv with their exact labels.",
        epilog="The same seed and numbers give the same files. Example: make_phantom.py runs/phantom --patients 12",
    )
    parser.add_argument("out", metavar="OUT", type=Path, nargs="?", help="folder to write the clips and their table to")
    parser.add_argument("--patients", type=int, default=12, help="people to examine (default: %(default)s)")
    parser.add_argument("--clips", type=int, default=2, help="clips of each person (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=30, help="frames in each clip (default: %(default)s)")
    parser.add_argument("--rate", type=int, default=10, help="frames a second (default: %(default)s)")
    parser.add_argument("--size", type=int, default=400, help="height and width in pixels, even (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=7, help="seed of everything drawn at random (default: %(default)s)")
    parser.add_argument(
        "--examples", metavar="DIR", type=Path, help="also write the labelling configuration's example pictures to DIR"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.out is None and options.examples is None:
        parser.error("name a folder to write to, OUT or --examples DIR")
    try:
        if options.examples is not None:
            for path in write_examples(options.examples):
                print(path)
        if options.out is not None:
            size = (options.size, options.size)
            print(
                generate(
                    options.out, options.patients, options.clips, options.frames, options.seed, size, options.rate, True
                )
            )
    except BackendError as error:
        print(f"make_phantom.py: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
