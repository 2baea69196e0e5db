"""Model versions: immutable folders, one active pointer."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from ml_backend.errors import VersionSuperseded, VersionUnknown
from ml_backend.store.files import flush, write_aside
from ml_backend.store.locks import alone

MANIFEST = "manifest.json"
TAIL = "tail.safetensors"
NAME = re.compile(r"^msml-(\d{4,})-[0-9a-f]{8}$")


class TrainedOn(BaseModel):
    """One confirmed annotation as a version saw it; ``updated_at`` tells whether it was changed since."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    annotation: int
    task: int
    updated_at: str


class Manifest(BaseModel):
    """What a version is and where it comes from; written once, never changed.

    ``table`` is the correlation table as JSON, ``strengths`` the one with strengths kept; ``metrics`` are those on
    held-out patients; ``batch`` is how the parent's defaults did on the annotations that are new in this version, taken
    before training on them; ``trial`` is how each strategy and validator would have done on them, and ``choice`` what
    follows for the next batch, with the reasons; ``clips`` counts the labelled frames of each clip,
    ``positives`` those that show each symptom; ``held_back`` is why the version was not made active, empty where it
    was.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str = ""
    parent: str | None
    project: int
    created_at: str
    job: str | None
    trigger: str | None = None
    backbone: str
    weights: str
    trunk_key: str
    label_names: tuple[str, ...]
    trained_on: tuple[TrainedOn, ...]
    held_out: tuple[TrainedOn, ...]
    left_out: tuple[TrainedOn, ...] = ()
    table: dict[str, Any]
    strengths: dict[str, Any] = {}
    metrics: dict[str, Any]
    batch: dict[str, Any]
    trial: dict[str, Any] | None = None
    choice: dict[str, Any] = {}
    clips: dict[str, int] = {}
    positives: dict[str, int] = {}
    losses: tuple[float, ...]
    seconds: dict[str, float]
    settings: dict[str, Any]
    seed: int
    notes: tuple[str, ...] = ()
    held_back: str = ""

    @property
    def number(self) -> int:
        """Place in the project's line of versions, from 1."""
        match = NAME.match(self.version)
        return int(match.group(1)) if match else 0

    @property
    def seen(self) -> tuple[TrainedOn, ...]:
        """Every confirmed annotation this version knew: trained on, held out, or left out as unreadable."""
        return self.trained_on + self.held_out + self.left_out


