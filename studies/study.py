"""The paper's study on labelled clips: simulated annotation with the product's own code, a report, every number kept.

Each data set is a folder with `clips/` and `clips.csv` (columns file, patient, labelled and one per symptom).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime, timezone
from fractions import Fraction
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ml_backend.errors import SettingsError
from ml_backend.msml.backbones import RANDOM
from ml_backend.progress import Progress
from ml_backend.store.files import write_aside
from studies import figures, new_patients, pool, pool_figures, pool_summary, report, summary
from studies.plan import COMPARED, KINDS, POOL, PRESETS, PROTOCOLS, STRATEGIES, TEST_SHARE, Part, Preset, only, parts
from studies.work import Bench, Setting, do_all

NOT_RUN = (
    "its ImageNet weights were not asked for: with internet, or with the files already downloaded, run with --compare "
    "ImageNet; --compare random runs it with random weights and says so"
)
PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "matplotlib", "grad-cam")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study, or what of it is not done yet, and write report.html, study.json and figures."""
    options = _parser().parse_args(arguments)
    started = time.monotonic()
    preset = _preset(options)
    setting = Setting(preset, options.output, options.backbone, options.weights)
    folders = _folders(options.data)
    compared, not_run = _compared(options.compare)
    benches = [_prepared(setting, folder) for folder in folders.values()]
    todo: list[Part] = []
    for name in folders:
        todo += only(parts(preset, name, compared), options.protocol, options.strategy, options.kind)
    if not todo:
        raise SettingsError("no part of the study has this protocol, this strategy and this kind")
    with tqdm(total=len(todo), unit="part", disable=None) as bar:

        def done(part: Part) -> None:
            bar.set_postfix_str(f"{part.data} {part.protocol} {part.what} {part.seed}")
            bar.update()

        results = do_all(setting, folders, todo, options.workers, done)
    collected = summary.collect(todo, results)
    rows, pooled = summary.summary(collected), pool_summary.summary(collected["pool"])
    content = {
        "format": 1,
        "created_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - started, 1),
        "seconds_of_parts": round(sum(result["seconds"] for result in results), 1),
        "command": shlex.join(["python", "scripts/study.py", *sys.argv[1:]]),
        "preset": preset.name,
        "settings": _settings(setting),
        "versions": {"python": platform.python_version(), **{name: installed(name) for name in PACKAGES}},
        "machine": {"processor": platform.processor(), "cores": os.cpu_count(), "platform": platform.platform()},
        "data": [_described(bench, preset) for bench in benches],
        "not_run": not_run,
        "decisions": summary.decisions(collected, rows),
        "targets": pool_summary.targets(pooled) + summary.targets(collected),
        "summary": pooled + rows,
        "new_patients_summary": new_patients.summary(collected["new_patients"]),
    }
    for run_ in collected["runs"]:
        run_ |= {"backbone": setting.backbone, "weights": options.weights or "ImageNet"}
    for row in collected["full"]:
        row |= {"backbone": setting.backbone, "weights": options.weights or "ImageNet"}
    content |= collected
    write_aside(options.output / "study.json", json.dumps(content, indent=1, default=float))
    figures.write(content, options.output)
    pool_figures.write(content, options.output)
    print(f"report: {report.write(content, options.output)}")
    return 0


def _preset(options: argparse.Namespace) -> Preset:
    preset = PRESETS["quick" if options.quick else options.preset]
    if options.every is not None:
        preset = replace(preset, every=options.every)
    if options.budget is not None:
        preset = replace(preset, budget=options.budget)
    if options.seeds:
        sides = options.seeds[: len(preset.side_seeds)]
        preset = replace(preset, seeds=options.seeds, side_seeds=sides, split_seeds=options.seeds)
    return preset


