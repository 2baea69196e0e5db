"""Trials of strategies and validators on audit frames that were answered since the parent was trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import VersionUnknown
from ml_backend.loop.collect import Material
from ml_backend.store.versions import Manifest, VersionStore
from ml_backend.tsal import adaptive
from ml_backend.tsal.audit import AuditSample
from ml_backend.tsal.labels import shared_of
from ml_backend.tsal.round import generator
from ml_backend.tsal.ticks import Tables

REMEMBERED = 20  # trials that the choice of strategy and validator looks back on


def tried(
    parent: Manifest | None, columns: Sequence[int | None], material: Material, fresh: set[int]
) -> NDArray[np.bool_]:
    """The frames to try the parent's strategies and validators on: the ``fresh`` audited ones it has not learnt.

    ``columns`` (l,) are the places of the symptoms among the parent's, None for one that it does not know: frames are
    tried on those that both know. There are none without a parent, if the parent has no table of strengths, or if the
    healthy label or all others are not shared.
    """
    rows = np.zeros(len(material.frames), bool)
    shared = shared_of(columns)
    if parent is not None and parent.strengths and len(shared) >= 2 and columns[0] == 0:
        new = fresh - {one.task for one in parent.trained_on}
        rows |= np.array([task in new for task in material.tasks], bool) & material.known[:, shared].all(axis=1)
    return rows


def trial(
    parent: Manifest | None,
    columns: Sequence[int | None],
    before: NDArray[np.float32] | None,
    material: Material,
    rows: NDArray[np.bool_],
) -> adaptive.Trial | None:
    """Try every strategy and validator on the ``rows``, by the parent's probabilities; ``columns`` as in `tried`."""
    if parent is None or before is None or not rows.any():
        return None
    tasks = [material.frames[row].task for row in np.flatnonzero(rows)]
    shared = shared_of(columns)
    return adaptive.trial(
        AuditSample.of(set(tasks), tasks, before[rows][:, shared], material.labels[rows][:, shared]),
        Tables.from_json(parent.table, parent.strengths).relabel([columns[place] for place in shared]),
        generator(parent.seed, parent.number),
    )


def remembered(store: VersionStore, newest: Manifest | None) -> list[adaptive.Trial]:
    """The trials of a version and its ancestors, oldest first, as far back as they still count."""
    found: list[adaptive.Trial] = []
    while newest is not None and len(found) < REMEMBERED:
        if newest.trial:
            found.append(adaptive.Trial(**newest.trial))
        try:
            newest = store.get(newest.parent) if newest.parent else None
        except VersionUnknown:  # removed or damaged since; a new version must not fail because of that
            newest = None
    return found[::-1]


def chosen(store: VersionStore, parent: Manifest | None, trial: adaptive.Trial | None) -> dict[str, Any]:
    """What a manifest keeps of the trial, and of the choice for the next batch that follows from all trials."""
    choice = adaptive.choose([*remembered(store, parent), *([trial] if trial else [])])
    kept = asdict(choice) | {"reasons": list(choice.reasons)}
    return {"trial": asdict(trial) if trial else None, "choice": kept}
