"""One fine-tune: from the confirmed annotations in Label Studio to a new active version."""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import FrameUnreadable, NotEnoughLabels, UnknownLabel, VersionUnknown
from ml_backend.frames.frame import Frame
from ml_backend.frames.predictor import Predictor
from ml_backend.logs import event
from ml_backend.msml import finetune
from ml_backend.msml.network import Network
from ml_backend.services import Services
from ml_backend.settings import Disagreement, Settings
from ml_backend.store.versions import Manifest, TrainedOn, VersionStore
from ml_backend.studio.client import ConfirmedAnnotation
from ml_backend.studio.configuration import Configuration
from ml_backend.studio.payloads import default_of, labels_of
from ml_backend.tsal import adaptive, metrics, regression
from ml_backend.tsal.audit import AuditSample
from ml_backend.tsal.correlation import CorrelationTable, build, plain_labels
from ml_backend.tsal.round import generator
from ml_backend.tsal.split import held_out
from ml_backend.tsal.strengths import StrengthTable
from ml_backend.tsal.ticks import Tables

logger = logging.getLogger(__name__)
_SHOWN = 20  # numbers that a log line or a note names
REMEMBERED = 20  # trials that the choice of strategy and validator looks back on
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Labelled:
    """A frame with the confirmed annotation that counts for it."""

    annotation: ConfirmedAnnotation
    labels: NDArray[np.uint8]

    @property
    def seen(self) -> TrainedOn:
        """What a manifest remembers of it."""
        one = self.annotation
        return TrainedOn(annotation=one.id, task=one.task, updated_at=one.updated_at)


def confirmed(
    services: Services, project: int, configuration: Configuration, notes: list[str] | None = None
) -> list[Labelled]:
    """Pull the confirmed annotations, one a frame: of several that disagree the one that the settings' rule names.

    An annotation that the configuration does not know is left out, and so is a frame whose annotations disagree where
    the rule is to leave it out; how many, the log says in a line, and ``notes`` get it.
    """
    unknown: list[int] = []
    disagreeing: list[int] = []
    of_frame: dict[int, list[Labelled]] = defaultdict(list)
    for annotation in services.studio.confirmed_annotations(project):
        try:
            labelled = Labelled(annotation, labels_of(annotation.result, configuration))
        except UnknownLabel:
            unknown.append(annotation.id)
            continue
        of_frame[annotation.task].append(labelled)
    rule = services.settings.disagreement
    found: list[Labelled] = []
    for task, several in sorted(of_frame.items()):
        settled = settle(several, rule)
        if settled is None:
            disagreeing.append(task)
        else:
            found.append(settled)
    for what, numbers in (
        ("annotations with symptoms that the configuration does not have", unknown),
        ("tasks whose annotations disagree", disagreeing),
    ):
        if numbers:
            shown = ", ".join(map(str, numbers[:_SHOWN])) + (", …" if len(numbers) > _SHOWN else "")
            event(logger, "left out", level=logging.WARNING, project=project, kind=what, count=len(numbers), ids=shown)
            if notes is not None:
                notes.append(f"left out {len(numbers)} {what}: {shown}")
    return found


def settle(several: Sequence[Labelled], rule: Disagreement) -> Labelled | None:
    """The annotation that counts for a frame, None where the rule leaves the frame out.

    ``latest``: the one that was changed last. ``majority``: of the labels that most annotations give, the one that was
    changed last; of a tie the last of all that tie. ``leave out``: the last one if all agree.
    """
    votes = Counter(one.labels.tobytes() for one in several)
    if rule == "leave out" and len(votes) > 1:
        return None
    most = max(votes.values())
    heard = [one for one in several if rule != "majority" or votes[one.labels.tobytes()] == most]
    return max(heard, key=lambda one: (one.annotation.updated_at, one.annotation.id))


