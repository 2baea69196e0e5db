"""Back a data folder up into one file while it is in use, and make a data folder of such a file.

The file is a plain tar: `data/…`, and last `backup.json` with a checksum of each file, so that one that was cut off is
noticed. What can be made again is not in it: the cache, the embeddings and probabilities, and what Redis holds.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from typing import IO

from pydantic import BaseModel, ConfigDict, ValidationError

from ml_backend import __version__
from ml_backend.errors import BackupUnusable, InvalidRequest
from ml_backend.settings import PREFIX
from ml_backend.store.audits import AuditStore
from ml_backend.store.files import folder_aside, written_aside
from ml_backend.store.finishes import FinishStore
from ml_backend.store.format import IMPORTS, PRESENT, PROJECTS, Stamp, refuse_newer, require_readable
from ml_backend.store.locks import alone
from ml_backend.store.symptoms import SymptomStore
from ml_backend.store.versions import VersionStore

CONTENTS = "backup.json"
DATA = "data"
REMADE = ("embeddings", "probabilities")
"""Folders of a project that are made again where they are missing; their files grow in place."""
PIECE = 1 << 20
_UNPACKED = "restore"
LARGEST_CONTENTS = 256 << 20
"""Bytes of `backup.json` at most, 150 a file: one that is larger would fill the memory."""
Report = Callable[[int], None]
_DAMAGED = (
    # Of the files in it: one that is there twice, and one that is the folder of another.
    *(FileExistsError, NotADirectoryError, IsADirectoryError),
    # What tarfile raises for headers that make no sense.
    *(tarfile.TarError, EOFError, RecursionError, ValueError, OverflowError, MemoryError),
)


class Kept(BaseModel):
    """A file of a backup: its checksum (SHA-256, hexadecimal), its size in bytes and its permissions."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    sha256: str
    size: int
    mode: int


class Contents(Stamp):
    """What a backup holds; ``files`` by their path in the data folder."""

    made_at: str
    files: dict[str, Kept]


def back_up(data_dir: Path, target: Path, report: Report) -> Contents:
    """Write a backup of a data folder to ``target``, in place of an earlier one; processes may go on using the folder.

    While a project is copied, no version, finish or audit of it is changed. ``report`` hears how many files are copied.
    The file is readable by its owner only, because it holds the folder's secrets.

    Raises:
        InvalidRequest: if the folder is not there, or the file would lie in it.
        DataTooNew: if a newer release wrote the folder.
        OSError: if something cannot be read or written; an earlier backup then stays.
    """
    require_readable(data_dir)
    if not data_dir.is_dir():
        raise InvalidRequest(f"{data_dir} is not there, so there is nothing to back up: check {PREFIX}DATA_DIR")
    if target.is_dir() or target.resolve().is_relative_to(data_dir.resolve()):
        raise InvalidRequest(f"{target} is a folder, or lies in the data folder: name a file elsewhere")
    files: dict[str, Kept] = {}
    with written_aside(target) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        os.fchmod(file.fileno(), 0o600)
        with closing(_files(data_dir)) as paths:  # which ends what it holds, also after an error
            for path in paths:
                kept = _put(archive, path, f"{DATA}/{path.relative_to(data_dir).as_posix()}")
                if kept is not None:
                    files[path.relative_to(data_dir).as_posix()] = kept
                    report(len(files))
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        contents = Contents(format=PRESENT, written_by=__version__, made_at=now, files=files)
        text = contents.model_dump_json(indent=1).encode()
        archive.addfile(_member(CONTENTS, len(text), 0o600), io.BytesIO(text))
    return contents


def restore(source: Path, data_dir: Path, report: Report) -> Contents:
    """Make a data folder of a backup. Nothing of it is there until everything is read and checked.

    Raises:
        InvalidRequest: if the folder holds anything.
        BackupUnusable: if the file is no backup, is damaged, or holds what no backup holds.
        DataTooNew: if a newer release made it.
        OSError: if something cannot be read or written.
    """
    _require_empty(data_dir)
    new = not data_dir.exists()
    # Unpack inside the folder: it may be the mount point of a disk, and new files inherit its group.
    aside = folder_aside(data_dir / _UNPACKED)
    parts: list[Path] = []
    try:
        contents = _unpacked(source, aside, report)
        os.sync()
        # The projects last: without them nothing is served.
        parts = sorted(aside.iterdir(), key=lambda path: path.name == PROJECTS)
        for one in parts:
            one.rename(data_dir / one.name)
    except BaseException:
        for one in parts:
            if not one.exists():
                with suppress(OSError):
                    (data_dir / one.name).rename(one)
        shutil.rmtree(aside, ignore_errors=True)
        if new and not any(data_dir.iterdir()):
            data_dir.rmdir()
        raise
    aside.rmdir()
    return contents


def _require_empty(data_dir: Path) -> None:
    """Refuse a folder that holds anything, and remove what restores that were killed left in an empty one."""
    there = [one for one in data_dir.iterdir() if one.name != "lost+found"] if data_dir.is_dir() else []
    for one in there:
        if not one.name.startswith(f".aside-{_UNPACKED}-"):
            raise InvalidRequest(
                f"{data_dir} is not empty ({one.name}): end what uses it and move it away, or set {PREFIX}DATA_DIR to "
                "a new folder"
            )
    for one in there:
        shutil.rmtree(one)


