"""Draw the pictures of the documentation's page on the method: memory, cover and certificate, by the code that serves.

The frames are made up: points in a plane, near each other where frames look alike.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ml_backend.commands.command import run
from ml_backend.tsal.certificate import Plan, certify
from ml_backend.tsal.cover import cover
from ml_backend.tsal.likeness import NO_TRUST, Places, Scale
from ml_backend.tsal.memory import Remembered, recall
from studies.figures import LOOK

CLIPS, LENGTH, ANSWERS = 9, 14, 9
COLOURS = np.array(["#0072B2", "#E69F00", "#009E73"])
MARKERS = ("o", "s", "^")
NAMES = ("A-line", "B-line", "B-line and effusion")
Points = NDArray[np.float64]
Rows = NDArray[np.intp]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pictures into the folder that is given."""
    (folder,) = sys.argv[1:] if arguments is None else arguments
    points, kinds = _frames()
    with rc_context(LOOK | {"axes.grid": False}):
        for name, figure in (("memory", _memory(points, kinds)), ("certificate", _certificate())):
            figure.savefig(Path(folder) / f"method-{name}.png", dpi=110)
    return 0


def _frames() -> tuple[Points, Rows]:
    """Make up frames: each clip is a short random walk from its own starting point and has one label combination."""
    rng = np.random.default_rng(4)
    starts = np.array([[column, row] for column in range(3) for row in range(3)], float) + rng.normal(0, 0.12, (9, 2))
    walks = rng.normal(0, 0.055, (CLIPS, LENGTH, 2)).cumsum(axis=1)
    walks[:2] *= 0.35  # two clips in which hardly anything moves
    kinds = np.array([0, 1, 1, 0, 2, 1, 0, 2, 0])
    return (starts[:, None] + walks).reshape(-1, 2), np.repeat(kinds, LENGTH)


def _places(points: Points) -> Places:
    """Embeddings whose cosine falls with the distance between two points."""
    rng = np.random.default_rng(0)
    waves, phases = rng.normal(0, 2.5, (2, 2048)), rng.uniform(0, 2 * np.pi, 2048)
    return Places(np.cos(points @ waves + phases), np.arange(len(points)), np.full(len(points), np.nan))


def _memory(points: Points, kinds: Rows) -> Figure:
    places = _places(points)
    scale = Scale.of(places.embeddings)
    rng = np.random.default_rng(2)
    nothing = np.full(len(points), -np.inf, np.float32)
    chosen = {
        "any frames": rng.permutation(len(points))[:ANSWERS],
        "frames chosen by cover": cover(places, nothing, np.arange(len(points)), ANSWERS, scale, NO_TRUST, rng),
    }
    figure = Figure(figsize=(10, 5), layout="constrained")
    for axes, (title, asked) in zip(figure.subplots(1, 2, sharex=True, sharey=True), chosen.items(), strict=True):
        labels = kinds[asked, None]
        known = Remembered(places[asked], (labels == np.arange(3)).astype(np.uint8), np.ones((len(asked), 3), bool))
        found = recall(places, known, scale, NO_TRUST)
        told = found.labels.argmax(axis=1)
        right = float((told == kinds).mean())
        _scatter(axes, points, told, asked, asked[found.row], told != kinds)
        axes.set_title(f"{title}\n{ANSWERS} answers, {right:.0%} of all frames right")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    return figure


def _scatter(axes: Axes, points: Points, told: Rows, asked: Rows, nearest: Rows, wrong: NDArray[np.bool_]) -> None:
    """Each frame with the label it is given, and a line to the confirmed frame that it has it from."""
    axes.add_collection(
        LineCollection(np.stack([points, points[nearest]], axis=1).tolist(), colors="0.8", linewidths=0.7)
    )
    for kind, (colour, marker) in enumerate(zip(COLOURS, MARKERS, strict=True)):
        of_kind = told == kind
        axes.scatter(points[of_kind, 0], points[of_kind, 1], s=22, c=colour, marker=marker, label=NAMES[kind], zorder=2)
    axes.scatter(
        points[asked, 0],
        points[asked, 1],
        s=130,
        facecolors="none",
        edgecolors="black",
        linewidths=1.6,
        label="a person answered",
    )
    axes.scatter(
        points[wrong, 0], points[wrong, 1], s=70, c="#D55E00", marker="x", linewidths=1.6, label="wrong", zorder=3
    )
    axes.set(xticks=[], yticks=[])


def _certificate() -> Figure:
    """One audit of 2,000 frames: where the line is cut."""
    rng = np.random.default_rng(8)
    count, size = 1880, 138
    uncertainty = np.sort(rng.beta(0.5, 4, count))
    wrong = rng.random(count) < 0.4 * uncertainty
    plan = Plan.draw(uncertainty, 120, 0.03, 0.05, size, rng)
    proved = certify(plan, wrong[plan.drawn])
    found = np.sort(plan.drawn[wrong[plan.drawn]])
    cut = int(proved.to_people.min()) if len(proved.to_people) else count
    figure = Figure(figsize=(10, 2.4), layout="constrained")
    axes = figure.subplots()
    axes.axvspan(0, cut, color="#009E73", alpha=0.18, label=f"{len(proved.kept):,} keep the machine’s label")
    axes.axvspan(cut, count, color="#E69F00", alpha=0.3, label=f"{len(proved.to_people):,} go to people")
    axes.vlines(plan.drawn, 0, 0.5, color="0.35", linewidth=0.8, label=f"audited, {size} drawn by lot")
    axes.plot(found, np.full(len(found), 0.62), "X", color="#D55E00", markersize=9, label="the machine was wrong")
    axes.axvline(cut, color="black", linewidth=1.6)
    axes.set(xlim=(0, count), ylim=(0, 0.8), yticks=[], xlabel="frames that nobody has labelled, the surest first")
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    return figure


if __name__ == "__main__":
    run(main)
