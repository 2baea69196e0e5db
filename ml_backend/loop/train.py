"""One fine-tune: from the confirmed annotations in Label Studio to a new active version."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import FrameUnreadable, NotEnoughLabels
from ml_backend.frames.frame import Frame
from ml_backend.frames.predictor import Predictor
from ml_backend.logs import event
from ml_backend.loop import audit, trials
from ml_backend.loop.collect import Collected, Labelled, Material, Report, changed_since, collect, read
from ml_backend.loop.judge import judge, split, ticks
from ml_backend.services import Services
from ml_backend.store.files import require_room
from ml_backend.store.versions import Manifest, VersionStore
from ml_backend.tsal.correlation import CorrelationTable, countable
from ml_backend.tsal.labels import columns_of, shared_of
from ml_backend.tsal.split import Split
from ml_backend.tsal.ticks import Tables

if TYPE_CHECKING:
    from ml_backend.msml.network import Network

logger = logging.getLogger(__name__)
RECORDED = {
    "epochs",
    "minimum_steps",
    "learning_rate",
    "views",
    "k_max",
    "strategy",
    "validator",
    "hold_out",
    "disagreement",
    "accepted",
    "imported",
    "largest_fall",
}
"""Settings that a version's manifest keeps."""
VERSION_BYTES = 32 << 20
"""Room that a version may need."""


@dataclass(frozen=True)
class Start:
    """The start of a training.

    ``network`` carries the weights of ``parent``, or the pre-trained ones where a new line of versions begins (None);
    ``columns`` (l,) gives each symptom's place in the parent, None for a symptom that the parent does not know.
    """

    network: Network
    parent: Manifest | None
    columns: list[int | None]

    @property
    def shared(self) -> list[int]:
        """Columns of the symptoms that the parent knows too."""
        return shared_of(self.columns)


def fine_tune(
    services: Services,
    project: int,
    report: Report,
    job: str | None = None,
    trigger: str | None = None,
    answers: Collected | None = None,
) -> Manifest:
    """Train on everything confirmed, store the version and make it active unless it is worse than the active one.

    ``answers``: everything confirmed, where that has been read a moment ago.

    Raises:
        NotEnoughLabels: if there is too little to learn from.
        FrameUnreadable: if a frame becomes unreadable during the job.
        StudioUnavailable: if Label Studio does not answer.
        VersionSuperseded: if another job stored a version meanwhile.
        OSError: if the disk takes no version; this shows before the training.
    """
    started = time.monotonic()
    settings, store = services.settings, services.versions(project)
    newest, serving = store.newest(), store.active()
    basis = store.active_manifest() or newest
    require_room(store.folder, VERSION_BYTES)
    report("reading annotations", 0, 1)
    collected = answers or _confirmed(services, project)
    configuration = collected.configuration
    names = configuration.label_names
    _require_two_combinations(collected.labelled)
    fresh = changed_since(collected.labelled, newest)
    material = read(services, collected.labelled, configuration, report)
    read_seconds = time.monotonic() - started
    notes = _notes(collected, material)
    audited = services.audits(project).tasks()
    seen = _seen(newest, basis)
    parts = split(material, audited, seen, settings, notes)
    start = _start(services.predictor, store, basis, names, material, parts, notes)
    tried = trials.tried(start.parent, start.columns, material, {one.annotation.task for one in fresh} & audited)
    before = _before(services.predictor, start, material, parts.judged | tried)
    trial = trials.trial(start.parent, start.columns, before, material, tried)
    losses, training_seconds = _learn(services, start.network, material, parts, report)
    after = _probabilities(services.predictor, start.network, material.frames)
    tables = _tables(start, material, parts, after)
    figures, held_back = judge(material, parts, before, after, start.shared, tables.correlation, names, settings)
    batch, figures_of_ticks = ticks(services, project, fresh, audited - seen, configuration)
    took = {"read": read_seconds, "finetune": training_seconds, "total": time.monotonic() - started}
    return _publish(
        services,
        start,
        newest,
        serving,
        project=project,
        job=job,
        trigger=trigger,
        label_names=names,
        table=tables.correlation.to_json(),
        strengths=tables.strengths.to_json(),
        metrics=figures,
        batch=batch,
        ticks=figures_of_ticks | audit.figures(services, project, collected.labelled, configuration),
        **trials.chosen(store, start.parent, trial),
        losses=tuple(losses),
        seconds={name: round(seconds, 3) for name, seconds in took.items()},
        notes=tuple(notes),
        held_back=held_back,
        **_learnt_from(collected, material, parts, names),
    )


