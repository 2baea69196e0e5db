"""Doing the parts of a study: in processes of one thread each, every result kept so that nothing is done twice."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.msml import finetune, maps
from ml_backend.msml import frames as msml_frames
from ml_backend.msml.build import build, use_threads
from ml_backend.msml.network import Network, Precision, Trained
from ml_backend.store.files import write_aside
from ml_backend.tsal.acquisition import margin
from ml_backend.tsal.likeness import Places
from ml_backend.tsal.split import held_out
from studies import calibration, comparison, dataset
from studies import pool as pools
from studies.maps import draw
from studies.new_patients import Levels, new_patients
from studies.plan import HOLD_OUT, MAPS, Part, Preset, split
from studies.simulation import Learner, Material, State, figures, simulate
from studies.team import Team
from studies.tested import simulate_tested

TRAINED_LAYERS_STEPS = 50
CALIBRATION_SHARE = 0.3
PRECISION: Precision = "mixed"  # a study is thousands of fine-tunes
COMPARED_BACKBONES = {"VGG16": "vgg16", "ResNet34": "resnet34", "ResNet50": "resnet50", "ResNet101": "resnet101"}
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Setting:
    """What every part has in common; it crosses into the worker processes."""

    preset: Preset
    folder: Path
    backbone: str
    weights: str | None
    precision: Precision = PRECISION

    @property
    def cache(self) -> Path:
        """Where pixels and activations lie."""
        return self.folder / "cache"

    def settings(self, data: Path) -> dict[str, Any]:
        """Everything but the part itself that a result on the clips of ``data`` depends on."""
        return {
            "preset": repr(replace(self.preset, seeds=(), side_seeds=())),  # each part says its own seed
            "backbone": self.backbone,
            "weights": self.weights,
            "precision": self.precision,
            "labels": hashlib.sha256((data / "clips.csv").read_bytes()).hexdigest(),
        }


class Bench:
    """One data set with its network, ready for any part; made once in each process."""

    def __init__(self, setting: Setting, data: Path, report: Report = lambda stage, done, total: None) -> None:
        self.setting = setting
        self.report = report
        self.clips = dataset.load(data, setting.preset.every, setting.cache, setting.preset.clips, report)
        self.network = self.fresh(0)
        self.records = dataset.activations(self.clips, self.network, setting.preset.views, setting.cache, report)

    def fresh(self, seed: int, trained: Trained = "last three") -> Network:
        """A network with pre-trained weights."""
        setting = self.setting
        return build(setting.backbone, len(self.clips.symptoms), setting.weights, seed, setting.precision, trained)

    @cached_property
    def material(self) -> Material:
        """What simulated annotation works on."""
        embeddings = [
            self.network.embed(dataset.restored(self.records[start : start + 256, 0], self.network))
            for start in range(0, len(self.records), 256)
        ]
        starts: dict[int, State] = {}

        def start(seed: int) -> State:
            if seed not in starts:
                starts[seed] = self.fresh(seed).trainable_state()
            return starts[seed]

        places = Places(np.concatenate(embeddings), self.clips.clip_numbers, np.array(self.clips.times))
        return Material(self.clips, self.records, places, self.network, start)

    @cached_property
    def levels(self) -> Levels:
        """What linear heads judge by."""
        network, setting = self.network, self.setting
        found = dataset.levels(self.clips, network, setting.cache, self.report)
        return Levels(np.asarray(found, np.float32), network.level_widths)

    def do(self, part: Part) -> dict[str, Any]:
        """Compute one part; its figures under what names it."""
        pool, test = split(self.clips, part.protocol, part.seed)
        named = {"data": part.data, "protocol": part.protocol, "seed": part.seed}
        started = time.monotonic()
        work = {
            "run": self._run,
            "pool": self._pool,
            "ablation": self._run,
            "rare": self._run,
            "full": self._full,
            "compared": self._compared,
            "trained layers": self._trained_layers,
            "calibration": self._calibration,
            "maps": self._maps,
            "new patients": self._new_patients,
        }[part.kind]
        found = work(part, pool, test)
        seconds = round(time.monotonic() - started, 1)
        return named | {"what": part.what, "pool": len(pool), "test": len(test), "seconds": seconds} | found

    def _pool(self, part: Part, pool: NDArray[np.intp], test: NDArray[np.intp]) -> dict[str, Any]:
        preset, clips = self.setting.preset, part.options["clips"]
        way = replace(preset.way, hold_out=HOLD_OUT)
        made = pools.team(self.material, part.what, clips, preset.sizes(len(pool)), part.seed, way)
        return {"clips": clips, "strategy": part.what} | pools.simulate_pool(made, preset.budget)

    def _run(self, part: Part, pool: NDArray[np.intp], test: NDArray[np.intp]) -> dict[str, Any]:
        preset = self.setting.preset
        if part.what in ("cover", pools.MEMORY_ALONE):
            way = None if part.what == pools.MEMORY_ALONE else preset.way
            sizes = preset.sizes(len(pool))
            asked = Team(self.material, self.material.places, pool, test, sizes, part.seed, way)
            return {"rounds": simulate_tested(asked, part.what, preset.rounds)}
        strategy = part.what if part.kind == "run" else "mlm-diverse"
        way = replace(preset.way, **part.options)
        rounds = simulate(self.material, pool, test, strategy, preset.batch(len(pool)), preset.rounds, part.seed, way)
        return {"rounds": rounds}

    def _full(self, part: Part, pool: NDArray[np.intp], test: NDArray[np.intp]) -> dict[str, Any]:
        learner = self._trained(pool, part.seed)
        return figures(self.clips, test, learner.probabilities(test))

    def _trained(self, rows: NDArray[np.intp], seed: int) -> Learner:
        """MSML trained on all of these rows at once, for as many updates as a run takes in all its rounds, or more."""
        preset = self.setting.preset
        learner = Learner(self.material, replace(preset.way, minimum_steps=preset.updates(len(rows))), seed)
        learner.learn(rows, rows, audited=rows[:0])
        return learner

    def _compared(self, part: Part, pool: NDArray[np.intp], test: NDArray[np.intp]) -> dict[str, Any]:
        """Train a network of the paper's Table I on all labels, the frames themselves through it each time."""
        preset = self.setting.preset
        count = len(self.clips.symptoms)
        weights = part.options.get("weights")
        rate = 2e-3
        network: Network
        if part.what in ("POCOVID-Net", "NNBD-style"):
            name: comparison.Name = "POCOVID-Net" if part.what == "POCOVID-Net" else "NNBD-style"
            network, rate = comparison.build(name, count, weights, part.seed), comparison.LEARNING_RATES[name]
        else:
            network = build(COMPARED_BACKBONES[part.what], count, weights, part.seed, self.setting.precision)
        activations = _through(network, self.clips.pixels, pool)
        finetune.finetune(
            network,
            lambda rows, rng: activations[rows],
            self.clips.labels[pool],
            epochs=preset.compared_epochs,
            minimum_steps=0,
            learning_rate=rate,
            seed=part.seed,
        )
        probabilities = network.probabilities(_through(network, self.clips.pixels, test))
        shown = "trained from scratch" if part.what == "NNBD-style" else _weights(weights)
        return {"weights": shown} | figures(self.clips, test, probabilities)

    def _trained_layers(self, part: Part, pool: NDArray[np.intp], test: NDArray[np.intp]) -> dict[str, Any]:
        """Train the classifier alone, the last three layers or everything, for as many updates, on all labels."""
        layers: Trained = "all" if part.what == "all" else "head" if part.what == "head" else "last three"
        network = self.fresh(part.seed, layers)
        pixels = self.clips.pixels
        steps = min(TRAINED_LAYERS_STEPS, self.setting.preset.updates(len(pool)))

        def sample(rows: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.floating[Any]]:
            frames = np.stack([msml_frames.augment(pixels[pool[row]], rng) for row in rows])
            return network.activations(frames)

        truth = self.clips.labels[pool]
        finetune.finetune(network, sample, truth, epochs=1, minimum_steps=steps, seed=part.seed)
        return figures(self.clips, test, network.probabilities(_through(network, pixels, test)))

    def _calibration(self, part: Part, pool: NDArray[np.intp], test: NDArray[np.intp]) -> dict[str, Any]:
        """Fit a temperature per label on patients of the pool that are held out; compare on the test patients."""
        patients = [self.clips.patients[row] for row in pool]
        held = held_out(patients, CALIBRATION_SHARE, part.seed + 1000)
        if held.all() or not held.any():
            return {"symptoms": []}
        learner = self._trained(pool[~held], part.seed)
        labels = self.clips.labels
        temperatures = calibration.fit_temperatures(learner.probabilities(pool[held]), labels[pool[held]])
        before = learner.probabilities(test)
        after = calibration.apply_temperatures(before, temperatures)
        rows = []
        for column, symptom in enumerate(self.clips.symptoms):
            truth = labels[test, column]
            rows.append(
                {
                    "symptom": symptom,
                    "temperature": float(temperatures[column]),
                    "ece_before": calibration.expected_calibration_error(before[:, column], truth),
                    "ece_after": calibration.expected_calibration_error(after[:, column], truth),
                    "bins_before": calibration.reliability(before[:, column], truth),
                    "bins_after": calibration.reliability(after[:, column], truth),
                }
            )
        return {"symptoms": rows}

    def _new_patients(self, part: Part, pool: NDArray[np.intp], test: NDArray[np.intp]) -> dict[str, Any]:
        options = part.options
        sizes = options["batch"], options["answers"]
        return {"ways": new_patients(self.material, self.levels, part.seed, *sizes, options["judges"])}

    def _maps(self, part: Part, pool: NDArray[np.intp], test: NDArray[np.intp]) -> dict[str, Any]:
        """Draw what a network that knows a fifth of the pool looks at, in the frames it is least and most sure of."""
        rng = np.random.default_rng(part.seed)
        known = rng.permutation(pool)[: max(2, len(pool) // 5)]
        learner = self._trained(known, part.seed)
        rest = np.setdiff1d(pool, known)
        probabilities = learner.probabilities(rest)
        order = np.argsort(np.abs(margin(probabilities)), kind="stable")
        drawn = []
        for place, rows in (("most informative", order), ("least informative", order[::-1])):
            for rank, row in enumerate(_of_different_clips(rows, [self.clips.clips[one] for one in rest]), 1):
                drawn.append(self._draw(part, rest[row], probabilities[row], place, rank))
        return {"maps": drawn}

    def _draw(self, part: Part, row: int, probabilities: NDArray[np.float32], place: str, rank: int) -> dict[str, Any]:
        frame = self.clips.pixels[row]
        symptoms = self.clips.symptoms
        shown = {symptom: float(value) for symptom, value in zip(symptoms, probabilities, strict=True)}
        methods: tuple[maps.Method, ...] = ("Grad-CAM", "Grad-CAM++")
        found: dict[str, dict[str, NDArray[np.float32]]] = {
            symptom: {method: maps.maps(self.network, frame[None], label, method)[0] for method in methods}
            for label, symptom in enumerate(symptoms)
        }
        name = f"figures/maps-{part.data}-{place.split()[0]}-{rank}.png"
        path = self.setting.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        title = f"{place}, {rank}: {self.clips.clips[row]}, {self.clips.times[row]:.1f} s"
        draw(frame, found, path, title, shown)
        truth = [symptom for symptom, value in zip(symptoms, self.clips.labels[row], strict=True) if value]
        return {
            "data": part.data,
            "place": place,
            "rank": rank,
            "clip": self.clips.clips[row],
            "time": self.clips.times[row],
            "symptoms": shown,
            "truth": truth,
            "margin": float(margin(probabilities[None])[0]),
            "figure": name,
        }


def do_all(
    setting: Setting, folders: Mapping[str, Path], parts: Sequence[Part], workers: int, done: Callable[[Part], None]
) -> list[dict[str, Any]]:
    """Do the parts whose results are not there yet, and return all results in their order; ``done`` follows each.

    One that fails ends the study, with the results so far kept.
    """
    results: dict[int, dict[str, Any]] = {}
    settings = {name: setting.settings(folder) for name, folder in folders.items()}
    paths = [setting.folder / "parts" / f"{part.key(settings[part.data])}.json" for part in parts]
    missing = []
    for number, path in enumerate(paths):
        if path.exists():
            results[number] = json.loads(path.read_text(encoding="utf-8"))
            done(parts[number])
        else:
            missing.append(number)
    context = multiprocessing.get_context("spawn")  # a fork would take the threads of torch along
    with ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(setting, dict(folders))) as pool:
        futures = {pool.submit(_do, parts[number]): number for number in missing}
        try:
            for future in as_completed(futures):
                number = futures[future]
                results[number] = future.result()
                write_aside(paths[number], json.dumps(results[number]))
                done(parts[number])
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [results[number] for number in range(len(parts))]


_setting: Setting
_folders: dict[str, Path]
_benches: dict[str, Bench] = {}


def _begin(setting: Setting, folders: dict[str, Path]) -> None:
    global _setting, _folders
    _setting, _folders = setting, folders
    use_threads(1)


def _do(part: Part) -> dict[str, Any]:
    if part.data not in _benches:
        _benches.clear()
        _benches[part.data] = Bench(_setting, _folders[part.data])
    return _benches[part.data].do(part)


def _through(network: Network, pixels: NDArray[np.uint8], rows: NDArray[np.intp]) -> NDArray[np.float16]:
    pieces = [network.activations(pixels[rows[start : start + 64]]) for start in range(0, len(rows), 64)]
    return np.concatenate([np.zeros((0, *network.activation_shape), np.float16), *pieces])


def _of_different_clips(rows: NDArray[np.intp], clips: Sequence[str]) -> list[int]:
    chosen: dict[str, int] = {}
    for row in rows.tolist():
        chosen.setdefault(clips[row], row)
        if len(chosen) == MAPS:
            break
    return list(chosen.values())


def _weights(weights: str | None) -> str:
    return {None: "ImageNet", "random": "random weights"}.get(weights, str(weights))
