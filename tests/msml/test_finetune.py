from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ml_backend.errors import BackendError, NotEnoughLabels
from ml_backend.msml import frames
from ml_backend.msml.finetune import MINIMUM_STEPS, finetune, from_bank, from_frames
from ml_backend.msml.network import Network

from .conftest import assert_seeded

LABELS = np.array([[1, 0, 0, 0], [0, 1, 0, 1], [0, 1, 1, 1], [0, 1, 0, 0]], np.uint8)


@pytest.fixture
def bank() -> NDArray[np.float16]:
    """Two views of four frames that differ strongly."""
    rng = np.random.default_rng(2)
    frame = rng.normal(0, 3, (4, 1, 192, 7, 7))
    return (frame + rng.normal(0, 0.3, (4, 2, 192, 7, 7))).astype(np.float16)


def _silence(network: Network) -> None:
    # The last normalisation gives 0 and the classifier's weights are 0: logits are the classifier's bias whatever
    # the frame, and the bias is the only weight with a gradient.
    with torch.no_grad():
        last: Any = network.tail.body
        last[2].weight.zero_()
        last[2].bias.zero_()
        network.tail.classifier.weight.zero_()


def test_steps_of_sgd_on_the_bias_worked_out_by_hand(lite: Network, bank: NDArray[np.float16]) -> None:
    """Eq. 1 averaged over 4 frames and 4 labels: d/db = (sigmoid(b) - share of the label) / 4, then momentum.

    Shares 0.25, 0.75, 0.25, 0.5. Step 1: gradient (0.5 - share) / 4 = 0.0625, -0.0625, 0.0625, 0; times rate 0.8: bias
    -0.05, 0.05, -0.05, 0. Step 2: sigmoid(-0.05) = 0.4875026, gradient 0.0593757; velocity 0.9 * 0.0625 + 0.0593757 =
    0.1156257; bias -0.05 - 0.8 * 0.1156257 = -0.1425005. Loss before step 1 is log 2.
    """
    _silence(lite)
    before = lite.trainable_state()
    losses = finetune(lite, from_bank(bank), LABELS, epochs=1, minimum_steps=1, learning_rate=0.8)
    np.testing.assert_allclose(lite.trainable_state()["tail.classifier.bias"], [-0.05, 0.05, -0.05, 0], atol=1e-7)
    np.testing.assert_allclose(losses, [np.log(2)], rtol=1e-6)
    lite.load_trainable_state(before)
    losses = finetune(lite, from_bank(bank), LABELS, epochs=2, minimum_steps=1, learning_rate=0.8)
    after = lite.trainable_state()
    np.testing.assert_allclose(after["tail.classifier.bias"], [-0.1425005, 0.1425005, -0.1425005, 0], atol=1e-6)
    assert losses[1] == pytest.approx(
        (3 * np.log(1 + np.exp(-0.05)) * 0.75 + 3 * np.log(1 + np.exp(0.05)) * 0.25 + np.log(2)) / 4
    )
    assert [name for name in before if not np.array_equal(before[name], after[name])] == ["tail.classifier.bias"]


def test_a_step_with_positive_weights_worked_out_by_hand(lite: Network, bank: NDArray[np.float16]) -> None:
    """Weight w on frames that have a label of share s: d/db = (sigmoid(b) (1 - s) - w s (1 - sigmoid(b))) / 4.

    At b = 0 with shares 0.25, 0.75, 0.25, 0.5 and weights 3, 1, 1, 2: 0, -0.0625, 0.0625, -0.0625; times rate 0.8. The
    loss is log 2 times the mean of 1 - s + w s: 1.5, 1, 1, 1.5.
    """
    _silence(lite)
    losses = finetune(
        lite,
        from_bank(bank),
        LABELS,
        epochs=1,
        minimum_steps=1,
        learning_rate=0.8,
        positive_weights=np.array([3.0, 1.0, 1.0, 2.0]),
    )
    np.testing.assert_allclose(lite.trainable_state()["tail.classifier.bias"], [0, 0.05, -0.05, 0.05], atol=1e-7)
    np.testing.assert_allclose(losses, [1.25 * np.log(2)], rtol=1e-6)


