"""Write what a year of work leaves in a project's folder, without a network: versions, an order, grounds, audits."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from benchmarks.offline import WHEN, XML, offline_settings
from ml_backend.services import Services
from ml_backend.settings import Settings
from ml_backend.store.audits import AuditTold, Draw
from ml_backend.store.format import mark
from ml_backend.store.grounds import Confirmed, Grounds
from ml_backend.store.orders import About, Order, Told
from ml_backend.store.shown import Frames, Shown
from ml_backend.store.versions import Manifest, TrainedOn
from ml_backend.studio.configuration import Configuration
from ml_backend.tsal.correlation import build
from ml_backend.tsal.likeness import Places, Scale, Trust

PROJECT, CLIP, CLIPS_A_PATIENT = 1, 50, 3
BATCH, AUDIT = 100, 20
NAMES = Configuration.parse(XML).label_names
WIDTH = 512  # of an embedding. Not imported: torch would be loaded


def year_settings(folder: Path) -> Settings:
    """The settings of the installation below ``folder``."""
    return offline_settings(folder, k_max=BATCH, evidence_files=0)


def url_of(task: int) -> str:
    """The address of a task's frame."""
    return f"/data/local-files/?d=frames/{task:032x}.png"


def clip_of(task: int) -> str:
    """The clip of a task's frame."""
    return f"clip {task // CLIP}"


def write(folder: Path, frames: int, versions: int) -> None:
    """Write a project of ``frames`` frames, in which each version has learnt `BATCH` more than the one before."""
    services = Services(year_settings(folder))
    services.settings.data_dir.mkdir(parents=True)
    mark(services.settings.data_dir)
    answered = BATCH * versions
    newest = _versions(services, versions)
    services.symptoms(PROJECT).note(NAMES, NAMES)
    _order(services, newest, frames, answered)


def _versions(services: Services, versions: int) -> str:
    """Versions that each know all answers so far, and an audit of each batch."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, (200, len(NAMES))).astype(np.uint8)
    table = build(truth, np.clip(truth * 0.6 + rng.random(truth.shape) * 0.4, 0, 1)).to_json()
    store, audits, parent = services.versions(PROJECT), services.audits(PROJECT), None
    seen = [TrainedOn(annotation=task, task=task, updated_at=WHEN) for task in range(1, BATCH * versions + 1)]
    for number in range(1, versions + 1):
        draw = _draw(parent, BATCH * (number - 1) + 1)
        audits.add(draw)
        told = AuditTold(ticks=NAMES[:1], confidence=0.9, source="memory", network=dict.fromkeys(NAMES, 0.5))
        audits.note_told(dict.fromkeys(draw.tasks, told))
        known = seen[: BATCH * number]
        manifest = Manifest(
            parent=parent,
            project=PROJECT,
            created_at=WHEN,
            job=None,
            backbone="efficientnet_lite0",
            weights="ImageNet",
            trunk_key="made up",
            label_names=NAMES,
            trained_on=tuple(known[: len(known) * 4 // 5]),
            held_out=tuple(known[len(known) * 4 // 5 :]),
            table=table,
            metrics={},
            batch={},
            losses=(0.5,) * 10,
            seconds={"total": 30.0},
            settings={},
            seed=0,
            clips={clip_of(task): CLIP for task in range(1, len(known) + 1, CLIP)},
        )
        parent = store.create(
            manifest, lambda path: save_file({"weight": np.zeros(4, np.float32)}, path), by="a benchmark"
        ).version
    audits.add(_draw(parent, BATCH * versions + 1))
    assert parent is not None
    return parent


def _draw(version: str | None, first: int) -> Draw:
    """The audit of a version's first order: `AUDIT` tasks from ``first`` on."""
    return Draw(
        order=f"{version or 'diversity'}.1",
        version=version,
        newest=version,
        drawn_at=WHEN,
        seed=0,
        pool=1000,
        tasks=tuple(range(first, first + AUDIT)),
    )


def _order(services: Services, version: str, frames: int, answered: int) -> None:
    """The order that serves, of all frames that are not answered, with its grounds."""
    rng = np.random.default_rng(0)
    left = frames - answered
    tasks = rng.permutation(np.arange(answered + 1, frames + 1))
    labels = rng.integers(0, 2, (left, len(NAMES))).astype(np.uint8)
    confidence = rng.random(left, np.float32)
    settings = services.settings
    about = About(
        name=f"place in queue, {version}.1",
        version=version,
        strategy=settings.strategy,
        validator=settings.validator,
        symptoms=NAMES,
        audit=settings.audit,
        hold_out=settings.hold_out,
        created_at=WHEN,
        seed=0,
        unreadable={},
        seconds={},
    )
    marks = dict.fromkeys(range(1, answered + 1), 0)
    reasons = ("audit",) * AUDIT + ("unlike all that is known",) * (left - AUDIT)
    order = Order(about, tasks, np.sort(rng.random(left)), reasons, Told(labels, confidence, marks))
    orders = services.orders(PROJECT)
    orders.save(order)
    known = np.arange(1, answered + 1)
    embeddings = rng.standard_normal((answered, WIDTH), np.float32).astype(np.float16)
    truth = rng.integers(0, 2, (answered, len(NAMES))).astype(np.uint8)
    shown = Frames.of(
        [Shown(task, url_of(task), clip_of(task), task % CLIP / 2) for task in [*tasks.tolist(), *known.tolist()]]
    )
    confirmed = Confirmed(
        np.arange(left, frames),
        truth,
        np.ones_like(truth, bool),
        ["Ada Lovelace"] * answered,
        [WHEN] * answered,
        Places(embeddings, known // CLIP, known % CLIP / 2),
    )
    scale, trust = Scale.of(embeddings), Trust(0.5, 0.5)
    source = np.zeros(left, np.int8)
    services.grounds(PROJECT).save(
        Grounds(
            about.name,
            version,
            NAMES,
            shown,
            labels,
            confidence,
            source,
            frozenset(),
            confirmed,
            scale,
            trust,
        )
    )
    orders.activate(about.name)


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
