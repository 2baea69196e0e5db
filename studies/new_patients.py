"""Compare ways to judge the frames of patients whom nobody has labelled, on the same splits by patient."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from ml_backend.tsal.correlation import plain_labels
from ml_backend.tsal.heads import Heads, Logits, clip_means
from ml_backend.tsal.round import Rows
from studies.calibration import expected_calibration_error
from studies.dataset import ClipSet
from studies.figures import Row, half_width, mean_and_deviation
from studies.judges import Judge
from studies.plan import split
from studies.simulation import Learner, Material, Way, figures, macro_area

MEASURES = ("auc", "auc_clips", "exact", "corrections", "calibration_error", "calibration_floor", "sensitivity")
DRAWS = 100
SPECIFICITY = 0.9
SMALLEST = 1e-6  # probability, before its logit is taken
_STREAM = 7  # of the generator of a seed: in which order the frames of the pool are answered
Report = Callable[[str, int, int], None]


class Levels(NamedTuple):
    """What the trunk finds in every frame at several depths: ``values`` (n, d), the levels of these ``widths``."""

    values: NDArray[np.float32]
    widths: tuple[int, ...]

    def last(self, count: int) -> Levels:
        """Return the last ``count`` levels, or all of them if there are fewer."""
        widths = self.widths[-count:]
        return Levels(self.values[:, -sum(widths) :], widths)


def new_patients(
    material: Material,
    levels: Levels,
    seed: int,
    batch: int,
    answers: int,
    ways: Mapping[str, Judge],
    report: Report = lambda *_: None,
) -> list[dict[str, Any]]:
    """Learn ``answers`` random frames of the pool in batches, and judge on the test patients of a split: a row a way.

    Each batch is followed by a fine-tune on everything answered, as in the product. The rows hold the macro area under
    the curve by frame (``auc``) and by clip (``auc_clips``), the share of frames with all labels right (``exact``), the
    share of clips in which a frame taken at random has to be corrected (``corrections``), the ``calibration_error``
    with its `calibration_floor`, and the ``sensitivity`` at 90% specificity. The errors and sensitivities are means
    over the symptoms.
    """
    clips = material.clips
    pool, test = split(clips, "patients", seed)
    order = np.random.default_rng([seed, _STREAM]).permutation(pool)[:answers]
    learnt = _Learnt(material, levels, seed, order, batch, test)
    rows = []
    for done, (name, way) in enumerate(ways.items(), 1):
        started = time.monotonic()
        probabilities = (1 / (1 + np.exp(-learnt.logits(way)))).astype(np.float32)
        named = {"way": name, "answers": len(order), "seconds": round(time.monotonic() - started, 1)}
        rows.append(named | judge(clips, test, probabilities))
        report(f"{clips.name}: learning", done, len(ways))
    return rows


class _Learnt:
    """What can be learnt from the answers ``order``, to judge the ``test`` rows; each tail is trained only once."""

    def __init__(self, material: Material, levels: Levels, seed: int, order: Rows, batch: int, test: Rows) -> None:
        self._material, self._levels, self._seed = material, levels, seed
        self._order, self._batch, self._test = order, batch, test
        self._tails: dict[Way, Logits] = {}

    def logits(self, judge: Judge) -> Logits:
        """Return the logits (m, l) that one way gives the test rows."""
        said = []
        if judge.tail is not None:
            said.append(self._of_tail(judge.tail))
        if judge.levels:
            said.append(self._of_heads(judge.levels))
        mean: Logits = np.mean(said, axis=0)
        return clip_means(mean, self._material.clips.clip_numbers[self._test]) if judge.by_clip else mean

    def _of_tail(self, way: Way) -> Logits:
        if way not in self._tails:
            learner, order = Learner(self._material, way, self._seed), self._order
            for end in range(self._batch, len(order) + self._batch, self._batch):
                learner.learn(np.sort(order[:end]), np.sort(order[end - self._batch : end]), audited=order[:0])
            inside = learner.probabilities(self._test).clip(SMALLEST, 1 - SMALLEST)
            self._tails[way] = np.log(inside) - np.log1p(-inside)
        return self._tails[way]

    def _of_heads(self, count: int) -> Logits:
        levels, clips, rows = self._levels.last(count), self._material.clips, np.sort(self._order)
        labels = clips.labels[rows]
        known = np.ones(labels.shape, bool)
        heads = Heads.fit(levels.values[rows], levels.widths, labels, known, clips.clip_numbers[rows])
        return heads.logits(levels.values[self._test])


def judge(clips: ClipSet, rows: Rows, probabilities: NDArray[np.float32]) -> dict[str, Any]:
    """Measure probabilities (len(rows), l) by frame and by clip; areas and sensitivity are None without both kinds.

    A clip has the mean probability of its frames, and a symptom that any of them shows.
    """
    truth = clips.labels[rows]
    numbers, of_frame = np.unique(clips.clip_numbers[rows], return_inverse=True)
    of_clip = [of_frame == number for number in range(len(numbers))]
    mean = np.array([probabilities[frames].mean(axis=0) for frames in of_clip])
    shown = np.array([truth[frames].max(axis=0) for frames in of_clip])
    right = (plain_labels(probabilities) == truth).all(axis=1)
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
        "corrections": 1 - fmean(right[frames].mean() for frames in of_clip),
        "calibration_error": _mean(errors),
        "calibration_floor": calibration_floor(probabilities, of_frame),
        "sensitivity": _mean(sensitivities.values()),
    }


def sensitivity(probabilities: NDArray[np.floating[Any]], truth: NDArray[np.integer[Any]]) -> float:
    """The largest share of the true frames (n,) that a threshold finds which is right on 90% of the others.

    >>> sensitivity(np.array([0.9, 0.6, 0.7] + 9 * [0.1]), np.array([1, 1, 0] + 9 * [0]))
    1.0
    """
    wrong, found, _ = roc_curve(truth, probabilities)
    return float(found[wrong <= 1 - SPECIFICITY + 1e-9].max())


def calibration_floor(probabilities: NDArray[np.float32], clips: NDArray[np.intp], draws: int = DRAWS) -> float:
    """The calibration error that these probabilities (n, l) would have on average if they were exactly right.

    Frames of one clip (n,) mostly show the same, so few clips leave a large error by chance. In each of the ``draws``
    a clip gets one random number, and its frames show a symptom where their probability is above it.
    """
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(draws):
        drawn = rng.random((clips.max() + 1, probabilities.shape[1]))[clips] < probabilities
        errors += [
            expected_calibration_error(said, shown) for said, shown in zip(probabilities.T, drawn.T, strict=True)
        ]
    return float(np.mean([error for error in errors if error is not None]))


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
