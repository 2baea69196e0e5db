"""Model versions: immutable folders, one active pointer."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import EllipsisType
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open

from ml_backend.errors import ActiveVersionChanged, VersionSuperseded, VersionUnknown
from ml_backend.store.activations import Activation, Activations
from ml_backend.store.files import aside as aside_of
from ml_backend.store.files import flush, folder_aside, write_aside
from ml_backend.store.format import FIRST, NOW, Stamp, refuse_newer
from ml_backend.store.locks import alone
from ml_backend.tsal.judgement import Figure

MANIFEST = "manifest.json"
TAIL = "tail.safetensors"
DAMAGED = "damaged-"
NAME = re.compile(r"^msml-(\d{4,})-[0-9a-f]{8}$")


class TrainedOn(BaseModel):
    """One confirmed annotation as a version saw it; ``updated_at`` tells whether it was changed since."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    annotation: int
    task: int
    updated_at: str


class Manifest(BaseModel):
    """What a version is and where it comes from; written once, never changed.

    ``held_out`` are the frames that its network was not trained on; ``table`` is the correlation table as JSON,
    ``strengths`` the one with strengths kept; ``metrics`` are those on the frames that it was judged by, each figure
    with its interval by patient; ``batch`` is how the parent's defaults did on the annotations that are new in this
    version, taken before training on them, and ``ticks`` the same on their audit frames alone, a uniform sample of the
    pool; ``accepted`` counts the annotations that nobody looked at; ``trial`` is how each strategy and validator would
    have done on the new audit frames, and ``choice`` what follows for the next batch, with the reasons; ``clips``
    counts the labelled frames of each clip, ``positives`` those that show each symptom; ``held_back`` is why the
    version was not made active, empty where it was.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: int = FIRST
    written_by: str = ""
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
    ticks: dict[str, Any] = {}
    accepted: int = 0
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

    def figure(self, name: str) -> Figure | None:
        """One of the figures in ``metrics``, None where it was not measured."""
        return Figure.read(self.metrics.get(name))

    @property
    def seen(self) -> tuple[TrainedOn, ...]:
        """Every confirmed annotation this version knew: trained on, held out, or left out as unreadable."""
        return self.trained_on + self.held_out + self.left_out


class VersionStore:
    """The versions of one project below ``folder``.

    A write goes to a temporary name beside its place, is flushed to disk and renamed, so a version is there whole or
    not at all, and the active pointer names only whole versions.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._versions = folder / "versions"
        self._activations = Activations(folder)
        self.lock = folder / ".versions.lock"

    def create(
        self,
        manifest: Manifest,
        write_tail: Callable[[Path], object],
        number: int | None = None,
        by: str | None = None,
        expected: str | EllipsisType | None = ...,
    ) -> Manifest:
        """Store a new version and return its manifest with the name it got.

        The name is the next number and a digest of tail and manifest, so that no two versions ever share it.
        ``number`` is the place in the line that the version was trained for, None if any will do. With ``by`` the
        version is activated in the same step, unless it is held back. If another version than ``expected`` is active
        by then, a person chose it: the new version is held back and its manifest says so.

        Raises:
            VersionSuperseded: if that place is taken.
        """
        aside = folder_aside(self._versions / "new")
        try:
            write_tail(aside / TAIL)
            digest = hashlib.sha256((aside / TAIL).read_bytes() + manifest.model_dump_json().encode()).hexdigest()[:8]
            flush(aside / TAIL)
            # Two jobs may have trained on the same batch, and only one version may come of it.
            with alone(self.lock):
                newest = self.newest()
                place = newest.number + 1 if newest else 1
                if number not in (None, place):
                    raise VersionSuperseded(f"version {number} was stored by another job; this one is not needed")
                named = manifest.model_copy(update={"version": f"msml-{place:04d}-{digest}", **NOW.model_dump()})
                if by and not named.held_back and expected not in (..., self.active()):
                    reason = f"{self.active() or 'no version'} was made active while it was trained"
                    named = named.model_copy(update={"held_back": reason})
                write_aside(aside / MANIFEST, named.model_dump_json(indent=1))
                activated = by if by and not named.held_back else None
                if activated:
                    self._activations.note(named.version, activated)
                aside.rename(self._versions / named.version)
                flush(self._versions)
                if activated:
                    self._activations.point(named.version)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        return named

    def names(self) -> list[str]:
        """Names of all versions, oldest first."""
        if not self._versions.is_dir():
            return []
        found = [entry.name for entry in self._versions.iterdir() if NAME.match(entry.name)]
        return sorted(found, key=lambda name: (int(name.split("-")[1]), name))

    def get(self, version: str) -> Manifest:
        """Read one version's manifest.

        Raises:
            VersionUnknown: if it is not there or cannot be read.
            DataTooNew: if a newer release wrote it, in a format that this one cannot read.
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
        """Path of a version's tail weights."""
        return self._versions / version / TAIL

    def newest(self) -> Manifest | None:
        """The version with the highest number, active or not."""
        names = self.names()
        return self.get(names[-1]) if names else None

    def active(self) -> str | None:
        """Name of the version that serves, or None before the first."""
        return self._activations.active()

    def active_manifest(self) -> Manifest | None:
        """The version that serves; None before the first, and if it is gone or cannot be read."""
        name = self.active()
        try:
            return self.get(name) if name else None
        except VersionUnknown:
            return None

    def activate(self, version: str, by: str, expected: str | EllipsisType | None = ..., undo: bool = False) -> None:
        """Make a readable version the one that serves, and record who did it; ``undo`` if it is a rollback.

        With ``expected``, the name of the version that is active now or None for none, nothing changes if another one
        is. The comparison and the change are one step for all processes.

        Raises:
            VersionUnknown: if the version is not in the store.
            ActiveVersionChanged: if another version than ``expected`` is active.
        """
        with alone(self.lock):
            self.get(version)
            active = self.active()
            if expected not in (..., active):
                raise ActiveVersionChanged(
                    f"{active or 'no version'} is active now, not {expected or 'none'}: somebody changed it meanwhile. "
                    f"Look at `versions list` and decide again"
                )
            self._activations.note(version, by, undo)
            self._activations.point(version)

    def complete(self) -> str | None:
        """Complete an activation that a crash cut off between history and pointer; returns the version, if any."""
        with alone(self.lock):
            last = self._activations.history()[-1:]
            if not last or last[0].version == self.active() or last[0].version not in self.names():
                return None
            self._activations.point(last[0].version)
            return last[0].version

    def activations(self) -> list[Activation]:
        """Which version was activated when and by whom, oldest first."""
        return self._activations.history()

    def before(self) -> str | None:
        """The version that a rollback goes back to: the one that served before the last activation; None without one.

        Rolling back again and again walks through the versions that served, newest first, as undo does in an editor.
        """
        active = self.active()
        served = self._activations.served(self.names())
        return next((version for version in reversed(served) if version != active), None)

    def set_aside_damaged(self) -> dict[str, str]:
        """Move a newest or active version that cannot be read out of the line; returns what is wrong, by name.

        The folder stays as ``versions/damaged-NAME`` for whoever can repair it. If the active version is gone, the
        newest whole one that served before becomes active; without one, the newest whole version that was not held
        back; else none.
        """
        found: dict[str, str] = {}
        if not self.folder.is_dir():
            return found
        with alone(self.lock):
            active, names = self.active(), self.names()
            while names and (problem := self._problem(names[-1])):
                found[names.pop()] = problem
            if active in names and (problem := self._problem(active)):
                found[active] = problem
                names.remove(active)
            for name in found:
                place = self._versions / f"{DAMAGED}{name}"
                while place.exists():
                    place = place.with_name(f"{place.name}-again")
                (self._versions / name).rename(place)
            if active is not None and active not in names:
                found.setdefault(active, "its folder is missing")
                self._fall_back(active, names)
        return found

    def damaged(self) -> list[str]:
        """Names of the versions that were set aside because they could not be read."""
        return sorted(entry.name.removeprefix(DAMAGED) for entry in self._versions.glob(f"{DAMAGED}*"))

    def _problem(self, version: str) -> str | None:
        """What makes a version unusable, None if it is whole; the weights themselves are not read."""
        try:
            self.get(version)
            with safe_open(self.tail(version), "np"):
                return None
        except VersionUnknown as error:
            return str(error)
        except FileNotFoundError:
            return "its weights are missing"
        except SafetensorError as error:
            return f"its weights cannot be read: {error}"

    def _fall_back(self, active: str, names: list[str]) -> None:
        """Activate a whole version of ``names`` in the place of the active one, which is not there any more."""
        served = [one for one in self._activations.served(names) if not self._problem(one)]
        fit = served or [one for one in names if not self._problem(one) and not self.get(one).held_back]
        if fit:
            self._activations.note(fit[-1], by=f"damage of {active}")
        self._activations.point(fit[-1] if fit else None)

    def prune(self, keep: int) -> list[str]:
        """Remove the oldest versions but ``keep``; returns their names.

        The active version, its parent, the one that a rollback goes back to and the newest always stay.
        """
        # Nobody may activate one that is being removed.
        with alone(self.lock):
            active = self.active()
            needed = {active, self.before(), *self.names()[-max(keep, 1) :]}
            if active is not None:
                needed.add(self.get(active).parent)
            removed = [name for name in self.names() if name not in needed]
            for name in removed:
                # Out of sight in one step, so that nobody ever sees half a version.
                shutil.rmtree((self._versions / name).rename(aside_of(self._versions / name)))
            return removed


# Every webhook asks for two, the newest and the active: enough for 32 projects. One that names 5,000 annotations takes
# 3 MB here and 10 ms to read anew, so that a process keeps 200 MB at the very most.
@lru_cache(maxsize=64)
def _read(path: Path, written_ns: int, size: int) -> Manifest:
    """Manifests never change, and every webhook asks for one that may name thousands of annotations."""
    content = path.read_bytes()
    # First, because the manifest of a newer format may look damaged, and a damaged one is set aside.
    refuse_newer(Stamp.model_validate_json(content), f"version {path.parent.name} in {path.parent.parent}")
    return Manifest.model_validate_json(content)