def _files(data_dir: Path) -> Generator[Path, None, None]:
    """Yield the files to save, project by project, each while nobody changes what belongs together in it."""
    yield from sorted(path for path in data_dir.iterdir() if path.is_file() and not path.name.startswith("."))
    yield from _below(data_dir / IMPORTS)
    projects = data_dir / PROJECTS
    for project in sorted(projects.iterdir()) if projects.is_dir() else ():
        if not project.is_dir() or project.name.startswith("."):
            continue
        # In the order in which a finish takes them.
        with FinishStore(project).alone(), ExitStack() as locks:
            for store in (VersionStore(project), AuditStore(project), SymptomStore(project)):
                locks.enter_context(alone(store.lock))
            yield from _below(project)


def _below(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder that cannot be made again; none if it is not there."""
    if folder.is_dir():
        yield from _walked(folder, REMADE, frozenset())


def _walked(folder: Path, without: Collection[str], way: frozenset[Path]) -> Iterator[Path]:
    """Yield the files of a folder, then those below it; links are followed, except to a folder above (``way``)."""
    real = folder.resolve()
    way |= {real, *real.parents}
    there = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    yield from (path for path in there if not path.is_dir())
    for path in there:
        if path.is_dir() and path.name not in without and path.resolve() not in way:
            yield from _walked(path, (), way)


def _put(archive: tarfile.TarFile, path: Path, name: str) -> Kept | None:
    """Add a file as it is now: whoever replaces it meanwhile gives its name to another one. None if it is gone."""
    try:
        file = path.open("rb")
    except FileNotFoundError:  # an order that was removed since
        return None
    with file:
        state = os.fstat(file.fileno())
        read = _Hashed(file)
        archive.addfile(_member(name, state.st_size, state.st_mode & 0o777), read)
    return Kept(sha256=read.digest.hexdigest(), size=state.st_size, mode=state.st_mode & 0o777)


def _member(name: str, size: int, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, mode
    member.mtime = int(datetime.now(timezone.utc).timestamp())
    return member


class _Hashed(io.RawIOBase):
    """A file that hashes what is read of it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        self.digest.update(piece)
        return piece


def _unpacked(source: Path, folder: Path, report: Report) -> Contents:
    """Unpack a backup into an empty folder, and check it against what it says of itself."""
    found: dict[str, Kept] = {}
    contents: Contents | None = None
    with _archive(source) as archive:
        for member in archive:
            large = member.name == CONTENTS and member.size > LARGEST_CONTENTS
            if contents is not None or not member.isreg() or member.issparse() or large:
                raise BackupUnusable(f"{source} holds {member.name!r}, which no backup holds")
            content = archive.extractfile(member)
            assert content is not None  # a regular file has content
            if member.name == CONTENTS:
                contents = _contents(source, content.read())
                continue
            name = _safe(source, member.name)
            found[name] = _written(content, folder / name)
            report(len(found))
    if contents is None:
        raise BackupUnusable(f"{source} is no backup, or its end is missing: take another one")
    differing = sorted(
        name
        for name in found.keys() | contents.files.keys()
        if name not in found or name not in contents.files or _differ(found[name], contents.files[name])
    )
    if differing:
        raise BackupUnusable(f"{source} is damaged ({differing[0]}): take another backup")
    for name, kept in contents.files.items():
        (folder / name).chmod(kept.mode & 0o666 | 0o600)
    return contents


@contextmanager
def _archive(source: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(source, "r:") as archive:
            yield archive
    except _DAMAGED as error:
        raise BackupUnusable(f"{source} is no backup, or damaged ({error}): take another one") from None
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENAMETOOLONG):  # a place before the file's start, and a long name
            raise
        raise BackupUnusable(f"{source} is no backup, or damaged ({error.strerror}): take another one") from None


def _safe(source: Path, name: str) -> str:
    """The path in the data folder of a member's name; never one that leads out of the folder."""
    path = PurePosixPath(name)
    inside = path.parts[1:]
    if path.parts[:1] != (DATA,) or not inside or ".." in inside or "\0" in name or inside[0].startswith("."):
        raise BackupUnusable(f"{source} holds {name!r}, which no backup holds")
    return str(PurePosixPath(*inside))


def _contents(source: Path, text: bytes) -> Contents:
    try:
        # First, because what a newer release writes may look damaged.
        refuse_newer(Stamp.model_validate_json(text), f"the backup {source}")
        return Contents.model_validate_json(text)
    except ValidationError as error:
        raise BackupUnusable(f"{source} is damaged ({CONTENTS}: {error.error_count()} problems)") from None


def _written(content: IO[bytes], path: Path) -> Kept:
    path.parent.mkdir(parents=True, exist_ok=True)
    read = _Hashed(content)
    with path.open("xb") as file:
        path.chmod(0o600)  # until it is known who may read it
        while piece := read.read(PIECE):
            file.write(piece)
    return Kept(sha256=read.digest.hexdigest(), size=path.stat().st_size, mode=0)


def _differ(found: Kept, said: Kept) -> bool:
    return (found.sha256, found.size) != (said.sha256, said.size)
