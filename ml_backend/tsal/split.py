"""The patients that are never trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


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


def _position(patient: str, seed: int) -> float:
    """A fixed place in [0, 1) for a patient, as good as random."""
    digest = hashlib.sha256(f"{seed}:{patient}".encode("utf-8", "surrogatepass")).digest()
    # 53 bits are what a float holds exactly; more could round up to 1 and leave a patient out of a share of 1.
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53
