"""The paper's Table I and Table II (arXiv:2009.05436), to stand beside what is measured here."""

from __future__ import annotations

from dataclasses import dataclass

SYMPTOMS = ("A-line", "B-line", "Pleural lesion", "Pleural effusion")

Figures = tuple[float, float, float]
"""Accuracy, sensitivity and specificity in percent, as printed."""


@dataclass(frozen=True)
class Row:
    """One row of Table I: ``figures`` by symptom in the order of `SYMPTOMS`, and the labelled ``share`` in percent."""

    figures: tuple[Figures, Figures, Figures, Figures]
    share: float


ALWAYS_RIGHT: Figures = (100, 100, 100)
NEVER_FOUND: Figures = (89.45, 0, 100)

TABLE_I: dict[str, Row] = {
    "VGG16": Row((ALWAYS_RIGHT, (88.39, 98.34, 43.08), (60.82, 76.77, 48.68), (88.53, 0, 98.96)), 100),
    "ResNet34": Row((ALWAYS_RIGHT, (90.88, 96.87, 63.63), (73.36, 81.71, 67.00), (89.31, 0, 99.84)), 100),
    "ResNet50": Row((ALWAYS_RIGHT, (88.60, 98.95, 41.50), (80.34, 82.86, 78.41), NEVER_FOUND), 100),
    "ResNet101": Row((ALWAYS_RIGHT, (90.45, 98.17, 55.33), (79.91, 82.37, 78.04), NEVER_FOUND), 100),
    "POCOVID-Net": Row((ALWAYS_RIGHT, (84.97, 90.35, 60.47), (80.84, 79.90, 81.55), (91.02, 14.86, 100)), 100),
    "NNBD": Row((ALWAYS_RIGHT, (90.31, 99.91, 46.64), (71.86, 68.20, 74.65), NEVER_FOUND), 100),
    "random": Row(((99.85, 100, 100), (90.74, 98.52, 65.61), (83.47, 77.92, 98.87), (89.38, 0, 99.92)), 16.6),
    "mle": Row((ALWAYS_RIGHT, (89.52, 97.56, 52.96), (80.34, 75.94, 83.68), NEVER_FOUND), 27.6),
    "lc": Row((ALWAYS_RIGHT, (94.30, 95.91, 86.95), (83.19, 78.74, 86.57), NEVER_FOUND), 16.6),
    "MSML": Row((ALWAYS_RIGHT, (95.72, 98.78, 81.81), (80.98, 81.38, 80.67), (90.09, 6.08, 100)), 100),
    "mlm": Row(((100, 92.38, 100), (98.50, 98.79, 92.49), (83.26, 76.77, 96.36), NEVER_FOUND), 14.7),
}
"""By method; the rows MSML + TSAL by the name of their strategy."""

TABLE_II: dict[str, tuple[float, ...]] = {
    "by hand": (100, 100, 100, 100, 100),
    "plain": (100, 29, 11, 5, 1),
    "table": (100, 2, 1, 0, 0),
}
"""Share of the batch labelled by hand, in percent, iterations 1 to 5, by where the default annotation comes from."""