def _confirmed(services: Services, project: int) -> Collected:
    return collect(services, project, services.configuration(services.studio.project(project).label_config))


def _seen(newest: Manifest | None, basis: Manifest | None) -> set[int]:
    """The tasks that an earlier version knew, or that the weights to start from were trained on."""
    return {one.task for one in (*(newest.seen if newest else ()), *(basis.trained_on if basis else ()))}


def _require_two_combinations(labelled: Sequence[Labelled]) -> None:
    """Refuse before any frame is read; where readable frames alone have too few, `finetune` refuses."""
    if len({one.labels.tobytes() for one in labelled}) < 2:
        raise NotEnoughLabels(
            "all confirmed annotations carry the same labels: the network needs two different label combinations"
        )


def _notes(collected: Collected, material: Material) -> list[str]:
    notes = list(collected.notes)
    if material.left_out:
        notes.append(f"{len(material.left_out)} frames could not be read and were left out")
    partly = int((~material.known.all(axis=1)).sum())
    if partly:
        notes.append(f"{partly} frames were annotated before a symptom was added: it counts as unknown there")
    return notes


def _start(
    predictor: Predictor,
    store: VersionStore,
    basis: Manifest | None,
    names: tuple[str, ...],
    material: Material,
    parts: Split,
    notes: list[str],
) -> Start:
    """Load the parent's weights, its outputs matched by name, or begin a new line of versions."""
    network = predictor.fresh(len(names))
    held = {task for task, trained in zip(material.tasks, parts.training, strict=True) if not trained}
    columns = columns_of(names, basis.label_names if basis else ())
    reason = _unusable(basis, columns, network, held) if basis else None
    if basis is None or reason:
        if basis:
            notes.append(f"starts anew: {basis.version} {reason}")
            event(logger, "new line of versions", project=basis.project, version=basis.version, reason=reason)
        return Start(network, None, [None] * len(names))
    if basis.label_names != names:
        known = ", ".join(basis.label_names)
        notes.append(f"the symptoms changed: {basis.version} knew {known}; outputs that stay keep their weights")
    network.load_tail(store.tail(basis.version), columns)
    return Start(network, basis, columns)


def _unusable(basis: Manifest, columns: Sequence[int | None], network: Network, held: set[int]) -> str | None:
    """The reason why training cannot start from a version's weights, or None."""
    if all(column is None for column in columns):
        return "has other symptoms"
    if not network.fits(basis.trunk_key):
        return "has another backbone or other weights"
    if any(one.task in held for one in basis.trained_on):
        # Weights that have seen them would make the figures look better than they are.
        return "was trained on patients that are held out now"
    return None


def _before(
    predictor: Predictor, start: Start, material: Material, wanted: NDArray[np.bool_]
) -> NDArray[np.float32] | None:
    """The parent's probabilities (n, l) of the ``wanted`` frames, 0 for the others; None without a parent."""
    if start.parent is None:
        return None
    probabilities = np.zeros(material.labels.shape, np.float32)
    rows = np.flatnonzero(wanted)
    if len(rows):
        probabilities[rows] = _probabilities(predictor, start.network, [material.frames[row] for row in rows])
    return probabilities


