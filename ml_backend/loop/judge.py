"""Judge a version on frames that its network was not trained on, and the ticks of the version before."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.loop.collect import Labelled, Material
from ml_backend.services import Services
from ml_backend.settings import Settings
from ml_backend.studio.configuration import Configuration
from ml_backend.studio.payloads import default_of
from ml_backend.tsal import judgement
from ml_backend.tsal.correlation import CorrelationTable, plain_labels
from ml_backend.tsal.judgement import Figure
from ml_backend.tsal.split import HELD_OUT, NEWEST_AUDIT, NOBODY, Split, held_out, set_aside

UNIFORM, NOT_UNIFORM = "uniform", "not uniform"


def split(
    material: Material, audited: Collection[int], seen: Collection[int], settings: Settings, notes: list[str]
) -> Split:
    """Set frames aside to judge by; ``audited`` tasks were drawn uniformly, ``seen`` ones an earlier version knew.

    ``notes`` collects what a person should know.
    """
    audit = np.array([task in audited for task in material.tasks], bool)
    new = np.array([task not in seen for task in material.tasks], bool)
    held = held_out(material.patients, settings.hold_out, settings.seed)
    parts = set_aside(material.labels, held, audit, new)
    if not all(one.named for one in material.labelled):
        notes.append("frames without a patient are held out one by one, which may leak near-duplicates")
    if parts.judged_on != HELD_OUT and held.any():
        notes.append("nobody held out: the other patients have fewer than two label combinations")
    patients = {patient for patient, judged in zip(material.patients, parts.judged, strict=True) if judged}
    if 0 < len(patients) < judgement.FEWEST_PATIENTS:
        fewest = judgement.FEWEST_PATIENTS
        notes.append(f"judged on {len(patients)} patients: with fewer than {fewest} no fall is more than chance")
    if parts.judged_on == HELD_OUT and not parts.uniform:
        notes.append("judged on frames of held-out patients that no audit drew: not a uniform sample")
    elif parts.judged_on == NEWEST_AUDIT:
        notes.append(f"no patient is held out: judged on the {parts.judged.sum()} newest audit frames alone")
    elif parts.judged_on == NOBODY:
        notes.append("not judged: no patient is held out and there are no new audit frames")
    return parts


def judge(
    material: Material,
    parts: Split,
    before: NDArray[np.float32] | None,
    after: NDArray[np.float32],
    shared: Sequence[int],
    table: CorrelationTable,
    names: Sequence[str],
    settings: Settings,
) -> tuple[dict[str, Any], str]:
    """Judge a version's network by the frames set aside; return the figures, and the reason to hold it back, if any.

    ``after`` (n, l) are its probabilities for all frames, ``before`` (n, l) the parent's, None without one. The two are
    compared on the ``shared`` columns, those of symptoms that the parent knows too.
    """
    rows = np.flatnonzero(parts.judged)
    truth, known = material.labels[rows], material.known[rows]
    of_frame = material.patients
    patients = [of_frame[row] for row in rows]
    plain = plain_labels(after[rows])
    right = judgement.matches(truth, plain, known)
    validated = table.validate(after[rows])[0] if len(rows) else plain
    comparison = None
    if before is not None:
        both = known.copy()
        both[:, [column for column in range(len(names)) if column not in shared]] = False
        comparison = judgement.compare(
            judgement.matches(truth, plain_labels(before[rows]), both),
            judgement.matches(truth, plain, both),
            patients,
            settings.seed,
        )
    symptoms = judgement.per_label(truth, plain, known, names, patients, settings.seed)
    figures = {
        "frames": len(rows),
        "patients": len(set(patients)),
        "judged_on": parts.judged_on,
        "sample": (UNIFORM if parts.uniform else NOT_UNIFORM) if parts.judged.any() else "",
        "symptoms": {name: {key: _json(one) for key, one in row.items()} for name, row in symptoms.items()},
        "exact_match": _json(judgement.figure(right, patients, settings.seed)),
        "exact_match_validated": _json(
            judgement.figure(judgement.matches(truth, validated, known), patients, settings.seed)
        ),
        "exact_match_parent": _json(comparison.before if comparison else None),
        "patients_worse": comparison.worse if comparison else None,
        "patients_better": comparison.better if comparison else None,
    }
    return figures, comparison.regression(settings.largest_fall) if comparison else ""


def ticks(
    services: Services,
    project: int,
    fresh: Sequence[Labelled],
    audited: Collection[int],
    configuration: Configuration,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Measure the ticks that annotators saw on the ``fresh`` annotations, which nothing was trained on yet.

    Returns the shares of the whole batch, which the strategy chose, and the figures on its ``audited`` frames, which
    are a uniform sample of the pool: ``stood`` is the share of shown defaults that were right.
    """
    shown = services.studio.shown_predictions(project, [one.annotation for one in fresh])
    defaults = [default_of(shown.get(one.annotation.id), configuration) for one in fresh]
    by_hand = {
        "manual_share_validated": _by_hand(fresh, [default.labels for default in defaults]),
        "manual_share_plain": _by_hand(fresh, [default.plain for default in defaults]),
    }
    offered = np.array([default.labels is not None for default in defaults], bool)
    audit = np.array([one.annotation.task in audited for one in fresh], bool)
    patients = np.array([one.patient for one in fresh], object)

    def measured(flags: NDArray[np.bool_], rows: NDArray[np.bool_]) -> dict[str, Any] | None:
        return _json(judgement.figure(flags[rows], patients[rows].tolist(), services.settings.seed))

    whole = {"annotations": len(fresh), "with_default": int(offered.sum())} | {
        name: float(flags.mean()) if len(flags) else None for name, flags in by_hand.items()
    }
    figures: dict[str, Any] = {
        "frames": int(audit.sum()),
        "stood": measured(~by_hand["manual_share_validated"], audit & offered),
    }
    return whole, figures | {name: measured(flags, audit) for name, flags in by_hand.items()}


def _by_hand(fresh: Sequence[Labelled], defaults: Sequence[NDArray[np.uint8] | None]) -> NDArray[np.bool_]:
    """Whether each frame was confirmed differently from its default, or had none."""
    pairs = zip(fresh, defaults, strict=True)
    return np.array([default is None or (one.labels != default).any() for one, default in pairs], bool)


def _json(figure: Figure | None) -> dict[str, Any] | None:
    return None if figure is None else asdict(figure)
