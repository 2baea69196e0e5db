"""Import a folder of clips into a real Label Studio, against ffmpeg, which only decodes and writes the pictures."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import workload
from benchmarks.report import Report
from ml_backend.ingest.files import VIDEO_SUFFIXES
from ml_backend.ingest.importer import EVERY, Importer
from ml_backend.ingest.served import Folder
from ml_backend.phantom.clips import generate
from ml_backend.services import Services
from ml_backend.setup.label_configuration import render

SHARED = workload.ROOT.parent / "shared" / "data"
JOINED = 25  # short clips in a long one


def importing(report: Report, quick: bool, folder: Path) -> None:
    """Both read the same clips, take a frame every half second, and write PNG with the same effort, in turns."""
    program = shutil.which("ffmpeg")
    if program is None:
        print("  skipped: the program ffmpeg is not installed")
        return
    short = _clips(folder / "short", 4 if quick else 100)
    pools = {"short": short, "long": _joined(program, short, folder / "long")}
    with workload.running_studio(folder, document_root=folder / "files") as services:
        for name, clips in pools.items():
            ours, theirs = [], []
            for number in range(1 if quick else 3):
                out = f"{name}-{number}"
                theirs.append(_ffmpeg(program, clips, folder / out))
                ours.append(_import(services, clips, folder / "files" / out))
            what = f"{len(clips)} {name} clips"
            report.row(f"ffmpeg, {what}", "s", theirs)
            report.row(f"tsal import, {what}, tasks in Label Studio included", "s", ours)
            ratios = [other / one for one, other in zip(ours, theirs, strict=True)]
            ratio = report.row(f"speed of the import against ffmpeg's, {name} clips, pair by pair", "", ratios)
            report.bar(f"speed of the import against ffmpeg's, {name} clips", ratio, 0.8, at_least=True)


def _clips(folder: Path, count: int) -> list[Path]:
    """Fill a folder with links to real clips where they are there, else with drawn ones. Return their paths."""
    real = sorted(path for path in SHARED.glob("*/clips/*") if path.suffix in VIDEO_SUFFIXES)
    (folder / "clips").mkdir(parents=True)
    for number, path in enumerate(real[:: max(1, len(real) // count)][:count]):
        (folder / "clips" / f"{number:03d}{path.suffix}").symlink_to(path)
    if not real:
        generate(folder, count // 4, 2, 75, size=workload.SIZE, frames_per_second=25)
    return sorted((folder / "clips").iterdir())


def _joined(program: str, clips: Sequence[Path], folder: Path) -> list[Path]:
    """Join short clips to long ones of 800 x 600 pixels."""
    folder.mkdir()
    made = []
    for first in range(0, len(clips), JOINED):
        some = clips[first : first + JOINED]
        made.append(folder / f"{first:03d}.mp4")
        inputs = [argument for clip in some for argument in ("-i", str(clip))]
        scaled = "".join(f"[{i}:v]fps=25,scale=800:600,setsar=1[v{i}];" for i in range(len(some)))
        joined = "".join(f"[v{i}]" for i in range(len(some))) + f"concat=n={len(some)}[out]"
        _run([program, *inputs, "-filter_complex", scaled + joined, "-map", "[out]", str(made[-1])])
    return made


def _ffmpeg(program: str, clips: Sequence[Path], out: Path) -> float:
    """Write the pictures of each clip with ffmpeg alone. Return the seconds that it took."""
    out.mkdir()
    started = time.perf_counter()
    for clip in clips:
        pictures = out / f"{clip.stem}-%d.png"
        _run([program, "-i", str(clip), "-vf", f"fps={1 / EVERY}", "-compression_level", "1", str(pictures)])
    return time.perf_counter() - started


def _run(command: list[str]) -> None:
    subprocess.run([command[0], "-v", "error", "-nostdin", *command[1:]], check=True)  # noqa: S603


def _import(services: Services, clips: Sequence[Path], frames: Path) -> float:
    """Import into a new project. Return the seconds that it took."""
    project = services.studio.create_project(frames.name, render())
    importer = Importer(services.studio, project, Folder(frames, frames.parent), services.settings.data_dir)
    started = time.perf_counter()
    report = importer.run(clips)
    seconds = time.perf_counter() - started
    assert report.files == len(clips)
    assert not report.failed
    return seconds
