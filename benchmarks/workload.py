"""What the benchmarks run on: phantom frames, a pool of cached activations, a trained version."""

from __future__ import annotations

import hashlib
import io
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ml_backend.frames.addresses import Known
from ml_backend.frames.frame import Fetcher, Frame
from ml_backend.frames.predictor import Predictor
from ml_backend.ingest.clip_table import read_clip_table
from ml_backend.ingest.files import frames_of
from ml_backend.launch import label_studio
from ml_backend.launch.processes import Processes, free_port
from ml_backend.msml.frames import decode
from ml_backend.msml.network import Network
from ml_backend.phantom import echoes as phantom
from ml_backend.services import Services
from ml_backend.settings import Settings, load
from ml_backend.store.features import FeatureStore
from ml_backend.store.versions import Manifest, VersionStore
from ml_backend.tsal.correlation import build

NAMES = ("A-line", "B-line", "Pleural lesion", "Pleural effusion")
SIZE = (600, 800)
ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def running_studio(folder: Path, **more: Any) -> Iterator[Services]:
    """Run a real Label Studio on SQLite below ``folder``; ``more`` settings beside the usual ones."""
    usual = {
        "label_studio_url": f"http://127.0.0.1:{free_port()}",
        "label_studio_token": secrets.token_hex(20),
        "data_dir": folder / "data",
        "backbone": "efficientnet_lite0",
    }
    settings = load(**(usual | more))
    with Processes(lambda name, line: None) as processes:
        label_studio.start_studio(processes, settings, folder)
        yield Services(settings)


@contextmanager
def training(folder: Path) -> Iterator[None]:
    """Let a fine-tune run beside the block, in a process of its own, as a worker's does."""
    command = [sys.executable, "-m", "benchmarks.busy_finetune", str(folder)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)  # noqa: S603  our own module
    try:
        assert process.stdout is not None
        if not process.stdout.readline():  # it trains now
            raise RuntimeError("the fine-tune ended")
        yield
    finally:
        process.kill()
        process.communicate()


class Files(Fetcher):
    """Frames by name, of a few pictures; each has content of its own, or the cache would know it."""

    def __init__(self, contents: list[bytes]) -> None:
        self._contents = contents

    def fetch(self, url: str, task: int | None = None) -> bytes:
        """The file of a name that ends in its number."""
        return own_content(self._contents[int(url.rsplit("/", 1)[1]) % len(self._contents)], url.encode())


def own_content(picture: bytes, mark: bytes) -> bytes:
    """The same JPEG picture as a file with content of its own: decoders ignore what follows a picture's end."""
    return picture + mark


def pictures(count: int, seed: int) -> list[bytes]:
    """Phantom frames of 800 x 600 pixels as JPEG files."""
    rng = np.random.default_rng(seed)
    files = []
    for _ in range(count):
        labels = tuple(int(value) for value in rng.integers(0, 2, len(NAMES)))
        labels = (0, *labels[1:]) if any(labels[1:]) else labels
        file = io.BytesIO()
        pixels = phantom.frame(labels, int(rng.integers(2**31)), (300, 400))
        Image.fromarray(pixels).resize((SIZE[1], SIZE[0])).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return files


def frames(count: int, name: str = "frame") -> list[Frame]:
    """As many frames as are asked for, addressed by number."""
    return [Frame(number, f"/data/{name}/{number}") for number in range(count)]


def labelled_frames(folder: Path, every: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], list[str]]:
    """Frames of a set of labelled clips, one in ``every`` seconds: pixels (n, 224, 224, 3), labels (n, 4), patients."""
    pixels, truth, patients = [], [], []
    for row in read_clip_table(folder / "clips.csv", NAMES).rows:
        for frame in frames_of(folder / "clips" / row.file, Fraction(every)) if row.labels else ():
            content = io.BytesIO()
            frame.picture.save(content, "PNG")
            pixels.append(decode(content.getvalue()))
            truth.append(row.labels)
            patients.append(row.patient)
    return np.stack(pixels), np.array(truth, np.uint8), patients


def labels(count: int, seed: int) -> NDArray[np.uint8]:
    """Random label combinations (count, 4)."""
    drawn: NDArray[np.uint8] = (np.random.default_rng(seed).random((count, len(NAMES))) < 0.4).astype(np.uint8)
    return drawn


def fill(predictor: Predictor, features: FeatureStore, wanted: list[Frame], views: int) -> None:
    """Give every wanted frame cached activations, of its own bytes on disk, without running the trunk for each.

    The records are those of real frames under other keys: what is timed afterwards reads and restores as many bytes as
    for a pool of really different frames.
    """
    sources = next(predictor.activations(frames(16), len(NAMES), views))
    stored = features.get_many(
        [predictor.record_key(digest, view) for digest in sources.digests for view in range(views)]
    )
    kept: dict[bytes, NDArray[np.uint8]] = {}
    for place, frame in enumerate(wanted):
        digest = hashlib.sha256(frame.url.encode()).digest()
        kept[predictor.address_key(frame.url)] = Known(digest, "", time.time()).record()
        for view in range(views):
            record = stored[(place % len(sources.digests)) * views + view]
            if record is not None:
                kept[predictor.record_key(digest, view)] = record
        if len(kept) > 2000:
            features.put_many(kept)
            kept.clear()
    features.put_many(kept)


def version(store: VersionStore, network: Network, settings: Settings, project: int = 1) -> Manifest:
    """A stored and active version with this network's tail and a table of nine combinations."""
    rng = np.random.default_rng(0)
    truth = labels(200, 1)
    table = build(truth, np.clip(truth * 0.6 + rng.random(truth.shape) * 0.4, 0, 1))
    manifest = store.create(
        Manifest(
            parent=None,
            project=project,
            created_at="",
            job=None,
            backbone=settings.backbone,
            weights=settings.weights or "ImageNet",
            trunk_key=network.trunk_key,
            label_names=NAMES,
            trained_on=(),
            held_out=(),
            table=table.to_json(),
            metrics={},
            batch={},
            losses=(),
            seconds={},
            settings={},
            seed=0,
        ),
        lambda path: network.save_tail(path, {}),
    )
    store.activate(manifest.version, by="a benchmark")
    return manifest
