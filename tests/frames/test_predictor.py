"""The way from a frame to a pseudo-label with the real EfficientNet-Lite0, through the cache and beside it."""

from __future__ import annotations

import csv
import hashlib
import io
import logging
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from ml_backend.errors import FrameUnreadable, StudioUnavailable
from ml_backend.frames import activations as activations_module
from ml_backend.frames.frame import Fetcher, Frame
from ml_backend.frames.predictor import Predictor
from ml_backend.frames.scores import Scores, concatenate
from ml_backend.ingest.files import frames_of
from ml_backend.msml import frames as msml_frames
from ml_backend.msml.finetune import finetune, from_bank
from ml_backend.msml.network import Network
from ml_backend.phantom import echoes as phantom
from ml_backend.settings import load
from ml_backend.store.features import FeatureStore
from ml_backend.store.quantised import restore
from ml_backend.store.versions import Manifest, VersionStore
from ml_backend.tsal.acquisition import margin
from ml_backend.tsal.correlation import CorrelationTable, build, plain_labels
from ml_backend.tsal.strengths import StrengthTable
from ml_backend.tsal.ticks import VALIDATORS
from tests.events import events
from tests.installation import manifest_of
from tests.studio_stand_in import one_thread

__all__ = ["one_thread"]

POCUS = Path(__file__).resolve().parents[3] / "shared" / "data" / "pocus"
LABELS = [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 1, 0, 1)]
BUDGET = 500_000_000
MANY = 80  # frames of each kind on which the cached network is compared with the uncached one


class Files(Fetcher):
    """Frames by address, counted as they are fetched; an address that is not there cannot be read."""

    def __init__(self, contents: dict[str, bytes]) -> None:
        self.contents = contents
        self.fetched: Counter[str] = Counter()
        self._lock = threading.Lock()

    def fetch(self, url: str, task: int | None = None) -> bytes:
        with self._lock:
            self.fetched[url] += 1
        if url not in self.contents:
            raise FrameUnreadable(f"{url}: it is not there")
        return self.contents[url]


def picture(labels: Sequence[int], seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(phantom.frame(labels, seed, (96, 96))).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def contents() -> dict[str, bytes]:
    return {f"/data/upload/{seed}.png": picture(LABELS[seed % 4], seed) for seed in range(12)}


@pytest.fixture
def files(contents: dict[str, bytes]) -> Files:
    return Files(dict(contents))


@pytest.fixture
def frames(contents: dict[str, bytes]) -> list[Frame]:
    return [Frame(100 - number, url) for number, url in enumerate(contents)]


@pytest.fixture
def pieces_of_four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activations_module, "CHUNK", 4)


Make = Callable[..., Predictor]


@pytest.fixture(scope="module")
def network() -> Network:
    """The network that all predictors of this module share: building it is the slow part."""
    return Predictor(load(backbone="efficientnet_lite0"), Files({}), FeatureStore(Path("unused"), 0)).network(4)


@pytest.fixture
def make(network: Network, tmp_path: Path, files: Files) -> Make:
    """A predictor on the test's folder, as a new process would have it."""

    def make(budget: int = BUDGET, fetcher: Files = files, views: int = 3, **changes: object) -> Predictor:
        settings = load(**{"backbone": "efficientnet_lite0", "views": views, "fetch_workers": 3} | changes)
        made = Predictor(settings, fetcher, FeatureStore(tmp_path / "features", budget))
        made._networks[4] = network
        return made

    return make


@dataclass(frozen=True)
class Versions:
    store: VersionStore
    manifests: list[Manifest]


