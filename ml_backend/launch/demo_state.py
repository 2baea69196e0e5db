"""What a demo is told, and what it writes down in its folder, so that it can be opened again."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields, replace
from fractions import Fraction
from pathlib import Path

from ml_backend.errors import InvalidRequest
from ml_backend.launch.processes import free_port, require_free
from ml_backend.store.files import read_json, write_aside
from ml_backend.store.locks import alone

FILE = "demo.json"
BATCH = 20


@dataclass(frozen=True)
class Options:
    """What a demo can be told; the command's help says what each means."""

    clips: Path | None
    labels: Path | None
    unattended: bool
    finish: bool
    rounds: int
    batch: int | None
    report: Path
    every: Fraction
    port: int | None
    seed: int
    folder: Path | None


@dataclass(frozen=True)
class DemoState:
    """What stays the same each time that a demo is opened, and how far its making has come.

    ``held_out`` names the clips that the first start kept for the test; None where it was not unattended.
    """

    folder: str
    clips: str | None
    labels: str | None
    every: str
    batch: int
    seed: int
    studio_port: int
    port: int
    token: str
    webhook_secret: str
    held_out: list[str] | None = None
    project: int | None = None
    imported: bool = False

    @classmethod
    def read(cls, folder: Path) -> DemoState | None:
        """Read what the demo in ``folder`` has written; None where there is none yet."""
        content = read_json(folder / FILE)
        if content is None:
            return None
        if content.keys() != {field.name for field in fields(cls)}:
            raise InvalidRequest(f"{folder} holds a demo of another release: choose another --folder")
        return cls(**content)

    def write(self) -> None:
        """Write this to the demo's folder."""
        write_aside(Path(self.folder) / FILE, json.dumps(asdict(self), indent=1))


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other demos out of the folder. Raises InvalidRequest where one is running there."""
    with ExitStack() as stack:
        try:
            stack.enter_context(alone(folder / ".lock", wait=False))
        except BlockingIOError:
            raise InvalidRequest(f"a demo is running in {folder}: end it, or choose another --folder") from None
        yield


def first(options: Options, folder: Path) -> DemoState:
    """Return the state of a new demo in ``folder``."""
    if (folder / "data").exists():
        raise InvalidRequest(f"{folder} holds a demo of another release: choose another --folder")
    return DemoState(
        folder=str(folder),
        clips=_path(options.clips),
        labels=_path(options.labels),
        every=str(options.every),
        batch=options.batch or BATCH,
        seed=options.seed,
        studio_port=options.port or free_port(),
        port=free_port(),
        token=secrets.token_hex(20),
        webhook_secret=secrets.token_hex(20),
    )


def earlier(options: Options, folder: Path) -> DemoState | None:
    """Read the state of the demo in ``folder`` to open it again; None where there is none yet.

    ``--batch`` and ``--port`` may be other ones than before. Raises InvalidRequest where the rest of ``options`` asks
    for another demo than the one that is there, or it cannot be opened.
    """
    state = DemoState.read(folder)
    if state is None:
        return None
    if state.folder != str(folder):
        raise InvalidRequest(f"{folder} was {state.folder}, and Label Studio looks for its frames there: move it back")
    for option, asked, there in (("clips", options.clips, state.clips), ("labels", options.labels, state.labels)):
        if _path(asked) not in (None, there):
            raise InvalidRequest(
                f"the demo in {folder} has other {option}: leave --{option} out, or choose another --folder"
            )
    if options.unattended and state.held_out is None:
        raise InvalidRequest(
            f"the demo in {folder} was not started with --unattended, so it has kept no patients for the test: choose "
            "another --folder"
        )
    state = replace(state, batch=options.batch or state.batch, studio_port=options.port or state.studio_port)
    require_free("127.0.0.1", state.studio_port, "--port")
    require_free("127.0.0.1", state.port, "--folder")
    return state


def _path(path: Path | None) -> str | None:
    return None if path is None else str(path.resolve())
