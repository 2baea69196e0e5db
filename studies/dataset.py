"""Labelled clips as frames: pixels, labels, patients, clips and trunk activations, made once and mapped from disk."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import FrameUnreadable, InvalidRequest
from ml_backend.ingest.clip_table import ClipRow, ClipTable, column, read_clip_table
from ml_backend.ingest.files import frames_of
from ml_backend.msml import frames as msml_frames
from ml_backend.msml.network import Network
from ml_backend.store.files import write_aside
from ml_backend.store.quantised import CODEC, quantise, restore

SYMPTOMS = ("A-line", "B-line", "Pleural lesion", "Pleural effusion")
CHUNK = 64
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class ClipSet:
    """The frames of one set of labelled clips.

    ``pixels`` (n, 224, 224, 3) uint8; ``labels`` (n, l) uint8 with the ``symptoms`` that the set records, the healthy
    one first; ``patients``, ``clips`` and ``times`` (seconds) say where each of the n frames comes from.
    """

    name: str
    folder: Path
    every: Fraction
    symptoms: tuple[str, ...]
    pixels: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    patients: tuple[str, ...]
    clips: tuple[str, ...]
    times: tuple[float, ...]
    unreadable: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def clip_numbers(self) -> NDArray[np.intp]:
        """Which clip each frame belongs to, (n,), counted from 0."""
        numbers: NDArray[np.intp] = np.unique(np.array(self.clips), return_inverse=True)[1].astype(np.intp)
        return numbers


def load(folder: Path, every: Fraction, cache: Path, limit: int | None, report: Report) -> ClipSet:
    """Read the labelled clips of ``folder`` (`clips/` and `clips.csv`), one frame in ``every`` seconds (0: all).

    Where there is a `frames.csv` (columns file, time and one for each symptom), each frame has the labels of its line,
    and the clips it lists are the labelled ones. ``limit`` reads so many clips only, evenly chosen. A clip that cannot
    be read is left out and named. Pixels are kept below ``cache`` and read from there the next time.
    """
    table = read_clip_table(folder / "clips.csv", SYMPTOMS)
    by_frame = _FrameTable.read(folder / "frames.csv") if (folder / "frames.csv").exists() else None
    rows = [row for row in table.rows if row.labels is not None] if by_frame is None else by_frame.clips(table)
    if not rows:
        raise InvalidRequest(f"{folder / 'clips.csv'} has no labelled clip: write 1 in the column labelled")
    if limit is not None and limit < len(rows):
        rows = [rows[place] for place in np.linspace(0, len(rows) - 1, limit).round().astype(int)]
    listing = [] if by_frame is None else [by_frame.digest]
    key = _key(str(every), msml_frames.PREPROCESSING, *listing, *(row.file for row in rows))
    index, stored = cache / f"{folder.name}-{key}.json", cache / f"{folder.name}-{key}.npy"
    if not index.exists():
        _extract(folder, rows, every, index, stored, report)
    listed = json.loads(index.read_text(encoding="utf-8"))
    by_file = {row.file: row for row in rows}
    found = [by_file[file] for file, _ in listed["frames"]]
    return ClipSet(
        name=folder.name,
        folder=folder,
        every=every,
        symptoms=table.symptoms if by_frame is None else by_frame.symptoms,
        pixels=np.load(stored, mmap_mode="r"),
        labels=np.array(
            [row.labels for row in found] if by_frame is None else by_frame.labels(listed["frames"]), np.uint8
        ),
        patients=tuple(row.patient for row in found),
        clips=tuple(row.file for row in found),
        times=tuple(time for _, time in listed["frames"]),
        unreadable=tuple(listed["unreadable"]),
    )


@dataclass(frozen=True)
class _FrameTable:
    """What `frames.csv` says: the ``symptoms`` it records, and the labels of each frame by its clip and time."""

    path: Path
    symptoms: tuple[str, ...]
    rows: dict[tuple[str, float], tuple[int, ...]]
    digest: str

    @classmethod
    def read(cls, path: Path) -> _FrameTable:
        text = path.read_text(encoding="utf-8-sig")
        table = csv.DictReader(text.splitlines(), restval="")
        columns = table.fieldnames or ()
        symptoms = tuple(symptom for symptom in SYMPTOMS if column(symptom) in columns)
        if not (symptoms and {"file", "time"} <= set(columns)):
            raise InvalidRequest(f"{path} needs the columns file, time and one for each symptom")
        rows = {}
        for cells in table:
            try:
                frame = cells["file"], round(float(cells["time"]), 3)
                rows[frame] = tuple(("0", "1").index(cells[column(symptom)]) for symptom in symptoms)
            except ValueError as error:
                raise InvalidRequest(f"{path}, line {table.line_num}: time is in seconds, a label 0 or 1") from error
        return cls(path, symptoms, rows, _key(text))

    def clips(self, table: ClipTable) -> list[ClipRow]:
        files = {file for file, _ in self.rows}
        if unknown := sorted(files - table.patients.keys()):
            raise InvalidRequest(f"{self.path} lists {unknown[0]}, for which clips.csv has no patient")
        return [row for row in table.rows if row.file in files]

    def labels(self, frames: list[tuple[str, float]]) -> list[tuple[int, ...]]:
        for file, time in frames:
            if (file, time) not in self.rows:
                raise InvalidRequest(f"{self.path} has no line for {file} at {time} s")
        return [self.rows[file, time] for file, time in frames]


def _extract(folder: Path, rows: list[ClipRow], every: Fraction, index: Path, stored: Path, report: Report) -> None:
    pixels: list[NDArray[np.uint8]] = []
    frames: list[tuple[str, float]] = []
    unreadable: list[str] = []
    for done, row in enumerate(rows, 1):
        try:
            for frame in frames_of(folder / "clips" / row.file, every):
                content = io.BytesIO()
                frame.picture.save(content, "PNG", compress_level=1)
                pixels.append(msml_frames.decode(content.getvalue()))
                frames.append((row.file, round(frame.time, 3)))
        except FrameUnreadable as error:
            unreadable.append(f"{row.file}: {error}")
        report(f"{folder.name}: reading clips", done, len(rows))
    _save(stored, np.stack(pixels))
    write_aside(index, json.dumps({"frames": frames, "unreadable": unreadable}))


def activations(clips: ClipSet, network: Network, views: int, cache: Path, report: Report) -> NDArray[np.uint8]:
    """Trunk activations of every frame and its augmented views as the product's cache keeps them: (n, views, bytes).

    View 0 is the frame itself. Mapped from a file below ``cache``, which is written when it is not there.
    """
    stored = _place(clips, network, cache, CODEC, str(views))
    if not stored.exists():
        pieces = []
        for start in range(0, len(clips), CHUNK):
            rows = range(start, min(start + CHUNK, len(clips)))
            pixels = np.concatenate(
                [
                    msml_frames.views(clips.pixels[row], views, hashlib.sha256(clips.pixels[row]).digest())
                    for row in rows
                ]
            )
            pieces.append(quantise(network.activations(pixels)).reshape(len(rows), views, -1))
            report(f"{clips.name}: first pass of {network.backbone.name}", rows[-1] + 1, len(clips))
        _save(stored, np.concatenate(pieces))
    records: NDArray[np.uint8] = np.load(stored, mmap_mode="r")
    return records


def levels(clips: ClipSet, network: Network, cache: Path, report: Report) -> NDArray[np.float16]:
    """What the trunk finds in every frame at several depths, (n, d): `Network.levels`. Kept as `activations` are."""
    stored = _place(clips, network, cache, "levels")
    if not stored.exists():
        pieces = []
        for start in range(0, len(clips), CHUNK):
            pieces.append(network.levels(np.array(clips.pixels[start : start + CHUNK])))
            report(f"{clips.name}: levels of {network.backbone.name}", min(start + CHUNK, len(clips)), len(clips))
        _save(stored, np.concatenate(pieces))
    found: NDArray[np.float16] = np.load(stored, mmap_mode="r")
    return found


def _place(clips: ClipSet, network: Network, cache: Path, *what: str) -> Path:
    # A few frames tell this set from another one drawn or copied to the same place.
    some = hashlib.sha256(clips.pixels[:: max(1, len(clips) // CHUNK)].tobytes()).hexdigest()
    key = _key(network.trunk_key, network.trunk_precision, *what, clips.name, str(clips.every), some, *clips.clips)
    return cache / f"{clips.name}-{network.backbone.name}-{key}.npy"


def restored(records: NDArray[np.uint8], network: Network) -> NDArray[np.float32]:
    """The activations (n, c, h, w) that records (n, bytes) hold."""
    return restore(list(records), network.activation_shape)


def _save(path: Path, array: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".partial")
    with aside.open("wb") as file:
        np.save(file, array, allow_pickle=False)
    aside.replace(path)


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