@pytest.fixture(scope="module")
def versions(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Versions:
    """Three versions that say different things of the same frames."""
    store = VersionStore(tmp_path_factory.mktemp("versions"))
    start, rng, manifests = network.trainable_state(), np.random.default_rng(0), []
    for number in range(3):
        state = {
            name: value + 0.05 * rng.standard_normal(value.shape).astype(np.float32) for name, value in start.items()
        }
        network.load_trainable_state(state)
        truth = np.array(LABELS, np.uint8)
        table = build(truth, np.clip(truth * 0.7 + 0.3 * rng.random(truth.shape), 0, 1))
        manifest = manifest_of(label_names=("a", "b", "c", "d"), table=table.to_json(), seed=number)
        manifests.append(store.create(manifest, lambda path: network.save_tail(path, {})))
    network.load_trainable_state(start)
    return Versions(store, manifests)


def scored(predictor: Predictor, frames: Sequence[Frame], versions: Versions, number: int = 0) -> Scores:
    return concatenate(list(predictor.scores(frames, versions.manifests[number], versions.store)), 4)


def assert_same(one: Scores, other: Scores) -> None:
    for part in fields(Scores):
        first, second = getattr(one, part.name), getattr(other, part.name)
        if isinstance(first, dict):
            assert first == second
        else:
            assert first.dtype == second.dtype
            np.testing.assert_array_equal(first, second, strict=True, err_msg=part.name)


def view(predictor: Predictor, network: Network, content: bytes, number: int) -> NDArray[np.uint8] | None:
    name = predictor.record_key(hashlib.sha256(content).digest(), number)
    (record,) = predictor._features.get_many([name])
    return record


def kept(records: list[NDArray[np.uint8] | None]) -> list[NDArray[np.uint8]]:
    assert not any(record is None for record in records)
    return [record for record in records if record is not None]


@pytest.mark.usefixtures("pieces_of_four")
class TestCache:
    def test_cached_results_equal_computed_ones_bit_by_bit(
        self, make: Make, files: Files, frames: list[Frame], versions: Versions
    ) -> None:
        computed = scored(make(), frames, versions)
        assert computed.tasks.tolist() == [frame.task for frame in frames]
        assert_same(scored(make(), frames, versions), computed)
        assert_same(scored(make(budget=0), frames, versions), computed)
        # In another order, other frames share their pieces.
        backwards = scored(make(), frames[::-1], versions)
        np.testing.assert_array_equal(backwards.probabilities[::-1], computed.probabilities)

    def test_a_frame_is_fetched_only_once(
        self, make: Make, files: Files, frames: list[Frame], versions: Versions
    ) -> None:
        for number in (0, 1, 0):
            scored(make(), frames, versions, number)
        predictor = make()
        assert sum(len(chunk.frames) for chunk in predictor.activations(frames, 4)) == len(frames)
        assert set(files.fetched.values()) == {1}
        assert len(files.fetched) == len(frames)

    def test_scores_are_those_of_network_table_and_threshold(
        self, make: Make, network: Network, frames: list[Frame], versions: Versions
    ) -> None:
        predictor = make()
        scores = scored(predictor, frames, versions, 1)
        network.load_tail(versions.store.tail(versions.manifests[1].version))
        activations = np.concatenate([chunk.activations for chunk in predictor.activations(frames, 4)])
        np.testing.assert_allclose(scores.probabilities, network.probabilities(activations), atol=1e-6)
        table = CorrelationTable.from_json(versions.manifests[1].table)
        labels, distances = table.validate(scores.probabilities)
        np.testing.assert_array_equal(scores.labels, labels)
        np.testing.assert_array_equal(scores.distances, distances)
        np.testing.assert_array_equal(scores.plain, plain_labels(scores.probabilities))
        np.testing.assert_array_equal(scores.margins, margin(scores.probabilities))
        assert len(np.unique(scores.probabilities.round(3), axis=0)) > len(frames) / 2

    def test_precisions_of_the_trunk_do_not_share_records(
        self, make: Make, network: Network, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = make().record_key(b"digest", 0)
        for precision in ("float32", "bfloat16"):  # the tail's makes no difference to what the trunk gave
            monkeypatch.setattr(network, "precision", precision)
            assert make().record_key(b"digest", 0) == name
        assert network.trunk_precision == "float32"
        monkeypatch.setattr(network, "trunk_precision", "bfloat16")
        assert make().record_key(b"digest", 0) != name

    def test_label_studios_do_not_share_addresses(self, make: Make, network: Network) -> None:
        other = Predictor(load(label_studio_url="http://other"), Files({}), FeatureStore(Path("unused"), 0))
        assert make().address_key("/data/upload/1.png") != other.address_key("/data/upload/1.png")

    def test_nothing_to_score_gives_nothing(self, make: Make, versions: Versions) -> None:
        nothing = scored(make(), [], versions)
        assert nothing.tasks.shape == nothing.margins.shape == nothing.distances.shape == (0,)
        assert nothing.probabilities.shape == nothing.labels.shape == nothing.plain.shape == (0, 4)
        assert nothing.unreadable == {}


@pytest.mark.usefixtures("pieces_of_four")
class TestUnreadable:
    def test_a_frame_that_cannot_be_read_costs_only_itself(
        self,
        make: Make,
        files: Files,
        frames: list[Frame],
        versions: Versions,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        whole = scored(make(budget=0), frames, versions)
        del files.contents[frames[1].url]
        files.contents[frames[6].url] = files.contents[frames[6].url][:200]
        for frame in frames[8:]:  # a whole piece
            files.contents[frame.url] = b"no picture"
        with caplog.at_level(logging.WARNING):
            scores = scored(make(), frames, versions)
        good = [0, 2, 3, 4, 5, 7]
        assert scores.tasks.tolist() == [frames[row].task for row in good]
        np.testing.assert_allclose(scores.probabilities, whole.probabilities[good], atol=1e-3)
        assert list(scores.unreadable) == [frames[row].task for row in (1, 6, 8, 9, 10, 11)]
        assert "not there" in scores.unreadable[frames[1].task]
        assert "damaged or truncated" in scores.unreadable[frames[6].task]
        assert [one["task"] for one in events(caplog, "frame unreadable")].count(frames[1].task) == 1

    def test_an_unreadable_frame_is_tried_again_the_next_time(
        self, make: Make, files: Files, frames: list[Frame], versions: Versions
    ) -> None:
        content = files.contents.pop(frames[0].url)
        assert list(scored(make(), frames, versions).unreadable) == [frames[0].task]
        files.contents[frames[0].url] = content
        assert scored(make(), frames, versions).tasks.tolist() == [frame.task for frame in frames]

    def test_other_errors_are_not_taken_for_a_broken_frame(
        self, make: Make, frames: list[Frame], versions: Versions
    ) -> None:
        class Broken(Files):
            def fetch(self, url: str, task: int | None = None) -> bytes:
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            scored(make(fetcher=Broken({})), frames, versions)

    def test_an_unreachable_label_studio_makes_frames_unreadable_only_while_somebody_waits(
        self, make: Make, frames: list[Frame], versions: Versions
    ) -> None:
        class Away(Files):
            def fetch(self, url: str, task: int | None = None) -> bytes:
                if url == frames[1].url:
                    raise StudioUnavailable("Label Studio does not answer")
                return super().fetch(url, task)

        store, manifest = versions.store, versions.manifests[0]
        predictor = make(fetcher=Away(dict.fromkeys([frame.url for frame in frames], picture(LABELS[0], 1))))
        with pytest.raises(StudioUnavailable):
            list(predictor.scores(frames[:3], manifest, store))
        (found,) = predictor.scores(frames[:3], manifest, store, without_studio=True)
        assert found.tasks.tolist() == [frames[0].task, frames[2].task]
        assert found.unreadable == {frames[1].task: "Label Studio does not answer"}

    def test_fetching_stops_when_the_results_are_no_longer_wanted(
        self, make: Make, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(activations_module, "CHUNK", 400)
        begun, go_on = threading.Event(), threading.Event()

        class Slow(Files):
            def fetch(self, url: str, task: int | None = None) -> bytes:
                content = super().fetch(url, task)
                if self.fetched.total() > 1:
                    begun.set()
                    go_on.wait(20)
                    return content
                begun.wait(20)
                raise ZeroDivisionError

        slow = Slow({str(number): b"" for number in range(400)})
        threading.Timer(1, go_on.set).start()  # the few under way are waited for
        with pytest.raises(ZeroDivisionError):
            list(make(fetcher=slow).activations([Frame(number, str(number)) for number in range(400)], 4))
        assert slow.fetched.total() < 400


class TestVersions:
    def test_two_versions_take_turns_on_one_network(self, make: Make, frames: list[Frame], versions: Versions) -> None:
        apart = [scored(make(), frames, versions, number) for number in range(3)]
        assert np.abs(apart[0].probabilities - apart[1].probabilities).max() > 0.05
        predictor = make()
        for number in (0, 1, 1, 2, 0):
            assert_same(scored(predictor, frames, versions, number), apart[number])

    def test_several_threads_never_see_a_mixture(self, make: Make, frames: list[Frame], versions: Versions) -> None:
        apart = [scored(make(), frames, versions, number) for number in range(3)]
        predictor = make()
        with ThreadPoolExecutor(4) as pool:
            wanted = [number % 3 for number in range(60)]
            results = list(pool.map(lambda number: scored(predictor, frames, versions, number), wanted))
        for number, result in zip(wanted, results, strict=True):
            assert_same(result, apart[number])

    def test_a_cached_frame_does_not_wait_for_a_first_pass(
        self, make: Make, network: Network, frames: list[Frame], versions: Versions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        predictor = make()
        expected = scored(predictor, frames[:2], versions)
        begun, go_on = threading.Event(), threading.Event()
        trunk = network.activations

        def slow(images: NDArray[np.uint8]) -> NDArray[np.float16]:
            begun.set()
            go_on.wait(60)
            return trunk(images)

        monkeypatch.setattr(network, "activations", slow)
        with ThreadPoolExecutor(2) as pool:
            first_pass = pool.submit(scored, predictor, frames[2:], versions)
            try:
                assert begun.wait(20)
                assert_same(pool.submit(scored, predictor, frames[:2], versions).result(20), expected)
                assert not first_pass.done()
            finally:
                go_on.set()


@dataclass(frozen=True)
class Said:
    """What each validator says of the frames under one version with tables of its own."""

    manifest: Manifest
    store: VersionStore
    probabilities: NDArray[np.float32]
    labels: dict[str, NDArray[np.uint8]]
    distances: NDArray[np.float64]

    def version(self, **changes: object) -> Versions:
        return Versions(self.store, [self.manifest.model_copy(update=changes)])


@pytest.fixture
def said(make: Make, frames: list[Frame], versions: Versions) -> Said:
    """Tables made so that the three validators disagree on every frame."""
    manifest = versions.manifests[1]
    probabilities = scored(make(), frames, versions, 1).probabilities
    table = build(np.array([[1, 1, 1, 1]]), probabilities[:1])
    strengths = StrengthTable.build(np.array([[1, 0, 1, 0], [0, 1, 1, 1]]), probabilities[[0, 1]])
    tables = {"table": table.to_json(), "strengths": strengths.to_json()}
    labels = {
        "table": np.ones_like(probabilities, np.uint8),
        "plain": plain_labels(probabilities),
        "strengths": strengths.validate(probabilities)[0],
    }
    for one, other in (("table", "plain"), ("table", "strengths"), ("plain", "strengths")):
        assert (labels[one] != labels[other]).any(axis=1).all()
    distances = table.nearest(probabilities)[1]
    return Said(manifest.model_copy(update=tables), versions.store, probabilities, labels, distances)


class TestValidators:
    @pytest.mark.parametrize("validator", list(VALIDATORS))
    def test_the_validator_that_is_set_changes_only_the_labels(
        self, make: Make, frames: list[Frame], said: Said, validator: str
    ) -> None:
        version = said.version(choice={"strategy": "mlm", "validator": "plain" if validator != "plain" else "table"})
        scores = scored(make(validator=validator), frames, version)
        np.testing.assert_array_equal(scores.labels, said.labels[validator])
        np.testing.assert_array_equal(scores.probabilities, said.probabilities)
        np.testing.assert_array_equal(scores.plain, said.labels["plain"])
        np.testing.assert_array_equal(scores.distances, said.distances)
        assert (scores.labels.dtype, scores.distances.dtype) == (np.dtype(np.uint8), np.dtype(np.float64))

    @pytest.mark.parametrize("validator", list(VALIDATORS))
    def test_adaptive_is_the_versions_own_choice(
        self, make: Make, frames: list[Frame], said: Said, validator: str
    ) -> None:
        version = said.version(choice={"strategy": "mlm", "validator": validator})
        adaptive = make(validator="adaptive")
        np.testing.assert_array_equal(scored(adaptive, frames, version).labels, said.labels[validator])

    def test_a_version_without_a_choice_uses_the_papers_validator(
        self, make: Make, frames: list[Frame], said: Said
    ) -> None:
        adaptive = make(validator="adaptive")
        np.testing.assert_array_equal(scored(adaptive, frames, said.version(choice={})).labels, said.labels["table"])

    @pytest.mark.parametrize("choice", [{}, {"strategy": "mlm", "validator": "plain"}])
    def test_the_network_alone_speaks_by_the_papers_validator_where_the_memory_ticks(
        self, make: Make, frames: list[Frame], said: Said, choice: dict[str, str]
    ) -> None:
        scores = scored(make(validator="memory"), frames, said.version(choice=choice))
        np.testing.assert_array_equal(scores.labels, said.labels["table"])

    @pytest.mark.parametrize(("validator", "used"), [("plain", "plain"), ("table", "table"), ("strengths", "table")])
    def test_a_version_from_before_there_were_strengths(
        self, make: Make, frames: list[Frame], said: Said, validator: str, used: str
    ) -> None:
        version = said.version(strengths={})
        np.testing.assert_array_equal(scored(make(validator=validator), frames, version).labels, said.labels[used])
        chosen = said.version(strengths={}, choice={"strategy": "mlm", "validator": validator})
        adaptive = make(validator="adaptive")
        np.testing.assert_array_equal(scored(adaptive, frames, chosen).labels, said.labels[used])


@pytest.mark.parametrize(
    ("data", "clip"),
    [
        ({"clip": "a.mp4", "image": "x"}, "a.mp4"),
        ({"clip": 17}, "17"),
        ({"clip": ""}, "task 5"),
        ({"clip": None}, "task 5"),
        ({"image": "x"}, "task 5"),
        ({}, "task 5"),
        (None, "task 5"),
        ([], "task 5"),
    ],
)
def test_a_frame_without_a_clip_is_one_of_its_own(data: object, clip: str) -> None:
    assert Frame.of(5, data, "image").clip == clip


class TestViews:
    def test_all_views_are_cached_and_more_views_keep_the_earlier_ones(
        self, make: Make, network: Network, files: Files, frames: list[Frame]
    ) -> None:
        predictor, content = make(), files.contents[frames[0].url]
        list(predictor.activations(frames[:1], 4))
        list(predictor.activations(frames[:1], 4, views=3))
        before = [view(predictor, network, content, number) for number in range(3)]
        assert len({record.tobytes() for record in before if record is not None}) == 3
        assert files.fetched.total() == 2  # the pixels of the first time are gone
        list(predictor.activations(frames[:1], 4, views=3))
        assert files.fetched.total() == 2
        (chunk,) = predictor.activations(frames[:1], 4, views=5)
        after = [view(predictor, network, content, number) for number in range(6)]
        for old, new in zip(before, after, strict=False):
            np.testing.assert_array_equal(old, new)
        assert [record is None for record in after] == [False] * 5 + [True]
        np.testing.assert_array_equal(chunk.activations, restore(kept(before[:1]), network.activation_shape))

    def test_cached_views_are_not_computed_again(
        self, make: Make, network: Network, files: Files, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        passed: list[int] = []
        trunk = network.activations

        def counted(images: NDArray[np.uint8]) -> NDArray[np.float16]:
            passed.append(len(images))
            return trunk(images)

        monkeypatch.setattr(network, "activations", counted)
        list(make().activations(frames, 4))
        list(make().activations(frames, 4, views=3))
        list(make().activations(frames, 4, views=3))
        assert passed == [12, 24]

    def test_views_are_the_frame_turned_and_mirrored(
        self, make: Make, network: Network, files: Files, frames: list[Frame]
    ) -> None:
        predictor, content = make(), files.contents[frames[0].url]
        list(predictor.activations(frames[:1], 4, views=3))
        pixels = msml_frames.views(msml_frames.decode(content), 3, hashlib.sha256(content).digest())
        expected = network.activations(pixels)
        for number in range(3):
            (restored,) = restore(kept([view(predictor, network, content, number)]), network.activation_shape)
            span = float(expected[number].max() - expected[number].min())
            np.testing.assert_allclose(restored, expected[number], atol=span / 255)

    def test_a_replaced_file_gets_new_views(
        self, make: Make, network: Network, files: Files, frames: list[Frame]
    ) -> None:
        predictor, (old, new) = make(), list(files.contents.values())[:2]
        (before,) = predictor.activations(frames[:1], 4)
        files.contents[frames[0].url] = new
        (after,) = predictor.activations(frames[:1], 4, views=2)
        assert after.digests == [hashlib.sha256(new).digest()] != before.digests
        assert view(predictor, network, new, 1) is not None
        assert view(predictor, network, old, 1) is None
        (expected,) = make(budget=0).activations(frames[:1], 4)
        np.testing.assert_array_equal(after.activations, expected.activations)

    def test_a_frame_whose_views_cannot_be_made_is_left_out(
        self, make: Make, files: Files, frames: list[Frame]
    ) -> None:
        predictor = make()
        list(predictor.activations(frames[:3], 4))
        del files.contents[frames[1].url]
        (chunk,) = predictor.activations(frames[:3], 4, views=2)
        assert [frame.task for frame in chunk.frames] == [frames[0].task, frames[2].task]
        assert list(chunk.unreadable) == [frames[1].task]


class TestBank:
    def test_every_view_of_every_frame_is_drawn(
        self, make: Make, network: Network, files: Files, frames: list[Frame]
    ) -> None:
        predictor = make()
        (chunk,) = predictor.activations(frames[:4], 4, views=3)
        bank = predictor.bank(chunk.frames, chunk.digests, 4)
        rows = np.tile(np.array([2, 0, 3], np.intp), 40)
        sampled = bank.sample(rows, np.random.default_rng(1))
        drawn: dict[int, Counter[int]] = {row: Counter() for row in (0, 2, 3)}
        for row, activations in zip(rows, sampled, strict=True):
            stored = [view(predictor, network, files.contents[frames[row].url], number) for number in range(3)]
            same = [np.array_equal(one, activations) for one in restore(kept(stored), network.activation_shape)]
            assert sum(same) == 1
            drawn[row][same.index(True)] += 1
        for counts in drawn.values():
            assert sorted(counts) == [0, 1, 2]
            assert min(counts.values()) >= 4

    def test_the_seed_decides_the_draw(self, make: Make, frames: list[Frame]) -> None:
        predictor = make()
        (chunk,) = predictor.activations(frames[:4], 4, views=3)
        bank, rows = predictor.bank(chunk.frames, chunk.digests, 4), np.arange(4).repeat(4)
        first = bank.sample(rows, np.random.default_rng(5))
        np.testing.assert_array_equal(bank.sample(rows, np.random.default_rng(5)), first)
        assert not np.array_equal(bank.sample(rows, np.random.default_rng(6)), first)

    @pytest.mark.parametrize("budget", [0, BUDGET])
    def test_a_view_lost_from_the_cache_is_computed_again(
        self, make: Make, files: Files, frames: list[Frame], tmp_path: Path, budget: int
    ) -> None:
        (chunk,) = make().activations(frames[:2], 4, views=3)
        rows = np.array([0, 1, 1, 0, 1], np.intp)
        there = make().bank(chunk.frames, chunk.digests, 4).sample(rows, np.random.default_rng(3))
        shutil.rmtree(tmp_path / "features")
        lost = make(budget=budget).bank(chunk.frames, chunk.digests, 4)
        files.fetched.clear()
        again = lost.sample(rows, np.random.default_rng(3))
        assert files.fetched.total() > 0
        np.testing.assert_allclose(again, there, atol=0.02 * np.abs(there).max())

    def test_a_lost_frame_that_cannot_be_read_raises(self, make: Make, files: Files, frames: list[Frame]) -> None:
        predictor = make(budget=0)
        (chunk,) = predictor.activations(frames[:2], 4)
        del files.contents[frames[1].url]
        with pytest.raises(FrameUnreadable, match="not there"):
            predictor.bank(chunk.frames, chunk.digests, 4).sample(np.array([1], np.intp), np.random.default_rng(0))


def pocus_frames() -> tuple[list[bytes], list[list[int]]]:
    with (POCUS / "clips.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["labelled"] == "1"]
    pictures, truth = [], []
    for row in rows:
        for frame in list(frames_of(POCUS / "clips" / row["file"], Fraction(1)))[:2]:
            content = io.BytesIO()
            frame.picture.save(content, "PNG")
            pictures.append(content.getvalue())
            truth.append([int(row[name]) for name in ("a_line", "b_line", "pleural_lesion", "pleural_effusion")])
    chosen = np.random.default_rng(0).permutation(len(pictures))[:MANY]
    return [pictures[row] for row in chosen], [truth[row] for row in chosen]


def phantom_frames() -> tuple[list[bytes], list[list[int]]]:
    truth = [list(LABELS[number % 4]) for number in range(MANY)]
    return [picture(labels, 1000 + number) for number, labels in enumerate(truth)], truth


@pytest.mark.parametrize("kind", ["phantom", "pocus"])
def test_the_cached_network_agrees_with_the_uncached_float32_one(
    make: Make, network: Network, kind: str, tmp_path: Path
) -> None:
    if kind == "pocus" and not POCUS.is_dir():
        pytest.skip(f"no clips in {POCUS}")
    pictures, labels = pocus_frames() if kind == "pocus" else phantom_frames()
    truth = np.array(labels, np.uint8)
    pixels = np.stack([msml_frames.decode(one) for one in pictures])
    start = network.trainable_state()
    network.load_trainable_state(make().fresh(4).trainable_state())  # whatever version other tests left it with
    with torch.inference_mode():
        boundary = torch.cat(
            [network.trunk(network._normalised(torch.tensor(pixels[s : s + 32]))) for s in range(0, MANY, 32)]
        )
    try:
        finetune(
            network, from_bank(boundary.numpy()[: MANY // 2, None]), truth[: MANY // 2], epochs=1, minimum_steps=40
        )
        with torch.inference_mode():
            uncached = torch.sigmoid(network.tail(boundary)).numpy()
        table = build(truth[: MANY // 2], uncached[: MANY // 2])
        assert uncached.std(axis=0).max() > 0.1  # it has learnt to tell frames apart
        store = VersionStore(tmp_path / "versions")
        manifest = store.create(
            manifest_of(label_names=("a", "b", "c", "d"), table=table.to_json()),
            lambda path: network.save_tail(path, {}),
        )
    finally:
        network.load_trainable_state(start)
    fetcher = Files({str(number): content for number, content in enumerate(pictures)})
    predictor = make(fetcher=fetcher)
    wanted = [Frame(number, str(number)) for number in range(len(pictures))]
    list(predictor.activations(wanted, 4))
    scores = concatenate(list(predictor.scores(wanted, manifest, store)), 4)
    same = (scores.labels == table.validate(uncached)[0]).all(axis=1)
    assert np.abs(scores.probabilities - uncached).max() <= 0.01
    assert same.mean() >= 0.995
