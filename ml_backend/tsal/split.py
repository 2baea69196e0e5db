"""Which frames a network is trained on, and which it is judged by: in the loop, and in what is exported."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]
HELD_OUT, NEWEST_AUDIT, NOBODY = "held-out patients", "newest audit frames", "nobody"
Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
VALIDATION = 0.125
"""Share of the patients who are not held out whose frames an export sets apart for validation."""


@dataclass(frozen=True)
class Split:
    """Two masks of n frames, (n,) booleans: those to train on, and those to judge the version by.

    ``judged_on`` says in words which frames the version is judged by; ``uniform`` whether they were drawn uniformly.
    Frames of held-out patients that no audit drew are in neither mask.
    """

    training: Flags
    judged: Flags
    judged_on: str
    uniform: bool


def held_out(patients: Sequence[str], share: float, seed: int) -> NDArray[np.bool_]:
    """Tell for every frame whether its patient is held out; (n,) booleans from the n frames' patients.

    A patient's side follows from the patient and the seed alone, so it never changes while frames and patients are
    added, and a larger share only adds patients. The price: `share`, in [0, 1], is met on average only; with few
    patients all of them can fall on one side. Raises ValueError for a share outside [0, 1].
    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share must be within [0, 1]; it is {share}")
    sides = {patient: _position(patient, seed) < share for patient in set(patients)}
    return np.array([sides[patient] for patient in patients], dtype=np.bool_)


def parts(patients: Sequence[str], share: float, seed: int) -> list[Part]:
    """Tell the part of an export in which each of n frames belongs, from the frames' patients.

    The patients that `held_out` names make the test part. Of the others, about `VALIDATION` make the validation part,
    by a draw of its own, so that another ``share`` moves nobody between train and validation. A patient's part never
    changes while frames and patients are added. Raises ValueError for a share outside [0, 1].
    """
    held = held_out(patients, share, seed)
    validation = {patient: _position(f"validation:{patient}", seed) < VALIDATION for patient in set(patients)}
    return [
        "test" if test else "validation" if validation[patient] else "train"
        for patient, test in zip(patients, held.tolist(), strict=True)
    ]


def set_aside(labels: NDArray[np.uint8], held: Flags, audited: Flags, new: Flags) -> Split:
    """Set frames aside to judge the next version by.

    These are audited frames of held-out patients, if there are any. Other frames of these patients depend on what the
    strategy asked for, so they are used only where no audited ones exist. Where nobody is held out, the newest audited
    frames are kept back; the next version trains on them. What is left to train on always has two label combinations
    where the frames have.

    Takes the n confirmed frames' labels (n, l), and (n,) booleans: ``held``, of a held-out patient; ``audited``, drawn
    uniformly; ``new``, not known to an earlier version.
    """
    if held.any() and _combinations(labels[~held]) >= 2:
        uniform = held & audited
        return Split(~held, uniform if uniform.any() else held, HELD_OUT, bool(uniform.any()))
    newest = audited & new
    if newest.any() and _combinations(labels[~newest]) >= 2:
        return Split(~newest, newest, NEWEST_AUDIT, True)
    return Split(np.ones(len(held), bool), np.zeros(len(held), bool), NOBODY, False)


def _combinations(labels: NDArray[np.uint8]) -> int:
    return len(np.unique(labels, axis=0))


def _position(patient: str, seed: int) -> float:
    """A fixed place in [0, 1) for a patient, as good as random."""
    digest = hashlib.sha256(f"{seed}:{patient}".encode("utf-8", "surrogatepass")).digest()
    # 53 bits are what a float holds exactly; more could round up to 1 and leave a patient out of a share of 1.
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53