def changed_since(labelled: Sequence[Labelled], manifest: Manifest | None) -> list[Labelled]:
    """The annotations that a version has not seen in their present form."""
    seen = set(manifest.seen) if manifest else set()
    return [one for one in labelled if one.seen not in seen]


def fine_tune(
    services: Services, project: int, report: Report, job: str | None = None, trigger: str | None = None
) -> Manifest:
    """Train on everything confirmed, store the version and make it active unless it is worse than the active one.

    Raises:
        NotEnoughLabels: where there is too little to learn from.
        FrameUnreadable: where a frame that could be read when the job began cannot be any more.
        StudioUnavailable: where Label Studio is away; frames that it has are not left out for that.
        VersionSuperseded: where another job stored a version meanwhile.
    """
    started = time.monotonic()
    settings = services.settings
    store = services.versions(project)
    newest, serving = store.newest(), store.active()
    info = services.studio.project(project)
    configuration = services.configuration(info.label_config)
    names = configuration.label_set.names
    notes: list[str] = []

    report("reading annotations", 0, 1)
    labelled = confirmed(services, project, configuration, notes)
    _require_two_combinations(labelled)
    fresh = changed_since(labelled, newest)

    frames = [
        Frame.of(one.annotation.task, one.annotation.data, configuration.image_key, settings.clip_key)
        for one in labelled
    ]
    predictor = services.predictor
    readable: list[Frame] = []
    digests: list[bytes] = []
    for chunk in predictor.activations(frames, len(names), settings.views):
        readable.extend(chunk.frames)
        digests.extend(chunk.digests)
        report("reading frames", len(readable), len(frames))
    there = {frame.task for frame in readable}
    left_out = [one for one in labelled if one.annotation.task not in there]
    labelled = [one for one in labelled if one.annotation.task in there]
    if left_out:
        notes.append(f"{len(left_out)} frames could not be read and were left out")
    labels = np.array([one.labels for one in labelled], np.uint8).reshape(len(labelled), len(names))
    bank = predictor.bank(readable, digests, len(names))
    read_seconds = time.monotonic() - started

    validation = _validation(labelled, labels, settings, notes)
    network = predictor.fresh(len(names))
    held = {one.annotation.task for one, kept in zip(labelled, validation, strict=True) if kept}
    parent = _parent(store.active_manifest() or newest, names, network.trunk_key, held, notes)
    held_frames = [frame for frame, kept in zip(readable, validation, strict=True) if kept]
    before: NDArray[np.float32] | None = None
    if parent is not None:
        network.load_tail(store.tail(parent.version))
        before = _probabilities(predictor, network, held_frames) if held_frames else None
    audited = services.audits(project).tasks()
    trial = _trial(predictor, network, parent, {one.annotation.task for one in fresh} & audited, readable, labels)
    training_rows = np.flatnonzero(~validation)
    training_started = time.monotonic()
    losses = finetune.finetune(
        network,
        lambda rows, rng: bank.sample(training_rows[rows], rng),
        labels[~validation],
        epochs=settings.epochs,
        minimum_steps=settings.minimum_steps,
        learning_rate=settings.learning_rate,
        seed=settings.seed,
        progress=lambda epoch, epochs, loss: report("training", epoch, epochs),
    )
    training_seconds = time.monotonic() - training_started

    probabilities = _probabilities(predictor, network, readable)
    table = CorrelationTable.from_json(parent.table) if parent else CorrelationTable.empty(len(names))
    table = table.update(build(labels[~validation], probabilities[~validation]))
    strengths = StrengthTable.build(labels[~validation], probabilities[~validation])
    comparison = None
    if before is not None:
        truth, after = labels[validation], probabilities[validation]
        comparison = regression.compare(truth, plain_labels(before), plain_labels(after))
    held_back = comparison.regression(settings.largest_fall) if comparison else ""
    trials = [*_trials(store, parent), *([trial] if trial else [])]
    choice = adaptive.choose(trials)
    manifest = store.create(
        Manifest(
            parent=parent.version if parent else None,
            project=project,
            created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            job=job,
            trigger=trigger,
            backbone=settings.backbone,
            weights=settings.weights or "ImageNet",
            trunk_key=network.trunk_key,
            label_names=names,
            trained_on=tuple(one.seen for one, held in zip(labelled, validation, strict=True) if not held),
            held_out=tuple(one.seen for one, held in zip(labelled, validation, strict=True) if held),
            left_out=tuple(one.seen for one in left_out),
            table=table.to_json(),
            strengths=strengths.to_json(),
            metrics=_metrics(labels[validation], probabilities[validation], table, names)
            | {"exact_match_parent": comparison.before if comparison else None},
            batch=_batch(services, project, fresh, configuration),
            trial=asdict(trial) if trial else None,
            choice=asdict(choice) | {"reasons": list(choice.reasons)},
            clips=dict(Counter(frame.clip for frame in readable)),
            positives=dict(zip(names, labels.sum(axis=0, dtype=int).tolist(), strict=True)),
            losses=tuple(losses),
            seconds={
                "read": round(read_seconds, 3),
                "finetune": round(training_seconds, 3),
                "total": round(time.monotonic() - started, 3),
            },
            settings=settings.model_dump(
                mode="json",
                include={
                    "epochs",
                    "minimum_steps",
                    "learning_rate",
                    "views",
                    "k_max",
                    "strategy",
                    "validator",
                    "hold_out",
                    "disagreement",
                    "largest_fall",
                },
            ),
            seed=settings.seed,
            notes=tuple(notes),
            held_back=held_back,
        ),
        lambda path: network.save_tail(path, {"labels": " | ".join(names)}),
        number=newest.number + 1 if newest else 1,
        by=job or "fine-tune",
        expected=serving,
    )
    held_back = manifest.held_back  # a person may have activated another version meanwhile
    event(
        logger,
        "version held back" if held_back else "version active",
        level=logging.WARNING if held_back else logging.INFO,
        project=project,
        version=manifest.version,
        job=job,
        annotations=len(labelled),
        held_out=int(validation.sum()),
        exact_match=manifest.metrics["exact_match"],
        parent=manifest.parent,
        exact_match_parent=manifest.metrics["exact_match_parent"],
        reason=held_back or None,
        seconds=manifest.seconds["total"],
    )
    return manifest


