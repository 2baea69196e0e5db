"""Simulated annotation: the product's loop with annotators who always give the experts' labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from ml_backend.msml import finetune
from ml_backend.msml.network import Network
from ml_backend.settings import Settings
from ml_backend.store.quantised import restore
from ml_backend.tsal import adaptive, metrics
from ml_backend.tsal.acquisition import DIVERSE
from ml_backend.tsal.audit import AuditSample
from ml_backend.tsal.belief import Audited, believe
from ml_backend.tsal.correlation import CorrelationTable, build, plain_labels
from ml_backend.tsal.judgement import compare, matches
from ml_backend.tsal.likeness import Places
from ml_backend.tsal.memory import Remembered
from ml_backend.tsal.rarity import positive_weights
from ml_backend.tsal.round import Batch, Known, Pool, Rows, Rules, choose, generator
from ml_backend.tsal.split import NOBODY, Split, held_out, set_aside
from ml_backend.tsal.ticks import VALIDATORS, Tables
from studies.dataset import ClipSet

State = dict[str, NDArray[np.float32]]
Outcome = Literal["trained", "held back", "nothing to learn"]
TAIL_ROWS = 256


@dataclass(frozen=True)
class Material:
    """What a run works on: frames, their trunk activations (n, views, bytes), where they come from, a network."""

    clips: ClipSet
    records: NDArray[np.uint8]
    places: Places
    network: Network
    start: Callable[[int], State]


@dataclass(frozen=True)
class Way:
    """How a run learns; everything but the paper's loop itself is one of these switches.

    ``last_batch_only``: train on the newest batch instead of everything confirmed; ``restart``: begin each fine-tune
    with the pre-trained weights instead of the last version's; ``augmented``: draw from all views instead of the frame
    itself; ``weighted``: positive weights for rare symptoms; ``audit``: share of every batch that is
    drawn at random, as in the product; ``hold_out``: share of the pool's patients that are never trained on, as in the
    product. Where it is 0 no version is judged, since the study has test patients of its own; else one that got worse
    by more than ``largest_fall`` is held back, as in the product.
    """

    epochs: int = Settings.model_fields["epochs"].default
    minimum_steps: int = finetune.MINIMUM_STEPS
    augmented: bool = True
    restart: bool = False
    last_batch_only: bool = False
    weighted: bool = False
    audit: float = 0.15
    hold_out: float = 0.0
    largest_fall: float = 0.05


class Learner:
    """One line of versions: the network, and its tables, as fine-tunes leave them."""

    def __init__(self, material: Material, way: Way, seed: int) -> None:
        self.material = material
        self.way = way
        self.seed = seed
        labels = material.clips.labels.shape[1]
        self.tables = Tables.empty(labels)
        self.table_without_rule_9 = CorrelationTable.empty(labels)
        self.version = 0
        self.held_out = held_out(material.clips.patients, way.hold_out, seed)
        self._begin()

    def learn(self, labelled: Rows, batch: Rows, audited: Rows) -> Outcome:
        """Fine-tune on the ``labelled`` rows and renew the tables.

        ``batch`` are the new ones among them, ``audited`` those that an audit drew. A version that is worse than the
        one before is held back: weights and tables stay as they were.
        """
        parts = self._set_aside(labelled, batch, audited)
        rows = np.intersect1d(labelled[parts.training], batch) if self.way.last_batch_only else labelled[parts.training]
        if len(np.unique(self.material.clips.labels[rows], axis=0)) < 2:
            return "nothing to learn"
        judged = labelled[parts.judged]
        kept = self.material.network.trainable_state(), self.tables, self.table_without_rule_9
        before = self.probabilities(judged)
        self._train(rows)
        known = labelled[parts.training]
        labels, found = self.material.clips.labels[known], self.probabilities(known)
        self.tables, self.table_without_rule_9 = self.tables.learn(labels, found), build(labels, found)
        self.version += 1
        if self.version > 1 and self._worse(judged, before):
            state, self.tables, self.table_without_rule_9 = kept
            self.material.network.load_trainable_state(state)
            return "held back"
        return "trained"

    def _set_aside(self, labelled: Rows, batch: Rows, audited: Rows) -> Split:
        if not self.way.hold_out:
            return Split(np.ones(len(labelled), bool), np.zeros(len(labelled), bool), NOBODY, False)
        masks = self.held_out[labelled], np.isin(labelled, audited), np.isin(labelled, batch)
        return set_aside(self.material.clips.labels[labelled], *masks)

    def _worse(self, rows: Rows, before: NDArray[np.float32]) -> bool:
        clips = self.material.clips
        truth, known = clips.labels[rows], np.ones((len(rows), clips.labels.shape[1]), bool)
        compared = compare(
            matches(truth, plain_labels(before), known),
            matches(truth, plain_labels(self.probabilities(rows)), known),
            [clips.patients[row] for row in rows],
            self.seed,
        )
        return bool(compared and compared.regression(self.way.largest_fall))

    def _train(self, rows: Rows) -> None:
        material, way = self.material, self.way
        truth = material.clips.labels[rows]
        if way.restart:
            self._begin()
        records, views = material.records[rows], material.records.shape[1] if way.augmented else 1

        def sample(drawn: Rows, rng: np.random.Generator) -> NDArray[np.float32]:
            chosen = records[drawn, rng.integers(views, size=len(drawn))]
            return restore(list(chosen), material.network.activation_shape)

        finetune.finetune(
            material.network,
            sample,
            truth,
            epochs=way.epochs,
            minimum_steps=way.minimum_steps,
            positive_weights=positive_weights(truth) if way.weighted else None,
            seed=self.seed,
        )

    def probabilities(self, rows: Rows) -> NDArray[np.float32]:
        """What the network says of frames: (len(rows), l)."""
        network, records = self.material.network, self.material.records
        pieces: list[NDArray[np.float32]] = [np.zeros((0, network.label_count), np.float32)]
        for start in range(0, len(rows), TAIL_ROWS):
            kept = records[rows[start : start + TAIL_ROWS], 0]
            pieces.append(network.probabilities(restore(list(kept), network.activation_shape)))
        return np.concatenate(pieces)

    def _begin(self) -> None:
        self.material.network.load_trainable_state(self.material.start(self.seed))


def simulate(
    material: Material,
    pool: Rows,
    test: Rows,
    strategy: str,
    k_max: int,
    rounds: int,
    seed: int,
    way: Way,
) -> list[dict[str, Any]]:
    """Run the loop: select ``k_max`` rows of ``pool``, look at their pseudo-labels, confirm, fine-tune, and again.

    Returns a row a round: figures of the plain labels on ``test``, and the share of frames that annotators would have
    labelled by hand with each validator, None in the first round, which is labelled by hand: ``manual`` of the whole
    batch, as the paper reports it, and ``manual_audit`` of its audit frames, which is unbiased (None without any). The
    first batch is random, or by cluster centres of the trunk's features where the strategy is diverse or adaptive. Ends
    early when the pool is empty.
    """
    truth = material.clips.labels
    learner = Learner(material, way, seed)
    rest: Rows = pool.copy()
    labelled: Rows = np.empty(0, np.intp)
    audited: Rows = np.empty(0, np.intp)
    said: list[NDArray[np.float32]] = []  # of the audited rows, before they were answered
    trials: list[adaptive.Trial] = []
    history: list[dict[str, Any]] = []
    for _ in range(rounds):
        if not len(rest):
            break
        row: dict[str, Any] = {"strategy": strategy, "reason": ""}
        row |= dict.fromkeys(("validator", "manual", "manual_audit"))
        probabilities, before = None, len(trials)
        if learner.version:
            choice = adaptive.choose(trials)
            if strategy == "adaptive":
                row |= {"strategy": choice.strategy + DIVERSE, "reason": "; ".join(choice.reasons)}
            row["validator"] = choice.validator if strategy == "adaptive" else "table"
            probabilities = learner.probabilities(rest)
        batch = _batch(learner, rest, labelled, probabilities, row["strategy"], k_max)
        chosen = batch.order[:k_max]
        batch_rows = rest[chosen]
        if probabilities is not None:
            drawn = rest[batch.audit]
            ticks = _memory(learner, rest, labelled, (audited, said), probabilities)
            row["manual"] = _manual(learner, probabilities[chosen], truth[batch_rows], row["validator"], ticks[chosen])
            row["manual_audit"] = _manual(
                learner, probabilities[batch.audit], truth[drawn], row["validator"], ticks[batch.audit]
            )
            sample = AuditSample.of(drawn.tolist(), batch_rows.tolist(), probabilities[chosen], truth[batch_rows])
            trial = adaptive.trial(sample, learner.tables, generator(seed, learner.version))
            trials += [trial] if trial else []
        labelled = np.sort(np.concatenate([labelled, batch_rows]))  # by task, as in the product
        audited = np.concatenate([audited, rest[batch.audit]])
        said += _said(probabilities, batch.audit, truth.shape[1])
        rest = np.delete(rest, chosen)
        if learner.learn(labelled, batch_rows, audited) == "held back" and probabilities is not None:
            trials = trials[:before]  # the choice stays that of the version that serves
        found = figures(material.clips, test, learner.probabilities(test))
        history.append(row | {"labelled": len(labelled), "share": len(labelled) / len(pool)} | found)
    return history


def figures(
    clips: ClipSet, test: Rows, probabilities: NDArray[np.float32] | None, ticks: NDArray[np.uint8] | None = None
) -> dict[str, Any]:
    """Exact match, macro AUC (None where no symptom has both kinds of frames) and the figures of each symptom.

    Of the ``ticks``, or of the network's plain labels; the area is the network's, None without one.
    """
    truth = clips.labels[test]
    labels = plain_labels(probabilities) if ticks is None and probabilities is not None else ticks
    if labels is None:
        raise ValueError("figures need probabilities or ticks")
    return {
        "exact": metrics.exact_match(truth, labels),
        "auc": None if probabilities is None else macro_area(truth, probabilities),
        "symptoms": metrics.per_label(truth, labels, clips.symptoms),
    }


def macro_area(truth: NDArray[np.uint8], probabilities: NDArray[np.float32]) -> float | None:
    """The mean area under the ROC curve of the symptoms (n, l) that have both kinds of rows; None without any."""
    areas = [
        roc_auc_score(truth[:, column], probabilities[:, column])
        for column in range(truth.shape[1])
        if 0 < truth[:, column].sum() < len(truth)
    ]
    return float(np.mean(areas)) if areas else None


def _said(probabilities: NDArray[np.float32] | None, rows: Rows, symptoms: int) -> list[NDArray[np.float32]]:
    """What the network says of each of the rows; NaN before the first version."""
    return list(np.full((len(rows), symptoms), np.nan, np.float32) if probabilities is None else probabilities[rows])


def _memory(
    learner: Learner,
    rest: Rows,
    labelled: Rows,
    audit: tuple[Rows, list[NDArray[np.float32]]],
    probabilities: NDArray[np.float32],
) -> NDArray[np.uint8]:
    """What the memory validator would tick on the rows ``rest``; ``audit``: audited rows, what the network had said."""
    material = learner.material
    labels = material.clips.labels[labelled]
    remembered = Remembered(material.places[labelled], labels, np.ones(labels.shape, bool))
    said = np.array(audit[1], np.float32).reshape(-1, labels.shape[1])
    audited = Audited(np.searchsorted(labelled, audit[0]), said)
    return believe(material.places[rest], remembered, audited, probabilities, learner.tables).labels


def _batch(
    learner: Learner,
    rest: Rows,
    labelled: Rows,
    probabilities: NDArray[np.float32] | None,
    strategy: str,
    k_max: int,
) -> Batch:
    """The next batch, chosen by the product's own round."""
    material = learner.material
    clips = material.clips.clip_numbers
    asked = np.bincount(clips[labelled], minlength=clips.max() + 1)[clips[rest]]
    first: Literal["different", "random"] = "random"
    if strategy.endswith(DIVERSE) or strategy == "adaptive":
        first = "different"
    return choose(
        Pool(probabilities, material.places[rest], learner.held_out[rest]),
        Known(asked, material.clips.labels[labelled].sum(axis=0)),
        Rules(strategy, k_max, learner.way.audit, learner.seed, learner.version, first),
    )


def _manual(
    learner: Learner,
    probabilities: NDArray[np.float32],
    truth: NDArray[np.uint8],
    validator: str,
    remembered: NDArray[np.uint8],
) -> dict[str, float | None] | None:
    """Share of frames that each validator leaves to correct; None without frames.

    ``remembered`` (n, l) is what the memory would tick.
    """
    if not len(truth):
        return None
    offered = np.ones(len(truth), bool)
    shares = {
        name: metrics.manual_share(truth, validate(probabilities, learner.tables), offered)
        for name, validate in VALIDATORS.items()
    }
    without = learner.table_without_rule_9.validate(probabilities)[0]
    shares["memory"] = metrics.manual_share(truth, remembered, offered)
    return {
        **shares,
        "table without rule (9)": metrics.manual_share(truth, without, offered),
        "chosen": shares[validator],
    }
