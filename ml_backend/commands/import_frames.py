"""Import frames of videos, stills and DICOM files into a Label Studio project."""

from __future__ import annotations

import argparse
import re
import warnings
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from ml_backend.errors import SettingsError
from ml_backend.ingest.clip_table import read_clip_table
from ml_backend.ingest.duplicates import DISTANCE
from ml_backend.ingest.importer import EVERY, Importer
from ml_backend.settings import PREFIX, load
from ml_backend.studio.client import Studio
from ml_backend.studio.keys import DataKeys


def seconds(text: str) -> Fraction:
    """Read a time such as ``0.5`` or ``0.5s``."""
    if not re.fullmatch(r"\d+(\.\d+)?s?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time: write seconds, such as 0.5 or 0.5s")
    return Fraction(text.removesuffix("s"))


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(
        prog="import_frames",
        description="Import frames of videos (mp4, avi, mov, mpeg, gif), pictures (jpg, png) and DICOM files into a "
        "Label Studio project. Safe to run again: what is there is not imported twice.",
        epilog="The patient of a file is the one in --patients, else a keyed hash of the DICOM header's patient, else "
        "the first folder below the imported one (see --patient-level). In a folder without folders every file is a "
        "patient of its own. Nothing that identifies a patient is "
        "taken from DICOM headers, file names included; what is burnt into the pixels stays in the pictures, and "
        "removing it beforehand is up to you. Names of other files and their folders stand in the tasks as they are. "
        f"Label Studio's token comes from {PREFIX}LABEL_STUDIO_TOKEN. Ends with 1 if a file could not be read or was "
        "damaged (the others are imported), with 2 if called wrongly, with 4 or 5 if Label Studio does not answer or "
        "refuses.",
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="files, or folders with all below them")
    parser.add_argument(
        "--project", type=int, required=True, metavar="ID", help="number of the project in Label Studio"
    )
    parser.add_argument("--url", help=f"address of Label Studio (default: {PREFIX}LABEL_STUDIO_URL)")
    parser.add_argument(
        "--every", type=seconds, default=EVERY, metavar="SECONDS", help="time between frames, 0: every frame (0.5)"
    )
    parser.add_argument(
        "--distance",
        type=int,
        default=DISTANCE,
        metavar="BITS",
        help=f"drop a frame whose perceptual hash differs from an earlier one of its clip in so many of 256 bits or "
        f"fewer; 0: only the same hash, negative: keep all ({DISTANCE}: no difference to be seen in a labelled clip)",
    )
    parser.add_argument("--keep-duplicates", action="store_true", help="keep all frames, like --distance -1")
    parser.add_argument("--patients", type=Path, metavar="CSV", help="table with the columns file and patient")
    parser.add_argument(
        "--patient-level",
        type=int,
        metavar="N",
        help="which folder names the patient: 1 (default) the first below the imported one, 2 the second, and so on; "
        "0 the imported folder itself",
    )
    parser.add_argument(
        "--keep-patients",
        action="store_true",
        help="clips that are in the project under another patient keep it (default: the import is refused)",
    )
    parser.add_argument(
        "--frames", type=Path, metavar="DIR", help="folder for the pictures, below --document-root (its folder frames)"
    )
    parser.add_argument(
        "--document-root",
        type=Path,
        metavar="DIR",
        help=f"folder that Label Studio serves as local files (default: {PREFIX}DOCUMENT_ROOT)",
    )
    parser.add_argument("--dry-run", action="store_true", help="list patients and clips, but write and import nothing")
    return parser


def importer(options: argparse.Namespace) -> Importer:
    """Return the importer that a command line asks for.

    Raises:
        SettingsError, InvalidRequest: naming what is missing.
    """
    given = {"label_studio_url": options.url, "document_root": options.document_root}
    settings = load(**{name: value for name, value in given.items() if value is not None})
    if settings.document_root is None:
        raise SettingsError(
            f"set {PREFIX}DOCUMENT_ROOT or --document-root to the folder that Label Studio serves "
            "(its LOCAL_FILES_DOCUMENT_ROOT)"
        )
    return Importer(
        Studio(settings.label_studio_url, settings.token()),
        options.project,
        frames=options.frames or settings.document_root / "frames",
        document_root=settings.document_root,
        data_dir=settings.data_dir,
        every=options.every,
        distance=-1 if options.keep_duplicates else options.distance,
        patients=read_clip_table(options.patients).patients if options.patients else None,
        patient_level=options.patient_level,
        keep_patients=options.keep_patients,
        keys=DataKeys.of(settings),
        dry_run=options.dry_run,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 1 where a file failed.

    Raises:
        BackendError: with an exit code of its own, for what ends the whole import.
    """
    options = parser().parse_args(arguments)
    # pydicom quotes header values in its warnings, and a header holds names.
    warnings.filterwarnings("ignore", module="pydicom")
    chosen = importer(options)
    plan = chosen.plan(options.paths)
    if options.dry_run:
        print("\n".join(["dry run: nothing is written", *plan.lines()]), flush=True)
    report = chosen.carry_out(plan)
    print("\n".join(report.lines()))
    return 1 if report.failed else 0
