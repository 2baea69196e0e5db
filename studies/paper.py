"""The paper's own numbers (arXiv:2009.05436v2), to stand beside ours."""

from __future__ import annotations

from collections.abc import Mapping

SYMPTOMS = ("A-line", "B-line", "Pleural lesion", "Pleural effusion")

Figures = tuple[float, float, float]
"""Accuracy, sensitivity and specificity in percent."""

TABLE_1: Mapping[str, tuple[tuple[Figures, Figures, Figures, Figures], float]] = {
    "VGG16": (((100, 100, 100), (88.39, 98.34, 43.08), (60.82, 76.77, 48.68), (88.53, 0, 98.96)), 100),
    "ResNet34": (((100, 100, 100), (90.88, 96.87, 63.63), (73.36, 81.71, 67.00), (89.31, 0, 99.84)), 100),
    "ResNet50": (((100, 100, 100), (88.60, 98.95, 41.50), (80.34, 82.86, 78.41), (89.45, 0, 100)), 100),
    "ResNet101": (((100, 100, 100), (90.45, 98.17, 55.33), (79.91, 82.37, 78.04), (89.45, 0, 100)), 100),
    "POCOVID-Net": (((100, 100, 100), (84.97, 90.35, 60.47), (80.84, 79.90, 81.55), (91.02, 14.86, 100)), 100),
    "NNBD": (((100, 100, 100), (90.31, 99.91, 46.64), (71.86, 68.20, 74.65), (89.45, 0, 100)), 100),
    "MSML": (((100, 100, 100), (95.72, 98.78, 81.81), (80.98, 81.38, 80.67), (90.09, 6.08, 100)), 100),
    "MSML + TSAL (random)": (
        ((99.85, 100, 100), (90.74, 98.52, 65.61), (83.47, 77.92, 98.87), (89.38, 0, 99.92)),
        16.6,
    ),
    "MSML + TSAL (MLE)": (((100, 100, 100), (89.52, 97.56, 52.96), (80.34, 75.94, 83.68), (89.45, 0, 100)), 27.6),
    "MSML + TSAL (LC)": (((100, 100, 100), (94.30, 95.91, 86.95), (83.19, 78.74, 86.57), (89.45, 0, 100)), 16.6),
    "MSML + TSAL (MLM)": (((100, 92.38, 100), (98.50, 98.79, 92.49), (83.26, 76.77, 96.36), (89.45, 0, 100)), 14.7),
}
"""Table I by method: the figures of each symptom, and the share of labelled data in percent."""

TABLE_2: Mapping[str, tuple[float, ...]] = {
    "by hand": (100, 100, 100, 100, 100),
    "plain": (100, 29, 11, 5, 1),
    "table": (100, 2, 1, 0, 0),
}
"""Table II: the share of each batch labelled by hand, in percent, iterations 1 to 5."""