def _require_two_combinations(labelled: Sequence[Labelled]) -> None:
    """Refuse before any frame is read; where readable frames alone have too few, `finetune` refuses."""
    if len({one.labels.tobytes() for one in labelled}) < 2:
        raise NotEnoughLabels(
            "all confirmed annotations carry the same labels: the network needs two different label combinations"
        )


def _parent(
    newest: Manifest | None, names: tuple[str, ...], trunk_key: str, held: set[int], notes: list[str]
) -> Manifest | None:
    """The version whose weights and table are gone on from; None where a new line of versions begins."""
    if newest is None:
        return None
    if newest.label_names != names:
        reason = "has other symptoms"
    elif newest.trunk_key != trunk_key:
        reason = "has another backbone or other weights"
    elif any(one.task in held for one in newest.trained_on):
        # Weights that have seen them would make the figures on held-out patients look better than they are.
        reason = "was trained on patients that are held out now"
    else:
        return newest
    notes.append(f"starts anew: {newest.version} {reason}")
    event(logger, "new line of versions", project=newest.project, version=newest.version, reason=reason)
    return None


def _trial(
    predictor: Predictor,
    network: Network,
    parent: Manifest | None,
    fresh: set[int],
    frames: Sequence[Frame],
    labels: NDArray[np.uint8],
) -> adaptive.Trial | None:
    """Try on the ``fresh`` audited tasks what the parent, whose weights the network has, could have chosen and ticked.

    ``labels`` (n, l) are those of the n frames. A frame whose annotation was changed after the parent had learnt it is
    no fair test. None without a parent, from before there were strengths, or a frame to try.
    """
    if parent is None or not parent.strengths:
        return None
    new = fresh - {one.task for one in parent.trained_on}
    rows = [row for row, frame in enumerate(frames) if frame.task in new]
    if not rows:
        return None
    probabilities = _probabilities(predictor, network, [frames[row] for row in rows])
    return adaptive.trial(
        AuditSample.of(new, [frames[row].task for row in rows], probabilities, labels[rows]),
        Tables.from_json(parent.table, parent.strengths),
        generator(parent.seed, parent.number),
    )


