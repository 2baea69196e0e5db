"""The figures of Grad-CAM maps: what a network looks at on one frame, symptom by symptom."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

# Evenly perceived, told apart by every kind of colour vision, and in grey the brighter is still the more.
COLOURS = "cividis"
MOST_OPAQUE = 0.7
OUTLINED = 0.5
INCHES = 1.65


def draw(
    pixels: NDArray[np.uint8],
    maps_by_symptom: Mapping[str, Mapping[str, NDArray[np.float32]]],
    path: Path,
    title: str,
    probabilities: Mapping[str, float],
) -> None:
    """Write one PNG to ``path``: the frame, and beside it a row per method and two pictures per symptom.

    ``pixels`` (224, 224, 3) uint8; ``maps_by_symptom`` gives for every symptom, and in it for every method, a map
    (224, 224) in [0, 1], the same methods for each; ``probabilities`` gives every symptom's. A map stands alone and
    over the frame, where it covers the less the weaker it is and a line surrounds what lies above half of its maximum.
    """
    symptoms, methods = list(maps_by_symptom), list(next(iter(maps_by_symptom.values())))
    columns = 2 * len(symptoms)
    figure = Figure(figsize=(INCHES * (columns + 2.4), INCHES * (len(methods) + 0.6)), layout="constrained")
    figure.suptitle(title)
    grid = figure.add_gridspec(len(methods), columns + 2, width_ratios=[2.0, *[1.0] * columns, 0.08])
    frame = _picture(figure.add_subplot(grid[:, 0]))
    frame.imshow(pixels)
    frame.set_title("frame")
    for row, method in enumerate(methods):
        for column, symptom in enumerate(symptoms):
            alone = _picture(figure.add_subplot(grid[row, 1 + 2 * column]))
            over = _picture(figure.add_subplot(grid[row, 2 + 2 * column]))
            image = _show(alone, over, pixels, maps_by_symptom[symptom][method])
            if column == 0:
                alone.set_ylabel(method)
            if row == 0:
                alone.set_title(f"{symptom}\nprobability {probabilities[symptom]:.2f}", fontsize="small")
                over.set_title("over the frame", fontsize="small")
    bar = figure.colorbar(image, cax=figure.add_subplot(grid[:, -1]))
    bar.set_label("evidence, of the map's largest")
    figure.savefig(path, format="png", dpi=120)


def _picture(axes: Axes) -> Axes:
    axes.set_xticks([])
    axes.set_yticks([])
    return axes


def _show(alone: Axes, over: Axes, pixels: NDArray[np.uint8], values: NDArray[np.float32]) -> AxesImage:
    image = alone.imshow(values, cmap=COLOURS, vmin=0, vmax=1)
    over.imshow(pixels)
    over.imshow(values, cmap=COLOURS, vmin=0, vmax=1, alpha=MOST_OPAQUE * values)
    if values.max() > OUTLINED:
        over.contour(values, levels=[OUTLINED], colors="black", linewidths=2)
        over.contour(values, levels=[OUTLINED], colors="white", linewidths=1)
    else:
        alone.set_xlabel("no evidence", fontsize="small")
    return image
