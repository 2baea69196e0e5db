"""What helps on patients that nobody has labelled: ways to learn, compared on the same splits by patient.

python -m studies.new_patients DIR --every 1/4 --seeds 8 9 10 11 12 13
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from ml_backend.commands.command import run
from ml_backend.progress import Progress
from ml_backend.store.files import write_aside
from ml_backend.tsal.round import Rows
from studies.calibration import expected_calibration_error
from studies.dataset import ClipSet
from studies.figures import Row, half_width, mean_and_deviation
from studies.plan import PRESETS, split
from studies.simulation import Learner, Material, Way, figures, macro_area
from studies.work import Bench, Setting

WAYS: Mapping[str, Way] = {
    "10 epochs, as release 0.1.0": Way(epochs=10),
    "one epoch, 100 updates or more": Way(epochs=1),
}
"""Every way is compared with the first."""
MEASURES = ("auc", "auc_clips", "exact", "calibration_error", "sensitivity")
SPECIFICITY = 0.9
_STREAM = 7  # of the generator of a seed: in which order the frames of the pool are answered


def new_patients(
    material: Material,
    seeds: Sequence[int],
    batch: int,
    answers: int,
    ways: Mapping[str, Way] = WAYS,
    report: Callable[[str, int, int], None] = lambda *_: None,
) -> list[dict[str, Any]]:
    """Learn ``answers`` random frames of the pool in batches, and judge on the test patients: a row a seed and way.

    Each batch is followed by a fine-tune on everything answered, as in the product. The rows hold the macro area under
    the curve by frame (``auc``) and by clip (``auc_clips``), the share of frames with all labels right (``exact``), and
    ``calibration_error`` and ``sensitivity`` at 90% specificity, both the mean of the symptoms that have both kinds.
    """
    rows = []
    cases = [(seed, name) for seed in seeds for name in ways]
    for done, (seed, name) in enumerate(cases, 1):
        pool, test = split(material.clips, "patients", seed)
        order = np.random.default_rng([seed, _STREAM]).permutation(pool)[:answers]
        started = time.monotonic()
        learner = _learnt(material, ways[name], seed, order, batch)
        seconds = round(time.monotonic() - started, 1)
        judged = judge(material.clips, test, learner.probabilities(test))
        named = {"data": material.clips.name, "seed": seed, "way": name, "answers": len(order), "seconds": seconds}
        rows.append(named | judged)
        report(f"{material.clips.name}: learning", done, len(cases))
    return rows


def _learnt(material: Material, way: Way, seed: int, order: Rows, batch: int) -> Learner:
    learner = Learner(material, way, seed)
    for end in range(batch, len(order) + batch, batch):
        learner.learn(np.sort(order[:end]), np.sort(order[end - batch : end]), audited=order[:0])
    return learner


def judge(clips: ClipSet, rows: Rows, probabilities: NDArray[np.float32]) -> dict[str, Any]:
    """Measure probabilities (len(rows), l) by frame and by clip; areas and sensitivity are None without both kinds.

    A clip has the mean probability of its frames, and a symptom that any of them shows.
    """
    truth = clips.labels[rows]
    numbers, of_frame = np.unique(clips.clip_numbers[rows], return_inverse=True)
    of_clip = [of_frame == number for number in range(len(numbers))]
    mean = np.array([probabilities[frames].mean(axis=0) for frames in of_clip])
    shown = np.array([truth[frames].max(axis=0) for frames in of_clip])
    found = figures(clips, rows, probabilities)
    errors = [expected_calibration_error(probabilities[:, one], truth[:, one]) for one in range(truth.shape[1])]
    sensitivities = {
        f"sensitivity {symptom}": sensitivity(probabilities[:, one], truth[:, one])
        for one, symptom in enumerate(clips.symptoms)
        if 0 < truth[:, one].sum() < len(truth)
    }
    return sensitivities | {
        "auc": found["auc"],
        "auc_clips": macro_area(shown, mean),
        "exact": found["exact"],
        "calibration_error": _mean(errors),
        "sensitivity": _mean(sensitivities.values()),
    }


def sensitivity(probabilities: NDArray[np.floating[Any]], truth: NDArray[np.integer[Any]]) -> float:
    """The largest share of the true frames (n,) that a threshold finds which is right on 90% of the others.

    >>> sensitivity(np.array([0.9, 0.6, 0.7] + 9 * [0.1]), np.array([1, 1, 0] + 9 * [0]))
    1.0
    """
    wrong, found, _ = roc_curve(truth, probabilities)
    return float(found[wrong <= 1 - SPECIFICITY + 1e-9].max())


def summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The mean of each measure over the seeds, for each data set and way.

    ``against``: for each measure, the mean difference from the first way on the same splits, and its 95% interval
    (Student's t; None with fewer than two seeds).
    """
    found = []
    for data in dict.fromkeys(row["data"] for row in rows):
        here = [row for row in rows if row["data"] == data]
        ways = list(dict.fromkeys(row["way"] for row in here))
        for way in ways:
            own, first = ([row for row in here if row["way"] == name] for name in (way, ways[0]))
            found.append(
                {"data": data, "way": way, "seeds": len(own)}
                | {name: _mean(row[name] for row in own) for name in MEASURES}
                | {"against": {name: _difference(own, first, name) for name in MEASURES}}
            )
    return found


