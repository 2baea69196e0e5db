"""Run the whole loop on this machine: Label Studio, Redis, backend, worker, sidecar, a project with frames."""

from __future__ import annotations

import argparse
from pathlib import Path

from ml_backend.commands.import_frames import seconds
from ml_backend.ingest.importer import EVERY
from ml_backend.launch import demo
from ml_backend.launch.options import Options


def main(arguments: list[str] | None = None) -> int:
    """Start everything, import frames and print where to go; stop everything with Ctrl-C."""
    demo.run(Options(**vars(_parser().parse_args(arguments))))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--clips", type=Path, metavar="DIR", help="folder of clips (default: phantom frames are made)")
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="table with file, patient and a column a symptom (a_line, b_line, …)",
    )
    parser.add_argument("--unattended", action="store_true", help="a simulated annotator answers from --labels")
    parser.add_argument("--rounds", type=int, default=3, help="batches the simulated annotator confirms (3)")
    parser.add_argument("--batch", type=int, default=20, help="annotations that start a fine-tune (20)")
    parser.add_argument("--report", type=Path, default=demo.REPORT, help="where the report of --unattended goes")
    parser.add_argument("--every", type=seconds, default=EVERY, metavar="SECONDS", help="time between frames (0.5)")
    parser.add_argument("--port", type=int, help="port of Label Studio (default: a free one)")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (0)")
    parser.add_argument("--folder", type=Path, help="where the demo keeps its files (default: a new one in runs)")
    return parser
