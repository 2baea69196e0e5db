"""Whether a new version is better or worse than the one it comes from, judged by patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.tsal.arrays import Labels, label_matrix, require_same_shape
from ml_backend.tsal.intervals import by_patient

CHANCE = 0.05
"""Largest probability at which a fall counts as more than chance."""

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Figure:
    """A share in [0, 1] with its 95% confidence interval by patient, and what it was measured on."""

    value: float
    low: float
    high: float
    frames: int
    patients: int

    def __str__(self) -> str:
        patients = f"{self.patients} patient" + ("" if self.patients == 1 else "s")
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f}, {patients})"

    @classmethod
    def read(cls, content: Any) -> Figure | None:
        """Read a figure back from JSON.

        Versions from before 0.2.0 noted a bare number: its interval is unknown, [0, 1]. None where there is no figure.
        """
        if isinstance(content, Mapping):
            return cls(**content)
        return None if content is None else cls(float(content), 0.0, 1.0, 0, 0)


def figure(flags: Flags, patients: Sequence[str], seed: int) -> Figure | None:
    """Return the share of true ``flags`` (n,) with its interval by patient; None without frames."""
    if not len(flags):
        return None
    low, high = by_patient(flags, patients, np.random.default_rng(seed))
    return Figure(float(flags.mean()), low, high, len(flags), len(set(patients)))


def matches(truth: Labels, predicted: Labels, known: Flags | None = None) -> Flags:
    """Tell for every frame whether all of its (n, l) labels are right; labels that are not ``known`` do not count.

    Raises ValueError where shapes differ.
    """
    first, second = label_matrix(truth, "truth"), label_matrix(predicted, "predicted")
    require_same_shape(first, second, "truth and predicted")
    right = first == second
    if known is not None:
        require_same_shape(right, known, "truth and known")
        right |= ~known
    return np.asarray(right.all(axis=1))


def per_label(
    truth: Labels, predicted: Labels, known: Flags, names: Sequence[str], patients: Sequence[str], seed: int
) -> dict[str, dict[str, Figure | None]]:
    """Return accuracy, sensitivity and specificity of every label by name, on the frames where it is ``known``."""
    right = truth == predicted
    return {
        name: {
            measure: figure(right[rows, column], [patients[row] for row in np.flatnonzero(rows)], seed)
            for measure, rows in (
                ("accuracy", known[:, column]),
                ("sensitivity", known[:, column] & (truth[:, column] == 1)),
                ("specificity", known[:, column] & (truth[:, column] == 0)),
            )
        }
        for column, name in enumerate(names)
    }


def sign_test(worse: int, better: int) -> float:
    """Return the probability of at least ``worse`` patients getting worse by chance alone.

    Where two versions are equally good, each patient that changes gets worse with probability 1/2, so this is the
    probability that a binomial(worse + better, 1/2) is at least ``worse``. It is exact for any number of patients,
    which a bootstrap is not for few.
    """
    changed = worse + better
    as_many = sum(comb(changed, count) for count in range(worse, changed + 1))
    return float(as_many / 2**changed)


FEWEST_PATIENTS = 5
"""With fewer patients no fall is more than chance: even if all of them get worse, the sign test gives 1/16."""


@dataclass(frozen=True)
class Comparison:
    """Exact match of two versions on the same frames, and in how many patients it became ``worse`` or ``better``."""

    before: Figure
    after: Figure
    worse: int
    better: int

    def regression(self, allowed: float) -> str:
        """Why the later version is worse, in words; empty where exact match fell by no more than ``allowed``.

        A fall that chance would give counts as none. Frames of a patient resemble each other, so chance is that of the
        sign test over patients.
        """
        if self.before.value - self.after.value <= allowed + 1e-9 or sign_test(self.worse, self.better) > CHANCE:
            return ""
        return (
            f"exact match on {self.after.frames} frames of {self.after.patients} patients fell from "
            f"{self.before.value:.3f} to {self.after.value:.3f}, by more than {allowed:.3f} and more than chance: "
            f"{self.worse} patients got worse, {self.better} better"
        )


def compare(before: Flags, after: Flags, patients: Sequence[str], seed: int) -> Comparison | None:
    """Compare two versions by which frames each has right; None without frames.

    Takes (n,) booleans of the earlier and the later version and the n frames' patients. A patient got worse where the
    later version has fewer of its frames right. Raises ValueError where lengths differ.
    """
    require_same_shape(before, after, "before and after")
    first, second = figure(before, patients, seed), figure(after, patients, seed)
    if first is None or second is None:
        return None
    change: dict[str, int] = dict.fromkeys(patients, 0)
    for patient, gained in zip(patients, after.astype(int) - before, strict=True):
        change[patient] += int(gained)
    return Comparison(first, second, sum(one < 0 for one in change.values()), sum(one > 0 for one in change.values()))