def _difference(own: Sequence[Row], first: Sequence[Row], measure: str) -> tuple[float, float, float] | None:
    before = {row["seed"]: row[measure] for row in first}
    apart = [row[measure] - before[row["seed"]] for row in own if None not in (row[measure], before[row["seed"]])]
    half = half_width(apart)
    return None if half is None else (fmean(apart), fmean(apart) - half, fmean(apart) + half)


def _mean(values: Iterable[float | None]) -> float | None:
    return mean_and_deviation(values)[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure on labelled clips, print a line a way, and write new-patients-NAME.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path, metavar="DIR", help="folder with clips/ and clips.csv")
    parser.add_argument("--every", type=Fraction, default=Fraction(1, 4), metavar="SECONDS", help="(1/4)")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(8, 14)), metavar="N", help="(8 to 13)")
    parser.add_argument("--batch", type=int, default=100, metavar="N", help="answers between two fine-tunes (100)")
    parser.add_argument("--answers", type=int, default=1000, metavar="N", help="answers in all, at most (1000)")
    parser.add_argument("--output", type=Path, default=Path("runs/study"), metavar="DIR", help="(runs/study)")
    parser.add_argument("--backbone", default="efficientnet_lite0", help="(efficientnet_lite0)")
    parser.add_argument("--weights", default=None, help="file with its ImageNet weights, or random")
    options = parser.parse_args(arguments)
    preset = replace(PRESETS["default"], every=options.every)
    setting = Setting(preset, options.output, options.backbone, options.weights, precision="auto")
    for folder in options.data:
        with Progress(folder.name, "step") as progress:

            def at(stage: str, done: int, total: int, progress: Progress = progress) -> None:
                progress.at(done, total, stage)

            material = Bench(setting, folder, at).material
            rows = new_patients(material, options.seeds, options.batch, options.answers, report=at)
        found = summary(rows)
        content = {"rows": rows, "summary": found, "every": str(options.every), "batch": options.batch}
        write_aside(options.output / f"new-patients-{folder.name}.json", json.dumps(content, indent=1))
        for one in found:
            print(_line(one))
    return 0


def _line(one: Row) -> str:
    told = []
    for name in MEASURES:
        against = one["against"][name]
        value = "undefined" if one[name] is None else f"{one[name]:.3f}"
        apart = f" ({against[0]:+.3f}, {against[1]:+.3f} to {against[2]:+.3f})" if against else ""
        told.append(f"{name.replace('_', ' ')} {value}{apart}")
    return f"{one['data']}, {one['way']}, {one['seeds']} splits: {', '.join(told)}"


if __name__ == "__main__":
    run(main)