def _trials(store: VersionStore, newest: Manifest | None) -> list[adaptive.Trial]:
    """The trials of a version and of those it comes from, oldest first, as far back as they still count."""
    found: list[adaptive.Trial] = []
    while newest is not None and len(found) < REMEMBERED:
        if newest.trial:
            found.append(adaptive.Trial(**newest.trial))
        try:
            newest = store.get(newest.parent) if newest.parent else None
        except VersionUnknown:  # removed or damaged since, which no new version must fail for
            newest = None
    return found[::-1]


def _probabilities(predictor: Predictor, network: Network, frames: Sequence[Frame]) -> NDArray[np.float32]:
    rows: list[NDArray[np.float32]] = []
    for chunk in predictor.activations(frames, network.label_count):
        for reason in chunk.unreadable.values():  # it could be read before, and the cache has lost it since
            raise FrameUnreadable(reason)
        rows.append(network.probabilities(chunk.activations))
    return np.concatenate(rows)


def _validation(
    labelled: Sequence[Labelled], labels: NDArray[np.uint8], settings: Settings, notes: list[str]
) -> NDArray[np.bool_]:
    """Rows of the patients that are never trained on; a frame without a patient is a patient of its own."""
    named = [one.annotation.data.get(settings.patient_key) for one in labelled]
    patients = [str(name or f"task {one.annotation.task}") for name, one in zip(named, labelled, strict=True)]
    if not all(named):
        notes.append("frames without a patient are held out one by one, which may leak near-duplicates")
    validation = held_out(patients, settings.hold_out, settings.seed)
    if len(np.unique(labels[~validation], axis=0)) < 2:
        notes.append("nobody held out: the other patients have fewer than two label combinations")
        validation[:] = False
    return validation


def _metrics(
    truth: NDArray[np.uint8], probabilities: NDArray[np.float32], table: CorrelationTable, names: tuple[str, ...]
) -> dict[str, Any]:
    """Figures on held-out patients: of the 0.5 threshold per symptom, exact match of it and of the validated label."""
    plain = (probabilities > 0.5).astype(np.uint8)
    validated = table.validate(probabilities)[0] if len(truth) else plain
    return {
        "frames": len(truth),
        "symptoms": metrics.per_label(truth, plain, names),
        "exact_match": metrics.exact_match(truth, plain),
        "exact_match_validated": metrics.exact_match(truth, validated),
    }


def _batch(services: Services, project: int, fresh: Sequence[Labelled], configuration: Configuration) -> dict[str, Any]:
    """How the defaults that annotators saw did on the new annotations: a test taken before training on them."""
    shown = services.studio.shown_predictions(project, [one.annotation for one in fresh])
    defaults = [default_of(shown.get(one.annotation.id), configuration) for one in fresh]
    width = len(configuration.label_set.names)
    nothing = np.zeros(width, np.uint8)
    truth = np.array([one.labels for one in fresh], np.uint8).reshape(len(fresh), width)

    def share(columns: list[NDArray[np.uint8] | None]) -> float | None:
        rows = np.array([nothing if row is None else row for row in columns], np.uint8).reshape(len(fresh), width)
        return metrics.manual_share(truth, rows, np.array([row is not None for row in columns], bool))

    return {
        "annotations": len(fresh),
        "with_default": sum(default.labels is not None for default in defaults),
        "manual_share_validated": share([default.labels for default in defaults]),
        "manual_share_plain": share([default.plain for default in defaults]),
    }