def _seeds(text: str) -> tuple[int, ...]:
    """Read `10-14` or `0,3,5-7`."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return tuple(found)


def _folders(given: Sequence[Path]) -> dict[str, Path]:
    folders = {folder.resolve().name: folder.resolve() for folder in given}
    if len(folders) < len(given):
        raise SettingsError("two of the data folders have the same name: rename one")
    for folder in folders.values():
        if not (folder / "clips.csv").is_file():
            raise SettingsError(f"{folder} has no clips.csv: name folders with clips/ and clips.csv")
    return folders


def _compared(wanted: str) -> tuple[tuple[tuple[str, str | None], ...], list[dict[str, str]]]:
    """The comparison networks to run, with their weights, and why the others are not."""
    scratch: tuple[tuple[str, str | None], ...] = (("NNBD-style", None),)
    if wanted == "scratch":
        return scratch, [{"method": name, "reason": NOT_RUN} for name in COMPARED if name != "NNBD-style"]
    weights = RANDOM if wanted == RANDOM else None
    return tuple((name, None if name == "NNBD-style" else weights) for name in COMPARED), []


def _prepared(setting: Setting, folder: Path) -> Bench:
    """Read the clips and run the first pass, so that the workers only map files."""
    with Progress(folder.name, "frame") as progress:
        return Bench(setting, folder, lambda stage, done, total: progress.at(done, total, stage))


def _described(bench: Bench, preset: Preset) -> dict[str, Any]:
    clips = bench.clips
    return {
        "name": clips.name,
        "clips": len(set(clips.clips)),
        "patients": len(set(clips.patients)),
        "frames": len(clips),
        "symptoms": list(clips.symptoms),
        "positives": dict(zip(clips.symptoms, clips.labels.sum(axis=0).tolist(), strict=True)),
        "every_seconds": float(clips.every),
        "k_max": preset.batch(round((1 - TEST_SHARE) * len(clips))),
        "rounds": preset.rounds,
        "unreadable": list(clips.unreadable),
    }


def _settings(setting: Setting) -> dict[str, Any]:
    preset = {name: str(value) for name, value in asdict(setting.preset).items() if name != "name"}
    return preset | {
        "precision": setting.precision,
        "backbone": setting.backbone,
        "weights": setting.weights or "ImageNet",
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path, metavar="DIR", help="folder with clips/ and clips.csv")
    parser.add_argument("--output", type=Path, default=Path("runs/study"), metavar="DIR", help="(runs/study)")
    parser.add_argument(
        "--preset",
        choices=["default", "paper"],
        default="default",
        help="default: 1.4%% of the pool a batch, 5 seeds; paper: more frames, batches of 100, 3 seeds (hours)",
    )
    parser.add_argument("--quick", action="store_true", help="a few clips and rounds: shows that it runs, no more")
    parser.add_argument(
        "--protocol", nargs="+", choices=[*PROTOCOLS, POOL], default=[], help="only the parts of these protocols"
    )
    parser.add_argument(
        "--strategy",
        nargs="+",
        choices=list(dict.fromkeys([*STRATEGIES, *pool.STRATEGIES])),
        default=[],
        help="only the runs of these strategies",
    )
    parser.add_argument("--kind", nargs="+", choices=KINDS, default=[], help="only the parts of these kinds")
    parser.add_argument("--seeds", type=_seeds, default=(), metavar="10-14", help="these seeds instead of the preset's")
    parser.add_argument("--budget", type=float, metavar="SHARE", help="of the pool that may be answered in `pool`")
    parser.add_argument("--every", type=Fraction, metavar="SECONDS", help="between frames, like 1/7; 0: all frames")
    parser.add_argument("--backbone", default="efficientnet_lite0", help="(efficientnet_lite0)")
    parser.add_argument("--weights", default=None, help="file with its ImageNet weights, or random")
    parser.add_argument(
        "--compare",
        choices=["scratch", "ImageNet", RANDOM],
        default="scratch",
        help="networks of the paper's table I: those that learn from scratch, all with ImageNet weights (downloaded), "
        "or all with random weights",
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (one per core)")
    return parser
