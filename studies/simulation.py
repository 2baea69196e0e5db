"""Simulated annotation: the product's loop with annotators who always give the experts' labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from ml_backend.msml import finetune
from ml_backend.msml.network import Network
from ml_backend.store.quantised import restore
from ml_backend.tsal import adaptive, metrics
from ml_backend.tsal.acquisition import DIVERSE, score, select
from ml_backend.tsal.batch import candidates, diverse
from ml_backend.tsal.correlation import CorrelationTable, build, plain_labels
from ml_backend.tsal.diversity import spread
from ml_backend.tsal.rarity import feed_rare, positive_weights
from ml_backend.tsal.strengths import StrengthTable
from studies.dataset import ClipSet

State = dict[str, NDArray[np.float32]]
TAIL_ROWS = 256


@dataclass(frozen=True)
class Material:
    """What a run works on: frames, their trunk activations (n, views, bytes), embeddings (n, d), a network."""

    clips: ClipSet
    records: NDArray[np.uint8]
    embeddings: NDArray[np.float32]
    network: Network
    start: Callable[[int], State]


@dataclass(frozen=True)
class Way:
    """How a run learns; everything but the paper's loop itself is one of these switches.

    ``last_batch_only``: train on the newest batch instead of everything confirmed; ``restart``: begin each fine-tune
    with the pre-trained weights instead of the last version's; ``augmented``: draw from all views instead of the frame
    itself; ``weighted``: positive weights for rare symptoms.
    """

    epochs: int = 10
    minimum_steps: int = finetune.MINIMUM_STEPS
    augmented: bool = True
    restart: bool = False
    last_batch_only: bool = False
    weighted: bool = False


class Learner:
    """One line of versions: the network, and both tables, as fine-tunes leave them."""

    def __init__(self, material: Material, way: Way, seed: int) -> None:
        self.material = material
        self._way = way
        self._seed = seed
        labels = material.clips.labels.shape[1]
        self.table = CorrelationTable.empty(labels)
        self.table_without_rule_9 = self.table
        self.strengths: StrengthTable | None = None
        self._begin()

    def learn(self, labelled: NDArray[np.intp], batch: NDArray[np.intp]) -> bool:
        """Fine-tune on the labelled rows, of which ``batch`` are new, and renew the tables; False where none can be."""
        material, way = self.material, self._way
        rows = batch if way.last_batch_only else labelled
        truth = material.clips.labels[rows]
        if len(np.unique(truth, axis=0)) < 2:
            return False
        if way.restart:
            self._begin()
        records, views = material.records[rows], material.records.shape[1] if way.augmented else 1

        def sample(drawn: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.float32]:
            chosen = records[drawn, rng.integers(views, size=len(drawn))]
            return restore(list(chosen), material.network.activation_shape)

        finetune.finetune(
            material.network,
            sample,
            truth,
            epochs=way.epochs,
            minimum_steps=way.minimum_steps,
            positive_weights=positive_weights(truth) if way.weighted else None,
            seed=self._seed,
        )
        labels, found = material.clips.labels[labelled], self.probabilities(labelled)
        fresh = build(labels, found)
        self.table, self.table_without_rule_9 = self.table.update(fresh), fresh
        self.strengths = StrengthTable.build(labels, found)
        return True

    def probabilities(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """What the network says of frames: (len(rows), l)."""
        network, records = self.material.network, self.material.records
        pieces: list[NDArray[np.float32]] = [np.zeros((0, network.label_count), np.float32)]
        for start in range(0, len(rows), TAIL_ROWS):
            kept = records[rows[start : start + TAIL_ROWS], 0]
            pieces.append(network.probabilities(restore(list(kept), network.activation_shape)))
        return np.concatenate(pieces)

    def _begin(self) -> None:
        self.material.network.load_trainable_state(self.material.start(self._seed))


def simulate(
    material: Material,
    pool: NDArray[np.intp],
    test: NDArray[np.intp],
    strategy: str,
    k_max: int,
    rounds: int,
    seed: int,
    way: Way,
) -> list[dict[str, Any]]:
    """Run the loop: select ``k_max`` rows of ``pool``, look at their pseudo-labels, confirm, fine-tune, and again.

    Returns a row a round: figures of the plain labels on ``test``, and the share of the batch that annotators would
    have labelled by hand with each validator (None in the first round, which is labelled by hand). The first batch is
    random, or by cluster centres of the trunk's features where the strategy is diverse or adaptive. Ends early when the
    pool is empty.
    """
    truth = material.clips.labels
    rng = np.random.default_rng([seed, 1])
    learner = Learner(material, way, seed)
    rest: NDArray[np.intp] = pool.copy()
    labelled: NDArray[np.intp] = np.empty(0, np.intp)
    trials: list[adaptive.Trial] = []
    history: list[dict[str, Any]] = []
    for _ in range(rounds):
        count = min(k_max, len(rest))
        if count == 0:
            break
        row: dict[str, Any] = {"strategy": strategy, "validator": None, "reason": "", "manual": None}
        if learner.strengths is None:
            chosen = _first(material, rest, strategy, count, rng)
        else:
            choice = adaptive.choose(trials)
            if strategy == "adaptive":
                row |= {"strategy": choice.strategy + DIVERSE, "reason": "; ".join(choice.reasons)}
            row["validator"] = choice.validator if strategy == "adaptive" else "table"
            probabilities = learner.probabilities(rest)
            chosen = _next(material, rest, labelled, probabilities, row["strategy"], count, rng)
            batch, seen = truth[rest[chosen]], probabilities[chosen]
            trial = adaptive.trial(seen, batch, learner.table, learner.strengths, rng)
            assert trial is not None  # there are frames in the batch, and rows in the tables
            trials.append(trial)
            row["manual"] = _manual(learner, seen, batch, trial, row["validator"])
        batch_rows = rest[chosen]
        labelled = np.concatenate([labelled, batch_rows])
        rest = np.delete(rest, chosen)
        learner.learn(labelled, batch_rows)
        found = figures(material.clips, test, learner.probabilities(test))
        history.append(row | {"labelled": len(labelled), "share": len(labelled) / len(pool)} | found)
    return history


def figures(clips: ClipSet, test: NDArray[np.intp], probabilities: NDArray[np.float32]) -> dict[str, Any]:
    """Exact match, macro AUC (None where no symptom has both kinds of frames) and the figures of each symptom."""
    truth, plain = clips.labels[test], plain_labels(probabilities)
    areas = [
        roc_auc_score(truth[:, column], probabilities[:, column])
        for column in range(truth.shape[1])
        if 0 < truth[:, column].sum() < len(truth)
    ]
    return {
        "exact": metrics.exact_match(truth, plain),
        "auc": float(np.mean(areas)) if areas else None,
        "symptoms": metrics.per_label(truth, plain, clips.symptoms),
    }


def _first(
    material: Material, rest: NDArray[np.intp], strategy: str, count: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    if strategy.endswith(DIVERSE) or strategy == "adaptive":
        return spread(material.embeddings[rest], count, rng)[:count]
    return rng.permutation(len(rest))[:count]


def _next(
    material: Material,
    rest: NDArray[np.intp],
    labelled: NDArray[np.intp],
    probabilities: NDArray[np.float32],
    strategy: str,
    count: int,
    rng: np.random.Generator,
) -> NDArray[np.intp]:
    if not strategy.endswith(DIVERSE):
        return select(probabilities, strategy, count, rng)
    clips = material.clips.clip_numbers
    scores = score(probabilities, strategy, rng)
    near = candidates(scores, count)
    of_clip = clips[rest]
    asked = np.bincount(clips[labelled], minlength=clips.max() + 1)[of_clip]
    order = near[diverse(scores[near], material.embeddings[rest[near]], of_clip[near], asked[near], count, rng)]
    positives = material.clips.labels[labelled].sum(axis=0)
    return feed_rare(order, probabilities, positives, of_clip, asked, count)[:count]


def _manual(
    learner: Learner,
    probabilities: NDArray[np.float32],
    truth: NDArray[np.uint8],
    trial: adaptive.Trial,
    validator: str,
) -> dict[str, float | None]:
    without = learner.table_without_rule_9.validate(probabilities)[0]
    share = metrics.manual_share(truth, without, np.ones(len(truth), bool))
    return {**trial.manual, "table without rule (9)": share, "chosen": trial.manual[validator]}
