"""Clips of lung-ultrasound phantoms and the table of their labels: for teams without data, for tests and for scale."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from ml_backend.errors import InvalidRequest
from ml_backend.phantom import echoes as phantom
from ml_backend.phantom.breathing import BreathingClip
from ml_backend.phantom.echoes import NOTHING
from ml_backend.phantom.motion import Labels

NAMES = ("a_line", "b_line", "pleural_lesion", "pleural_effusion")  # of the symptoms, in tables and file names
COLUMNS = ("file", "patient", "probe", "labelled", *NAMES)
FRAME_COLUMNS = ("file", "frame", "time", *NAMES)  # of `frames.csv`; `clips.csv` beside it has the first three above

HEALTHY: Labels = (1, 0, 0, 0)
# What each of twelve patients has: every symptom is in three or more of them, and in the first four.
FIRST_FOUR: tuple[Labels, ...] = (HEALTHY, (0, 1, 0, 0), (0, 1, 1, 0), (0, 0, 0, 1))
NEXT_EIGHT: tuple[Labels, ...] = (
    HEALTHY,
    HEALTHY,
    HEALTHY,
    (0, 1, 0, 0),
    (0, 1, 1, 0),
    (0, 0, 1, 0),
    (0, 0, 0, 1),
    (0, 1, 0, 1),
)
RARE: tuple[Labels, ...] = ((0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 1, 1), (0, 1, 1, 1))
# What may come into sight at the places of twelve breathing patients; A-lines wherever nothing covers them.
BREATHING: tuple[Labels, ...] = (
    HEALTHY,
    *3 * ((1, 1, 0, 0),),
    *2 * ((1, 0, 1, 0),),
    *2 * ((1, 0, 0, 1),),
    *2 * ((1, 1, 1, 0),),
    (1, 1, 0, 1),
    (1, 0, 1, 1),
)
# One frame of each symptom that shows it plainly, for the labelling configuration.
EXAMPLES: tuple[tuple[Labels, int], ...] = (
    ((1, 0, 0, 0), 22),
    ((0, 1, 0, 0), 21),
    ((0, 0, 1, 0), 56),
    ((0, 0, 0, 1), 21),
)


@dataclass(frozen=True)
class Plan:
    """One clip to draw: the name of its file, its patient and its symptoms."""

    file: str
    patient: str
    person: phantom.Patient
    labels: Labels
    seed: int

    def row(self) -> tuple[str | int, ...]:
        """The clip's row in `clips.csv`."""
        return (self.file, self.patient, self.person.probe.kind, 1, *self.labels)


def plan(patients: int, clips_per_patient: int, seed: int, breathing: bool = False) -> list[Plan]:
    """Choose the patients and what each of their clips shows, or may show if they are ``breathing``.

    A-line alone is the most frequent label combination. With 12 patients or more, each symptom is in 3 or more of them.
    A patient's first clip shows their condition; the others show it again, a healthy place, or something rarer. One
    patient in six is examined with a linear probe.
    """
    rng = np.random.default_rng([seed, 0])
    plans = []
    place = _breathing_place if breathing else _place
    conditions = _conditions(rng, (BREATHING,) if breathing else (FIRST_FOUR, NEXT_EIGHT))
    for number, condition in zip(range(patients), conditions, strict=False):
        person = phantom.patient(int(rng.integers(2**31)), linear=number % 6 == 4)
        for clip in range(clips_per_patient):
            labels = condition if clip == 0 else place(condition, rng)
            file = f"phantom_{number + 1:03d}_clip_{clip + 1:02d}.mp4"
            plans.append(Plan(file, f"phantom-{number + 1:03d}", person, labels, int(rng.integers(2**31))))
    return plans


