"""What a process knows of its trunk without a network."""

from __future__ import annotations

from pathlib import Path

import pytest

from ml_backend.errors import NetworkNeeded, WeightsUnavailable
from ml_backend.frames.networks import Networks
from ml_backend.settings import Settings, load
from ml_backend.store.problems import ModelProblem
from tests.studio_stand_in import one_thread

__all__ = ["one_thread"]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load(backbone="efficientnet_lite0", data_dir=tmp_path)


def test_a_process_without_a_network_knows_the_trunk_that_another_one_built(settings: Settings) -> None:
    assert not Networks(settings).were_built
    network = Networks(settings).network(3)
    without = Networks(settings, computes=False)
    assert without.were_built
    assert (without.trunk.key, without.trunk.precision) == (network.trunk_key, network.trunk_precision)
    assert without.trunk.shape == network.activation_shape


def test_a_process_without_a_network_says_that_it_needs_one(settings: Settings) -> None:
    without = Networks(settings, computes=False)
    with pytest.raises(NetworkNeeded):
        _ = without.trunk
    with pytest.raises(NetworkNeeded):
        without.network(3)


def test_a_trial_that_fails_leaves_no_trace_and_a_build_that_fails_is_noted(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    networks = Networks(settings.model_copy(update={"data_dir": folder, "weights": str(tmp_path / "none.pth")}))
    with pytest.raises(WeightsUnavailable):
        networks.tried(2)
    assert not list(folder.iterdir())
    with pytest.raises(WeightsUnavailable):
        networks.fresh(2)
    assert ModelProblem(folder).read()
    Networks(settings.model_copy(update={"data_dir": folder})).fresh(2)
    assert ModelProblem(folder).read() is None


@pytest.mark.parametrize(
    "change",
    [{"weights": "random"}, {"backbone": "resnet50"}, {"precision": "bfloat16"}],
    ids=lambda one: next(iter(one)),
)
def test_another_setting_is_another_trunk(settings: Settings, change: dict[str, str]) -> None:
    Networks(settings).network(3)
    assert not Networks(settings.model_copy(update=change)).were_built


def test_a_weights_file_that_was_replaced_is_another_trunk(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(b"one")
    networks = Networks(settings.model_copy(update={"weights": str(file)}))
    first = networks._built_from
    file.write_bytes(b"two!")
    assert networks._built_from != first
