"""How the cost of each step grows with the frames of a project: import, first pass, refresh, fine-tune."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from unittest.mock import patch

import av
import numpy as np
from numpy.typing import NDArray

from benchmarks.growth_studio import GrowthStudio
from benchmarks.memory_refresh import compute
from benchmarks.offline import offline_settings
from benchmarks.report import Report
from ml_backend.ingest.importer import Importer
from ml_backend.ingest.origins import Rule
from ml_backend.ingest.served import Folder
from ml_backend.loop import score as scoring
from ml_backend.loop import train as training
from ml_backend.msml import backbones
from ml_backend.msml.network import Network
from ml_backend.services import Services

PROJECT, CLIP, CLIPS_A_PATIENT = 1, 50, 4
SIDE, BLOCK = 64, 8
REMEMBERED = 500
RATE = 2  # frames a second: the import takes each
MAPS = 64
STEPS = {
    "import": "pictures of 64 x 64 pixels, Label Studio answers at once",
    "first pass": "pictures of 64 x 64 pixels, the trunk's work left out",
    "refresh": f"our own work, {REMEMBERED} answers remembered",
    "fine-tune": "every frame answered, one epoch, EfficientNet-Lite0",
}


def growth(report: Report, quick: bool, folder: Path) -> None:
    """Each step on three sizes of a project, and the exponent that they follow."""
    sizes = (200, 400) if quick else (1000, 10_000, 100_000)
    seconds: dict[str, list[float]] = {name: [] for name in STEPS}
    for frames in sizes:
        for name, took in _measured(folder / str(frames), frames).items():
            seconds[name].append(report.row(f"{name} of {frames:,} frames", "s", [took], STEPS[name]))
    for name, values in seconds.items():
        found = exponent(sizes, values)
        report.bar(f"{name}, 1,000 to 100,000 frames: exponent of the growth", found, 1.05, at_least=False)


def exponent(sizes: tuple[int, ...], seconds: list[float]) -> float:
    """The slope of log seconds on log frames, by least squares."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def _measured(folder: Path, frames: int) -> dict[str, float]:
    """The seconds of each step on a project of its own."""
    clips = _clips(folder / "clips", frames)
    settings = offline_settings(folder, views=1, epochs=1, minimum_steps=0)
    services, studio = Services(settings), GrowthStudio()
    services.studio = studio  # type: ignore[assignment]
    (folder / "files").mkdir()
    storage = Folder(folder / "files" / "frames", folder / "files")
    importer = Importer(services.studio, PROJECT, storage, settings.data_dir, Fraction(1, RATE), rule=Rule(clips))

    def first_pass() -> None:
        configuration = services.configuration(studio.project(PROJECT).label_config)
        pool = [services.frame(task.id, task.data, configuration) for task in studio.tasks(PROJECT)]
        scoring.embed(services, PROJECT, pool, len(configuration.label_names), _silent)

    found = {"import": _seconds(lambda: importer.run([folder / "clips"]))}
    assert studio.counts(PROJECT).tasks == frames
    services.predictor.network(1)
    with _no_trunk():
        found["first pass"] = _seconds(first_pass)
    studio.answered = REMEMBERED
    found["refresh"] = _seconds(lambda: compute(services, PROJECT))
    studio.answered = frames
    found["fine-tune"] = _seconds(lambda: training.fine_tune(services, PROJECT, _silent))
    return found


def _clips(folder: Path, frames: int) -> Mapping[str, str]:
    """Videos of coloured noise, no two frames of which are alike; returns the patient of each."""
    folder.mkdir(parents=True)
    rng, patients = np.random.default_rng(0), {}
    for number in range(frames // CLIP):
        path = folder / f"{number:05d}.mp4"
        patients[path.name] = f"patient {number // CLIPS_A_PATIENT}"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=RATE)
            stream.width = stream.height = SIDE
            stream.pix_fmt = "yuv420p"
            for _ in range(CLIP):
                blocks = rng.integers(0, 256, (SIDE // BLOCK, SIDE // BLOCK, 3), np.uint8)
                picture = blocks.repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
    return patients


@contextmanager
def _no_trunk() -> Iterator[None]:
    """Let the trunk return a prepared map at once, so that all but its work is measured."""
    shape = backbones.BACKBONES["efficientnet_lite0"].boundary
    maps = np.random.default_rng(0).standard_normal((MAPS, *shape), np.float32)

    def activations(self: Network, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = maps[pixels.reshape(len(pixels), -1).sum(axis=1) % MAPS]
        return found

    with patch.object(Network, "activations", activations):
        yield


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _silent(stage: str, done: int, total: int) -> None:
    return None