def generate(
    folder: Path,
    patients: int = 12,
    clips_per_patient: int = 2,
    frames_per_clip: int = 30,
    seed: int = 0,
    size: phantom.Size = (400, 400),
    frames_per_second: int = 10,
    progress: bool = False,
    breathing: bool = False,
) -> Path:
    """Write `folder/clips/*.mp4` and `folder/clips.csv`; the same arguments give the same bytes.

    If ``breathing``, findings come and go within a clip (see `BreathingClip`): `clips.csv` says whose each clip is, and
    `frames.csv` what each frame shows, at its time in seconds. Returns the path of the table with the labels. ``size``
    is (height, width) in pixels, both even. Raises InvalidRequest for counts below 1, a size that cannot be encoded, or
    a folder whose tables list clips that are not phantoms.
    """
    _check(folder, patients, clips_per_patient, frames_per_clip, size, frames_per_second)
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    plans = plan(patients, clips_per_patient, seed, breathing)
    times = [index / frames_per_second for index in range(frames_per_clip)]
    labelled: list[tuple[object, ...]] = []
    for item in tqdm(plans, unit="clip", desc="phantom clips", disable=not progress):
        clip = (BreathingClip if breathing else phantom.Clip)(item.person, item.labels, item.seed)
        _write_video(folder / "clips" / item.file, (clip.frame(time, size) for time in times), size, frames_per_second)
        labelled += [(item.file, index, round(time, 3), *clip.labels_at(time)) for index, time in enumerate(times)]
    frames, table = folder / "frames.csv", folder / "clips.csv"
    if not breathing:
        frames.unlink(missing_ok=True)
        return _write_table(table, COLUMNS, [item.row() for item in plans])
    _write_table(table, COLUMNS[:3], [item.row()[:3] for item in plans])
    return _write_table(frames, FRAME_COLUMNS, labelled)


def write_examples(folder: Path) -> list[Path]:
    """Write one picture per symptom, named as the labelling configuration expects, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, (labels, seed) in zip(NAMES, EXAMPLES, strict=True):
        path = folder / f"{name}.png"
        Image.fromarray(phantom.frame(labels, seed, (320, 320))).save(path, optimize=True)
        paths.append(path)
    return paths


def _conditions(rng: np.random.Generator, decks: Sequence[Sequence[Labels]]) -> Iterator[Labels]:
    while True:
        for deck in decks:
            for index in rng.permutation(len(deck)):
                yield deck[index]


def _place(condition: Labels, rng: np.random.Generator) -> Labels:
    """Draw what another place on the same chest shows."""
    draw = rng.random()
    if condition == HEALTHY:
        return HEALTHY if draw < 0.92 else NOTHING
    if draw < 0.5:
        return condition
    if draw < 0.75:
        return HEALTHY
    return NOTHING if draw < 0.8 else RARE[rng.integers(len(RARE))]


def _breathing_place(condition: Labels, rng: np.random.Generator) -> Labels:
    draw = rng.random()
    return condition if draw < 0.75 else HEALTHY if draw < 0.85 else BREATHING[rng.integers(len(BREATHING))]


def _check(folder: Path, patients: int, clips: int, frames: int, size: phantom.Size, rate: int) -> None:
    if min(patients, clips, frames, rate) < 1:
        raise InvalidRequest("patients, clips, frames and the frame rate must be 1 or more")
    if min(size) < 64 or size[0] % 2 or size[1] % 2:
        raise InvalidRequest(f"a video cannot have {size[1]}×{size[0]} pixels; choose even numbers of 64 or more")
    for table in (folder / "clips.csv", folder / "frames.csv"):
        if not table.exists():
            continue
        with table.open(newline="", encoding="utf-8") as file:
            names = [row.get("file") or "" for row in csv.DictReader(file)]
        if foreign := [name for name in names if not name.startswith("phantom_")]:
            raise InvalidRequest(f"{table} lists clips that are not phantoms ({foreign[0]}); choose another folder")


def _write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([columns, *rows])
    return path


def _write_video(path: Path, frames: Iterable[NDArray[np.uint8]], size: phantom.Size, frames_per_second: int) -> None:
    # One thread, a fixed quantiser and no look-ahead; otherwise x264 writes different bytes in every run.
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=frames_per_second)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.options = {"qp": "20", "preset": "veryfast", "bf": "0", "threads": "1"}
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
