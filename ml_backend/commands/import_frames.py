"""Import frames of videos, stills and DICOM files into a Label Studio project.

    python -m ml_backend.commands.import_frames --project 1 CLIPS...

Every file is sampled by time, near-duplicates within it are dropped, what is left is written as PNG to a folder that
Label Studio serves, and becomes a task. The command can be run again, after new files came or after it was interrupted:
Label Studio's own list of tasks says what is there.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from ml_backend.errors import BackendError, FrameUnreadable, InvalidRequest, SettingsError
from ml_backend.ingest.files import ClipFrame, frames_of, kind_of
from ml_backend.ingest.origins import ClipFile, Origin, origin_of, read_patients
from ml_backend.settings import PREFIX, load
from ml_backend.studio.client import Studio
from ml_backend.studio.configuration import Configuration

EVERY = Fraction(1, 2)
DISTANCE = 16
PIECE = 500  # tasks that are sent to Label Studio at once

_HASH_SIDE = 16  # 16 x 16 = 256 bits: with 64, clips whose B-lines come and go count as one picture
_SERVED = "/data/local-files/"


@dataclass
class Report:
    """What an import did.

    ``files`` counts those read without fault; of the ``frames`` seen, some were ``already_there``, some were
    ``imported``, and the rest are near-duplicates. ``failed`` holds file and reason; ``patients`` is grouped by what
    they are known by (see `Origin`).
    """

    files: int = 0
    frames: int = 0
    already_there: int = 0
    imported: int = 0
    failed: list[tuple[Path, str]] = field(default_factory=list)
    patients: dict[str, set[str]] = field(default_factory=dict)

    @property
    def near_duplicates(self) -> int:
        """The number of frames dropped for being nearly the same as another of their clip."""
        return self.frames - self.already_there - self.imported

    def lines(self) -> Iterator[str]:
        """Yield the summary, a line each."""
        yield f"files read:              {self.files}"
        yield f"frames seen:             {self.frames}"
        yield f"near-duplicates dropped: {self.near_duplicates}"
        yield f"already there:           {self.already_there}"
        yield f"imported:                {self.imported}"
        yield f"files failed:            {len(self.failed)}"
        for known_by, patients in sorted(self.patients.items()):
            hint = " (every file taken for a patient of its own: see --patients)" if known_by == "file name" else ""
            yield f"patients known by {known_by}: {len(patients)}{hint}"


# Files


def find_files(paths: Sequence[Path], *, leave_out: Path | None = None) -> list[ClipFile]:
    """List the files that folders and files stand for, sorted by name, each once.

    A folder stands for every file below it that can be imported, hidden ones and those below ``leave_out`` excepted; a
    file stands for itself, whatever it is.

    Raises:
        InvalidRequest: where a path does not exist or nothing is found.
    """
    for path in paths:
        if not path.exists():
            raise InvalidRequest(f"{path}: no such file or folder")
    singles = [path.absolute() for path in paths if not path.is_dir()]
    root = Path(os.path.commonpath([path.parent for path in singles])) if singles else Path()
    found = [ClipFile(path, path.relative_to(root).as_posix()) for path in singles]
    for folder in (path.absolute() for path in paths if path.is_dir()):
        found += [ClipFile(path, path.relative_to(folder).as_posix()) for path in _below(folder, leave_out)]
    once = {file.path.resolve(): file for file in reversed(found)}
    if not once:
        raise InvalidRequest(f"nothing to import in {', '.join(map(str, paths))}: no video, picture or DICOM file")
    return sorted(once.values(), key=lambda file: (file.name, file.path))


def _below(folder: Path, leave_out: Path | None) -> Iterator[Path]:
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or path.name == "DICOMDIR" or not path.is_file():
            continue
        if leave_out is not None and path.resolve().is_relative_to(leave_out.resolve()):
            continue
        if _may_be_read(path):
            yield path


def _may_be_read(path: Path) -> bool:
    try:
        return kind_of(path) is not None
    except FrameUnreadable:
        return True  # a file that cannot even be opened is reported when its turn comes


# Frames


def distinct(frames: Iterable[ClipFrame], distance: int) -> Iterator[ClipFrame]:
    """Drop frames whose perceptual hash is within ``distance`` bits (of 256) of an earlier one of the same clip.

    0 drops frames with the same hash only; a negative distance keeps every frame.
    """
    kept: list[NDArray[np.bool_]] = []
    for frame in frames:
        if distance >= 0:
            bits: NDArray[np.bool_] = imagehash.phash(frame.picture, hash_size=_HASH_SIDE).hash.ravel()
            if kept and int((np.stack(kept) != bits).sum(axis=1).min()) <= distance:
                continue
            kept.append(bits)
        yield frame


def picture_name(picture: Image.Image) -> str:
    """Return the file name of a picture: a hash of its pixels, so that the same picture never lies there twice."""
    pixels = f"{picture.mode} {picture.width} {picture.height} ".encode() + picture.tobytes()
    return hashlib.sha256(pixels).hexdigest()[:32] + ".png"


def write_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture as PNG: aside first, then moved into place.

    PNG and not JPEG: the clips are compressed already, and a second lossy coding would change the speckle that people
    and network look at.

    Raises:
        BackendError: where it cannot be written.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        picture.save(aside, format="PNG", compress_level=1)
        aside.replace(path)
    except OSError as error:
        raise BackendError(f"{path}: {error.strerror or error}; make room, or choose another --frames") from error
    finally:
        aside.unlink(missing_ok=True)


def served_path(value: object) -> str | None:
    """Return the path below the document root that an image address of Label Studio's local files names."""
    if not isinstance(value, str):
        return None
    try:
        address = urlsplit(value)
    except ValueError:
        return None
    if address.path.rstrip("/") != _SERVED.rstrip("/"):
        return None
    place = parse_qs(address.query).get("d")
    return place[0].lstrip("/") if place else None


