"""How well suspects find wrong labels: labels flipped on purpose, and how many of the most suspect frames are those.

python -m studies.suspects DIR --every 1/4 --seeds 10 11 12 13 14
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.commands.command import run
from ml_backend.progress import Progress
from ml_backend.store.files import write_aside
from ml_backend.tsal import audit
from ml_backend.tsal.intervals import by_patient
from ml_backend.tsal.likeness import NO_TRUST, Rows, Scale
from ml_backend.tsal.memory import Remembered, learnt_trust
from ml_backend.tsal.suspects import suspects as suspects_of
from studies.plan import AUDIT, PRESETS
from studies.simulation import Learner, Material, Way
from studies.work import Bench, Setting

FLIPPED = 0.03
CONFIRMED = (1.0, 0.5)
WAY = Way(epochs=3, minimum_steps=60, augmented=False, audit=0.0)
_STREAM = 5  # of the generator of a seed: which frames are confirmed, and which of their labels are wrong


def one_symptom(labels: NDArray[np.uint8], wrong: Rows, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Invert one random symptom of each of the ``wrong`` rows of ``labels`` (n, l)."""
    changed = labels.copy()
    changed[wrong, rng.integers(labels.shape[1], size=len(wrong))] ^= 1
    return changed


def whole_combination(labels: NDArray[np.uint8], wrong: Rows, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Give each of the ``wrong`` rows another label combination, drawn at random from those in ``labels`` (n, l)."""
    combinations, of_frame = np.unique(labels, axis=0, return_inverse=True)
    others = rng.integers(len(combinations) - 1, size=len(wrong))
    others += others >= of_frame.reshape(-1)[wrong]
    changed = labels.copy()
    changed[wrong] = combinations[others]
    return changed


FLIPS: dict[str, Callable[[NDArray[np.uint8], Rows, np.random.Generator], NDArray[np.uint8]]] = {
    "one symptom": one_symptom,
    "whole combination": whole_combination,
}


def suspects(
    material: Material, seeds: Sequence[int], report: Callable[[str, int, int], None] = lambda *_: None
) -> list[dict[str, Any]]:
    """Flip `FLIPPED` of the confirmed labels, and look for them: a row for each seed, way to flip, and share confirmed.

    ``precision``: of as many frames as were flipped, the most suspect ones, the share that was flipped. Where fewer are
    listed, those missing count as wrong. ``precision_memory``: the same without the network, ``precision_hidden``
    without network and clips. ``found``: for each flipped frame of the ``patients`` whether it is among them;
    ``listed`` frames in all, ``listed_right`` the share of them that was flipped.
    """
    rows = []
    cases = [(seed, flip, share) for seed in seeds for flip in FLIPS for share in CONFIRMED]
    for done, (seed, flip, share) in enumerate(cases, 1):
        rows.append(_row(material, seed, flip, share))
        report(f"{material.clips.name}: looking for flipped labels", done, len(cases))
    return rows


def _row(material: Material, seed: int, flip: str, share: float) -> dict[str, Any]:
    clips, rng = material.clips, np.random.default_rng([seed, _STREAM])
    confirmed: Rows = np.sort(rng.permutation(len(clips))[: round(share * len(clips))]).astype(np.intp)
    audited = audit.draw(len(confirmed), round(AUDIT * len(confirmed)), rng)
    wrong: Rows = np.sort(rng.permutation(len(confirmed))[: max(1, round(FLIPPED * len(confirmed)))]).astype(np.intp)
    labels = FLIPS[flip](clips.labels[confirmed], wrong, rng)
    remembered = Remembered(material.places[confirmed], labels, np.ones(labels.shape, bool))
    scale = Scale.of(remembered.places.embeddings)
    trust = learnt_trust(remembered, audited, scale)
    network = _network_says(material, confirmed, labels, seed)
    seen = suspects_of(remembered, network, scale, trust)
    found = np.isin(wrong, seen.rows[: len(wrong)])

    def precision(first: Rows) -> float:
        return float(np.isin(wrong, first[: len(wrong)]).mean())

    return {
        "data": clips.name,
        "flip": flip,
        "confirmed": share,
        "seed": seed,
        "frames": len(confirmed),
        "flipped": len(wrong),
        "precision": precision(seen.rows),
        "precision_memory": precision(suspects_of(remembered, None, scale, trust).rows),
        "precision_hidden": precision(suspects_of(remembered, None, scale, NO_TRUST).rows),
        "listed": len(seen),
        "listed_right": float(np.isin(seen.rows, wrong).mean()) if len(seen) else None,
        "found": found.tolist(),
        "patients": [clips.patients[row] for row in confirmed[wrong]],
    }


def _network_says(material: Material, confirmed: Rows, labels: NDArray[np.uint8], seed: int) -> NDArray[np.float32]:
    """The probabilities of a network that learnt from all confirmed frames with the labels they have now."""
    truth = material.clips.labels.copy()
    truth[confirmed] = labels
    learner = Learner(replace(material, clips=replace(material.clips, labels=truth)), WAY, seed)
    learner.learn(confirmed, confirmed, audited=confirmed[:0])
    return learner.probabilities(confirmed)


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over the seeds, for each data set, way to flip and share confirmed.

    ``interval``: 95% of ``precision``, by patient, of the flipped frames of all seeds together.
    """
    cases = dict.fromkeys((row["data"], row["flip"], row["confirmed"]) for row in rows)
    found: list[dict[str, Any]] = []
    for data, flip, share in cases:
        group = [row for row in rows if (row["data"], row["flip"], row["confirmed"]) == (data, flip, share)]
        flags = [one for row in group for one in row["found"]]
        patients = [one for row in group for one in row["patients"]]
        means = {
            name: float(np.mean([row[name] for row in group if row[name] is not None] or [0.0]))
            for name in ("precision", "precision_memory", "precision_hidden", "listed", "listed_right")
        }
        interval = by_patient(flags, patients, np.random.default_rng(0))
        found.append(
            {"data": data, "flip": flip, "confirmed": share, "seeds": len(group), "flipped": len(flags)}
            | means
            | {"interval": list(interval)}
        )
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure on labelled clips, print a line a case, and write suspects-NAME.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path, metavar="DIR", help="folder with clips/ and clips.csv")
    parser.add_argument("--every", type=Fraction, default=Fraction(1, 4), metavar="SECONDS", help="(1/4)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 11, 12, 13, 14], metavar="N", help="(10 to 14)")
    parser.add_argument("--output", type=Path, default=Path("runs/study"), metavar="DIR", help="(runs/study)")
    parser.add_argument("--backbone", default="efficientnet_lite0", help="(efficientnet_lite0)")
    parser.add_argument("--weights", default=None, help="file with its ImageNet weights, or random")
    options = parser.parse_args(arguments)
    preset = replace(PRESETS["default"], every=options.every, views=1)
    setting = Setting(preset, options.output, options.backbone, options.weights)
    for folder in options.data:
        with Progress(folder.name, "step") as progress:
            material = Bench(setting, folder, lambda stage, done, total: progress.at(done, total, stage)).material
            rows = suspects(material, options.seeds, lambda stage, done, total: progress.at(done, total, stage))
        found = summary(rows)
        content = {"rows": rows, "summary": found, "every": str(options.every)}
        write_aside(options.output / f"suspects-{folder.name}.json", json.dumps(content, indent=1))
        for one in found:
            low, high = one["interval"]
            print(
                f"{one['data']}, {one['flip']}, {one['confirmed']:.0%} confirmed: precision {one['precision']:.3f} "
                f"({low:.3f} to {high:.3f}), memory alone {one['precision_memory']:.3f}, clips hidden "
                f"{one['precision_hidden']:.3f}, {one['flipped']} flipped in {one['seeds']} runs"
            )
    return 0


if __name__ == "__main__":
    run(main)