def test_labels_that_are_not_known_have_no_part_in_a_step(lite: Network, bank: NDArray[np.float16]) -> None:
    """The last label is known of two frames, one with it and one without; the second of none: 10 entries are left.

    At b = 0 the gradient is the sum of 0.5 - label over the known frames, divided by 10: 0.1, 0, 0.1, 0;
    times rate 0.8 and turned round. Absent instead of unknown, the second would be -0.8 * 2 / 16.
    """
    _silence(lite)
    known = np.ones((4, 4), bool)
    known[:, 1] = False
    known[2:, 3] = False
    losses = finetune(lite, from_bank(bank), LABELS, epochs=1, minimum_steps=1, learning_rate=0.8, known=known)
    np.testing.assert_allclose(lite.trainable_state()["tail.classifier.bias"], [-0.08, 0, -0.08, 0], atol=1e-7)
    np.testing.assert_allclose(losses, [np.log(2)], rtol=1e-6)


@pytest.mark.parametrize(("weight", "sensitivity"), [(None, 0.0), (8.0, 1.0)])
def test_positive_weights_raise_the_sensitivity_of_a_rare_label(
    lite: Network, bank: NDArray[np.float16], weight: float | None, sensitivity: float
) -> None:
    """One of five frames that look alike has the second label: p tends to 1/5, weighted to 8 / (8 + 4) = 2/3."""
    _silence(lite)
    labels = np.zeros((5, 4), np.uint8)
    labels[0, 1], labels[:, 2] = 1, 1
    finetune(
        lite,
        from_bank(bank[[0, 1, 2, 3, 0]]),
        labels,
        epochs=1,
        minimum_steps=80,
        learning_rate=1.0,
        positive_weights=None if weight is None else np.array([1.0, weight, 1.0, 1.0]),
    )
    found = lite.probabilities(bank[:1, 0])[0, 1]
    assert found == pytest.approx(0.2 if weight is None else 2 / 3, abs=0.01)
    assert float(found > 0.5) == sensitivity


def test_weights_of_one_change_nothing(lite: Network, bank: NDArray[np.float16]) -> None:
    start = lite.trainable_state()
    results = []
    for weights in (None, np.ones(4), np.array([1, 2, 1, 1])):
        lite.load_trainable_state(start)
        losses = finetune(
            lite, from_bank(bank), LABELS, epochs=3, minimum_steps=1, batch_size=3, positive_weights=weights
        )
        results.append((losses, lite.trainable_state()))
    (losses, plain), (again, ones), (_, other) = results
    assert again == losses
    assert all(np.array_equal(plain[name], ones[name]) for name in plain)
    assert any(not np.array_equal(plain[name], other[name]) for name in plain)


def test_it_learns_what_can_be_learned(lite: Network, images: NDArray[np.uint8]) -> None:
    activations = lite.activations(images)
    labels = LABELS[:3]
    losses = finetune(lite, from_bank(activations[:, None]), labels, minimum_steps=30, learning_rate=0.01)
    assert len(losses) == 30
    assert losses[-1] < 0.1 < 0.5 < losses[0]
    assert np.array_equal(lite.probabilities(activations) > 0.5, labels)


def test_the_same_seed_gives_the_same_weights(lite: Network, bank: NDArray[np.float16]) -> None:
    start = lite.trainable_state()
    results = []
    torch.manual_seed(1)
    for seed in (5, 5, 6):
        lite.load_trainable_state(start)
        finetune(lite, from_bank(bank), LABELS, epochs=2, minimum_steps=1, batch_size=2, seed=seed)
        results.append(lite.trainable_state())
    assert_seeded(*results)
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), drawn)


def test_every_epoch_visits_every_frame_once_in_batches(lite: Network, bank: NDArray[np.float16]) -> None:
    visited: list[list[int]] = []

    def sample(rows: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.floating[Any]]:
        visited.append(rows.tolist())
        views: NDArray[np.floating[Any]] = bank[rows, 0]
        return views

    calls: list[tuple[int, int, float]] = []
    losses = finetune(
        lite, sample, LABELS, epochs=3, minimum_steps=1, batch_size=3, progress=lambda *call: calls.append(call)
    )
    assert [len(rows) for rows in visited] == [3, 1] * 3
    for epoch in range(3):
        assert sorted(visited[2 * epoch] + visited[2 * epoch + 1]) == [0, 1, 2, 3]
    assert len({tuple(rows) for rows in visited[::2]}) > 1
    assert calls == [(epoch, 3, loss) for epoch, loss in enumerate(losses, 1)]


