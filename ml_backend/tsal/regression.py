"""Whether a new version is worse than the one it comes from, on the same frames."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from ml_backend.tsal.arrays import Labels, label_matrix, require_same_shape

SIGMAS = 2.0
"""A difference within so many standard deviations of chance is none."""


@dataclass(frozen=True)
class Comparison:
    """Exact match of two versions on the same ``frames``.

    ``before`` and ``after`` in [0, 1], None without frames; ``lost``: frames that only the earlier version has right;
    ``gained``: those that only the later one has.
    """

    frames: int
    before: float | None
    after: float | None
    lost: int
    gained: int

    def regression(self, allowed: float) -> str:
        """Why the later version is worse, in words; empty where exact match fell by no more than ``allowed``.

        A fall that chance alone would give counts as none: of ``lost + gained`` frames that the versions disagree on,
        each is lost with probability 1/2 where they are equally good (McNemar), so ``lost - gained`` has the standard
        deviation sqrt(lost + gained).
        """
        if self.before is None or self.after is None:
            return ""
        fall = self.lost - self.gained
        if fall <= allowed * self.frames + 1e-9 or fall <= SIGMAS * sqrt(self.lost + self.gained):
            return ""
        return (
            f"exact match on {self.frames} frames of held-out patients fell from {self.before:.3f} to "
            f"{self.after:.3f}, by more than {allowed:.3f} and more than chance: {self.lost} frames lost, "
            f"{self.gained} gained"
        )


def compare(truth: Labels, before: Labels, after: Labels) -> Comparison:
    """Compare the labels (n, l) that two versions give to frames of known labels; ValueError where shapes differ."""
    known, earlier, later = (label_matrix(matrix) for matrix in (truth, before, after))
    require_same_shape(known, earlier, "truth and before")
    require_same_shape(known, later, "truth and after")
    right_before, right_after = (known == earlier).all(axis=1), (known == later).all(axis=1)
    return Comparison(
        len(known),
        float(right_before.mean()) if len(known) else None,
        float(right_after.mean()) if len(known) else None,
        int((right_before & ~right_after).sum()),
        int((~right_before & right_after).sum()),
    )