class Activation(BaseModel):
    """When a version was made the one that serves, and by whom: a job, or a person with a command."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    by: str
    at: str


class VersionStore:
    """The versions of one project below ``folder``.

    Every write goes to a neighbouring temporary name, is flushed to disk and renamed, so a version is there whole or
    not at all, and the active pointer names only whole versions.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._versions = folder / "versions"
        self._pointer = folder / "active"
        self._activations = folder / "activations.json"
        self._lock = folder / ".versions.lock"

    def create(self, manifest: Manifest, write_tail: Callable[[Path], None], number: int | None = None) -> Manifest:
        """Store a new version and return its manifest with the name it got.

        The name is the next number and a digest of tail and manifest, so that no two versions ever share it.
        ``number`` is the place in the line that the version was trained for, None where any will do.

        Raises:
            VersionSuperseded: where that place is taken.
        """
        self._versions.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".aside-", dir=self._versions))
        try:
            write_tail(aside / TAIL)
            digest = hashlib.sha256((aside / TAIL).read_bytes() + manifest.model_dump_json().encode()).hexdigest()[:8]
            flush(aside / TAIL)
            # Two jobs may have trained the same batch, and only one version may come of it.
            with alone(self._lock):
                newest = self.newest()
                place = newest.number + 1 if newest else 1
                if number not in (None, place):
                    raise VersionSuperseded(f"version {number} was stored by another job; this one is not needed")
                named = manifest.model_copy(update={"version": f"msml-{place:04d}-{digest}"})
                write_aside(aside / MANIFEST, named.model_dump_json(indent=1))
                aside.rename(self._versions / named.version)
                flush(self._versions)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        return named

    def names(self) -> list[str]:
        """Names of all whole versions, oldest first."""
        if not self._versions.is_dir():
            return []
        found = [entry.name for entry in self._versions.iterdir() if NAME.match(entry.name)]
        return sorted(found, key=lambda name: (int(name.split("-")[1]), name))

    def get(self, version: str) -> Manifest:
        """Read one version's manifest.

        Raises:
            VersionUnknown: where it is not there or cannot be read.
        """
        if not NAME.match(version):
            raise VersionUnknown(f"{version!r} is not the name of a version")
        path = self._versions / version / MANIFEST
        try:
            state = path.stat()
            return _read(path, state.st_mtime_ns, state.st_size)
        except FileNotFoundError:
            raise VersionUnknown(f"version {version} is not in {self._versions}") from None
        except ValidationError as error:
            raise VersionUnknown(f"the manifest of {version} cannot be read: {error.error_count()} problems") from None

    def tail(self, version: str) -> Path:
        """Where a version's tail weights lie."""
        return self._versions / version / TAIL

    def newest(self) -> Manifest | None:
        """The version with the highest number, active or not."""
        names = self.names()
        return self.get(names[-1]) if names else None

    def active(self) -> str | None:
        """Name of the version that serves, or None before the first."""
        try:
            return self._pointer.read_text().strip() or None
        except FileNotFoundError:
            return None

    def active_manifest(self) -> Manifest | None:
        """The version that serves, or None before the first and where it is gone or cannot be read."""
        name = self.active()
        try:
            return self.get(name) if name else None
        except VersionUnknown:
            return None

    def activate(self, version: str, by: str) -> None:
        """Make a whole, readable version the one that serves, and remember that ``by`` did it.

        Raises:
            VersionUnknown: where the version is not in the store.
        """
        # A job and a person may do it at the same time, and neither's entry may be lost.
        with alone(self._lock):
            self.get(version)
            now = datetime.now(timezone.utc).isoformat(timespec="seconds")
            history = [*self.activations(), Activation(version=version, by=by, at=now)]
            write_aside(self._activations, _ACTIVATIONS.dump_json(history, indent=1).decode())
            write_aside(self._pointer, version + "\n")

    def activations(self) -> list[Activation]:
        """Which version was made active when and by whom, oldest first.

        A crash can leave an entry last whose version is not active yet; damaged history counts as none.
        """
        try:
            return _ACTIVATIONS.validate_json(self._activations.read_bytes())
        except (FileNotFoundError, ValidationError):
            return []

    def before(self) -> str | None:
        """The version that served before the active one did and is still here, or None."""
        active, here = self.active(), set(self.names())
        served = [one.version for one in self.activations() if one.version in here]
        # Going back again and again walks down the line instead of to and fro between two versions.
        if active in served:
            served = served[: served.index(active)]
        return next((version for version in reversed(served) if version != active), None)

    def prune(self, keep: int) -> list[str]:
        """Remove the oldest versions but ``keep``; returns their names.

        The active version, the one that it comes from, the one to roll back to and the newest always stay.
        """
        # Nobody may make one active that is on its way out.
        with alone(self._lock):
            active = self.active()
            needed = {active, self.before(), *self.names()[-max(keep, 1) :]}
            if active is not None:
                needed.add(self.get(active).parent)
            removed = [name for name in self.names() if name not in needed]
            for name in removed:
                # Out of sight in one step, so that nobody ever sees half a version.
                aside = Path(tempfile.mkdtemp(prefix=".removed-", dir=self._versions))
                (self._versions / name).rename(aside / name)
                shutil.rmtree(aside)
            return removed


_ACTIVATIONS: TypeAdapter[list[Activation]] = TypeAdapter(list[Activation])


# Every webhook asks for two, the newest and the active: enough for 32 projects. One that names 5,000 annotations takes
# 3 MB here and 10 ms to read anew, so that a process keeps 200 MB at the very most.
@lru_cache(maxsize=64)
def _read(path: Path, written_ns: int, size: int) -> Manifest:
    """Manifests never change, and every webhook asks for one that may name thousands of annotations."""
    return Manifest.model_validate_json(path.read_bytes())