def _learn(
    services: Services, network: Network, material: Material, parts: Split, report: Report
) -> tuple[list[float], float]:
    """Train the network on its part of the frames; returns the losses and the seconds that it took."""
    from ml_backend.msml import finetune

    started, settings = time.monotonic(), services.settings
    bank = services.predictor.bank(material.frames, material.digests, material.labels.shape[1])
    rows = np.flatnonzero(parts.training)
    losses = finetune.finetune(
        network,
        lambda drawn, rng: bank.sample(rows[drawn], rng),
        material.labels[rows],
        known=material.known[rows],
        epochs=settings.epochs,
        minimum_steps=settings.minimum_steps,
        learning_rate=settings.learning_rate,
        seed=settings.seed,
        progress=lambda epoch, epochs, loss: report("training", epoch, epochs),
    )
    return losses, time.monotonic() - started


def _tables(start: Start, material: Material, parts: Split, probabilities: NDArray[np.float32]) -> Tables:
    """Both tables of the new network, with rows only for combinations that are among the confirmed frames now."""
    rows = np.flatnonzero(parts.training)
    rows = rows[countable(material.labels[rows], material.known[rows])]
    labels = material.labels[rows]
    tables = Tables.empty(labels.shape[1])
    if start.parent is not None:
        table = CorrelationTable.from_json(start.parent.table).relabel(start.columns)
        tables = Tables(table, tables.strengths)
    return tables.learn(labels, probabilities[rows])


def _probabilities(predictor: Predictor, network: Network, frames: Sequence[Frame]) -> NDArray[np.float32]:
    rows: list[NDArray[np.float32]] = []
    for chunk in predictor.activations(frames, network.label_count):
        for reason in chunk.unreadable.values():  # it was readable before, but the cache has lost it
            raise FrameUnreadable(reason)
        rows.append(network.probabilities(chunk.activations))
    return np.concatenate(rows)


def _learnt_from(collected: Collected, material: Material, parts: Split, names: tuple[str, ...]) -> dict[str, Any]:
    """What a manifest keeps of the frames."""
    pairs = list(zip(material.labelled, parts.training, strict=True))
    return {
        "trained_on": tuple(one.seen for one, trained in pairs if trained),
        "held_out": tuple(one.seen for one, trained in pairs if not trained),
        "left_out": tuple(one.seen for one in material.left_out),
        "accepted": collected.accepted,
        "clips": dict(Counter(frame.clip for frame in material.frames)),
        "positives": dict(zip(names, material.labels.sum(axis=0, dtype=int).tolist(), strict=True)),
    }


def _publish(services: Services, start: Start, newest: Manifest | None, serving: str | None, **fields: Any) -> Manifest:
    """Store the version after ``newest``; activate it unless it is held back or ``serving`` is no longer active."""
    settings = services.settings
    manifest = services.versions(fields["project"]).create(
        Manifest(
            parent=start.parent.version if start.parent else None,
            created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            trunk_key=start.network.trunk_key,
            backbone=settings.backbone,
            weights=settings.weights or "ImageNet",
            settings=settings.model_dump(mode="json", include=RECORDED),
            seed=settings.seed,
            **fields,
        ),
        lambda path: start.network.save_tail(path, {"labels": " | ".join(fields["label_names"])}),
        number=newest.number + 1 if newest else 1,
        by=fields["job"] or "fine-tune",
        expected=serving,
    )
    _log(manifest)
    return manifest


def _log(manifest: Manifest) -> None:
    event(
        logger,
        "version held back" if manifest.held_back else "version active",
        level=logging.WARNING if manifest.held_back else logging.INFO,
        project=manifest.project,
        version=manifest.version,
        job=manifest.job,
        annotations=len(manifest.trained_on) + len(manifest.held_out),
        held_out=len(manifest.held_out),
        accepted_unseen=manifest.accepted or None,
        judged_on=manifest.metrics["judged_on"],
        sample=manifest.metrics["sample"] or None,
        exact_match=manifest.figure("exact_match"),
        parent=manifest.parent,
        exact_match_parent=manifest.figure("exact_match_parent"),
        reason=manifest.held_back or None,
        seconds=manifest.seconds["total"],
    )