class Importer:
    """Imports files into one project.

    Args:
        frames: the folder that pictures are written to, below ``document_root``.
        document_root: the folder that Label Studio serves (its LOCAL_FILES_DOCUMENT_ROOT), under the same path there.
        data_dir: where this installation keeps the salt for DICOM patients.
        every: seconds between frames, 0 for all.
        distance: see `distinct`.
        patients: see `read_patients`.
        dry_run: read and count, but write no picture and send no task.

    Raises:
        InvalidRequest: where ``frames`` does not lie below ``document_root``.
    """

    def __init__(
        self,
        studio: Studio,
        project: int,
        *,
        frames: Path,
        document_root: Path,
        data_dir: Path,
        every: Fraction = EVERY,
        distance: int = DISTANCE,
        patients: Mapping[str, str] | None = None,
        dry_run: bool = False,
    ) -> None:
        self._studio = studio
        self._project = project
        self._frames = frames.resolve()
        self._document_root = document_root.resolve()
        if self._document_root not in self._frames.parents:
            raise InvalidRequest(
                f"{frames} is not a folder below {document_root}, the folder that Label Studio serves: "
                "choose another --frames or --document-root"
            )
        self._data_dir = data_dir
        self._every = every
        self._distance = distance
        self._patients = patients or {}
        self._dry_run = dry_run

    def run(self, paths: Sequence[Path]) -> Report:
        """Import files and folders; an unreadable file is told on standard error and costs only itself.

        Raises:
            InvalidRequest: where there is nothing to import.
            StudioUnavailable, StudioRefused, ConfigurationUnusable: from Label Studio; running again goes on.
        """
        files = find_files(paths, leave_out=self._frames)
        image_key = Configuration.parse(self._studio.project(self._project).label_config).image_key
        there = {served_path(task.data.get(image_key)) for task in self._studio.tasks(self._project)}
        if not self._dry_run:
            self._prepare_folder()
        report = Report()
        waiting: list[dict[str, object]] = []
        with tqdm(files, unit="file", disable=None) as bar:
            for file in bar:
                for task in self._tasks(file, image_key, there, report):
                    waiting.append(task)
                    if len(waiting) == PIECE:
                        self._send(waiting, report)
                bar.set_postfix(frames=report.frames, refresh=False)
        self._send(waiting, report)
        return report

    def _prepare_folder(self) -> None:
        try:
            self._frames.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidRequest(f"{self._frames}: {error.strerror}; choose another --frames") from error
        for storage in self._studio.local_storages(self._project):
            if self._frames.is_relative_to(storage.path):
                return
        self._studio.create_local_storage(self._project, str(self._frames), "Frames")

    def _tasks(
        self, file: ClipFile, image_key: str, there: set[str | None], report: Report
    ) -> Iterator[dict[str, object]]:
        """Yield the data of the tasks that a file is to become, their pictures written."""
        try:
            origin = origin_of(file, self._patients, self._data_dir)
            for frame in distinct(self._counted(file, report), self._distance):
                report.patients.setdefault(origin.known_by, set()).add(origin.patient)
                path = self._frames / picture_name(frame.picture)
                if not path.exists() and not self._dry_run:
                    write_picture(frame.picture, path)
                place = path.relative_to(self._document_root).as_posix()
                if place in there:
                    report.already_there += 1
                    continue
                there.add(place)
                yield _task(image_key, place, origin, frame)
            report.files += 1
        except FrameUnreadable as error:
            report.failed.append((file.path, str(error)))
            tqdm.write(f"{file.path}: {error}", file=sys.stderr)

    def _counted(self, file: ClipFile, report: Report) -> Iterator[ClipFrame]:
        for frame in frames_of(file.path, self._every):
            report.frames += 1
            yield frame

    def _send(self, waiting: list[dict[str, object]], report: Report) -> None:
        if waiting and not self._dry_run:
            self._studio.import_tasks(self._project, waiting)
        report.imported += len(waiting)
        waiting.clear()


def _task(image_key: str, place: str, origin: Origin, frame: ClipFrame) -> dict[str, object]:
    data: dict[str, object] = {
        "patient": origin.patient,
        "clip": origin.clip,
        "frame": frame.frame,
        "time": round(frame.time, 6),
    }
    if origin.source is not None:
        data["source"] = origin.source
    return {**data, image_key: f"{_SERVED}?d={quote(place)}"}


# The command


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
        "the folder the file lies in below the one given, else the file's name. Nothing that identifies a patient is "
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
        "--frames", type=Path, metavar="DIR", help="folder for the pictures, below --document-root (its folder frames)"
    )
    parser.add_argument(
        "--document-root",
        type=Path,
        metavar="DIR",
        help=f"folder that Label Studio serves as local files (default: {PREFIX}DOCUMENT_ROOT)",
    )
    parser.add_argument("--dry-run", action="store_true", help="read and count, but write and import nothing")
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
        patients=read_patients(options.patients) if options.patients else None,
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
    report = importer(options).run(options.paths)
    print("\n".join(["dry run: nothing was written", *report.lines()] if options.dry_run else report.lines()))
    return 1 if report.failed else 0