def test_the_loss_of_an_epoch_counts_every_frame_alike(lite: Network, bank: NDArray[np.float16]) -> None:
    """With a learning rate of nothing the mean over batches of 3 and 1 is the mean over the four frames."""
    probabilities = lite.probabilities(bank[:, 0]).astype(np.float64)
    expected = -np.where(LABELS, np.log(probabilities), np.log(1 - probabilities)).mean()
    losses = finetune(lite, from_bank(bank[:, :1]), LABELS, epochs=1, minimum_steps=1, batch_size=3, learning_rate=0.0)
    assert losses == pytest.approx([expected], rel=1e-4)


@pytest.mark.parametrize(
    ("epochs", "minimum", "batch", "expected"), [(2, 1, 4, 2), (1, 5, 4, 5), (1, 5, 2, 3), (4, 5, 2, 4)]
)
def test_few_frames_get_more_epochs(
    lite: Network, bank: NDArray[np.float16], epochs: int, minimum: int, batch: int, expected: int
) -> None:
    losses = finetune(lite, from_bank(bank), LABELS, epochs=epochs, minimum_steps=minimum, batch_size=batch)
    assert len(losses) == expected


def test_default_hyperparameters_are_the_papers(lite: Network, bank: NDArray[np.float16]) -> None:
    defaults: Any = finetune.__kwdefaults__
    assert (defaults["learning_rate"], defaults["momentum"], defaults["batch_size"]) == (2e-3, 0.9, 32)
    assert defaults["minimum_steps"] == MINIMUM_STEPS


@pytest.mark.parametrize("fault", ["nan", "raise"])
def test_when_it_fails_the_network_keeps_its_weights(lite: Network, bank: NDArray[np.float16], fault: str) -> None:
    before = lite.trainable_state()
    count = 0

    def sample(rows: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.floating[Any]]:
        nonlocal count
        count += 1
        if count == 3 and fault == "raise":
            raise KeyboardInterrupt
        return bank[rows, 0] if count < 3 else np.full((len(rows), 192, 7, 7), np.nan)

    expected, message = (BackendError, "TSAL_LEARNING_RATE") if fault == "nan" else (KeyboardInterrupt, None)
    with pytest.raises(expected, match=message):
        finetune(lite, sample, LABELS)
    after = lite.trainable_state()
    assert all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("labels", [LABELS[:0], LABELS[:1], LABELS[[2, 2, 2]]])
def test_one_label_combination_is_not_enough(lite: Network, labels: NDArray[np.uint8]) -> None:
    with pytest.raises(NotEnoughLabels, match="two different label combinations"):
        finetune(lite, from_bank(np.zeros((3, 1, 192, 7, 7), np.float16)), labels)


@pytest.mark.parametrize("labels", [LABELS[:, :3], LABELS * 2, LABELS[0]])
def test_labels_of_another_form_are_refused(lite: Network, labels: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="labels must be 0 or 1"):
        finetune(lite, from_bank(np.zeros((4, 1, 192, 7, 7), np.float16)), labels)


def test_from_bank_draws_views_of_the_rows_asked_for() -> None:
    bank = np.arange(12, dtype=np.float16).reshape(4, 3, 1, 1, 1)
    sample = from_bank(bank)
    rng = np.random.default_rng(0)
    drawn = np.array([sample(np.array([3, 1]), rng)[:, 0, 0, 0] for _ in range(60)])
    assert set(drawn[:, 0]) == {9, 10, 11}
    assert set(drawn[:, 1]) == {3, 4, 5}
    assert len({tuple(pair) for pair in drawn}) == 9


def test_from_frames_augments_the_rows_asked_for_anew_each_time(lite: Network, images: NDArray[np.uint8]) -> None:
    sample = from_frames(lite, images)
    found = sample(np.array([2, 0]), np.random.default_rng(4))
    rng = np.random.default_rng(4)
    expected = lite.activations(np.stack([frames.augment(images[2], rng), frames.augment(images[0], rng)]))
    assert np.array_equal(found, expected)
    assert not np.array_equal(found, sample(np.array([2, 0]), rng))
