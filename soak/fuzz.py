"""Decode thousands of broken files: each may fail, but none may harm anything else.

Each is read as an import reads it, beside healthy files, and by the decoder of the frames that are served.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from ml_backend.errors import FrameUnreadable
from ml_backend.ingest.apart import Limits
from ml_backend.ingest.decoding import BROKEN, LATE
from ml_backend.ingest.files import kind_of
from ml_backend.ingest.identity import identity_of
from ml_backend.ingest.paths import ClipFile
from ml_backend.ingest.reading import Kept, read_all
from ml_backend.ingest.storage import picture_name
from ml_backend.msml.frames import SHAPE, decode
from soak.broken import NAME, NUMBER, Seed, broken, seeds
from soak.temporary import temporary_folder

SHARED = Path(__file__).parents[2] / "shared" / "data"
LIMITS = Limits(seconds=30.0, memory=1_000_000_000)
OVER = 10.0
"""Seconds that a file may take beyond its limit, on a busy machine."""
MOST_MEMORY = 2_000_000_000
"""Bytes that the process which reads the files may take."""
SERVED_SECONDS = 30.0
PIECE = 50  # broken files after which a healthy one is read
KEPT = 50  # offences that are reported
_LOCK = threading.Lock()
TOLD = tuple(part for name in (NAME, NUMBER) for part in (name, *name.split("^")))


@dataclass
class Result:
    """What came of the broken files; ``offences``: the harm that some did, by their numbers."""

    files: int = 0
    seed: int = 0
    imported: dict[str, dict[str, int]] = field(default_factory=dict)
    served: dict[str, dict[str, int]] = field(default_factory=dict)
    headers: dict[str, dict[str, int]] = field(default_factory=dict)
    healthy: int = 0
    worst_seconds: float = 0.0
    worst_file: int = -1
    worst_served_seconds: float = 0.0
    worst_served_file: int = -1
    memory: int = 0
    written_to_output: int = 0
    seconds: float = 0.0
    offences: list[str] = field(default_factory=list)


def main(arguments: list[str] | None = None) -> int:
    """Decode broken pictures, videos and DICOM files; ends with 1 if one did harm."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--files", type=int, default=20_000, help="how many (20000)")
    parser.add_argument("--first", type=int, default=0, help="number of the first, to repeat one (0)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the damage (0)")
    parser.add_argument("--output", type=Path, default=Path("runs/fuzz.json"), help="the figures (runs/fuzz.json)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        result = fuzz(Path(folder), options.files, options.seed, sorted(SHARED.glob("*/clips")), options.first)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(asdict(result), indent=2) + "\n")
    print(json.dumps(asdict(result), indent=2))
    return 1 if result.offences else 0


def fuzz(folder: Path, count: int, seed: int, real: Sequence[Path] = (), first: int = 0) -> Result:
    """Make ``count`` broken files below a folder, decode each, and return what came of it."""
    started = time.monotonic()
    result = Result(files=count, seed=seed)
    before = _most_memory()
    made = seeds(folder / "seeds", real)
    healthy = _healthy(folder, made)
    with temporary_folder(folder / "tmp") as temporary, _output(folder / "output") as written:
        with warnings.catch_warnings(), ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            warnings.simplefilter("ignore")  # as the import does: pydicom quotes header values

            def one(number: int) -> None:
                _one(folder, number, made, seed, result)
                if number % PIECE == 0:
                    _check_healthy(healthy[number // PIECE % len(healthy)], number, result)

            for _ in tqdm(pool.map(one, range(first, first + count)), total=count, unit="file", disable=None):
                pass
        if left := list(temporary.iterdir()):
            result.offences.append(f"left behind: {left[:3]}")
        output = written()
    result.written_to_output = len(output)
    if any(name.encode() in output for name in TOLD):
        result.offences.append("what was written to the output quotes a header")
    result.memory = _most_memory()
    if result.memory > max(MOST_MEMORY, before):  # what else this process did before may have taken more
        result.offences.append(f"the reading process took {result.memory} bytes")
    result.offences = result.offences[:KEPT]
    result.seconds = round(time.monotonic() - started, 1)
    return result


@dataclass(frozen=True)
class _Healthy:
    file: ClipFile
    kept: tuple[Kept, ...]


def _healthy(folder: Path, made: Sequence[Seed]) -> list[_Healthy]:
    """Read the intact files alone, before there is a broken one."""
    found = []
    for number, seed in enumerate(made):
        path = folder / f"healthy-{number}{seed.suffix}"
        path.write_bytes(seed.content)
        if kind_of(path) is not None:
            file = ClipFile(path, path.name, folder)
            (read,) = read_all([file], Fraction(0), -1, picture_name)
            if read.fault is None:
                found.append(_Healthy(file, read.kept))
    return found


def _check_healthy(healthy: _Healthy, number: int, result: Result) -> None:
    (read,) = read_all([healthy.file], Fraction(0), -1, picture_name)
    result.healthy += 1
    if read.fault is not None or read.kept != healthy.kept:
        result.offences.append(f"{number}: {healthy.file.name} now reads differently ({read.fault})")


def _most_memory() -> int:
    """The most memory that this process has had so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _one(folder: Path, number: int, made: Sequence[Seed], seed: int, result: Result) -> None:
    """Decode one broken file in every way that the product does; note any harm."""
    suffix, content = broken(made, seed, number)
    path = folder / f"{number}{suffix}"
    path.write_bytes(content)
    try:
        begun = time.monotonic()
        _count(result.imported, suffix, _imported(ClipFile(path, path.name, folder)))
        spent = time.monotonic() - begun
        if spent > result.worst_seconds:
            result.worst_seconds, result.worst_file = round(spent, 2), number
        if spent > LIMITS.seconds + OVER:
            result.offences.append(f"{number}: took {spent:.0f} s")
        if kind_of(path) == "dicom":
            _count(result.headers, suffix, _refused(lambda: identity_of(path)))
        begun = time.monotonic()
        _count(result.served, suffix, _refused(lambda: _served(content)))
        spent = time.monotonic() - begun
        if spent > result.worst_served_seconds:
            result.worst_served_seconds, result.worst_served_file = round(spent, 2), number
        if spent > SERVED_SECONDS:
            result.offences.append(f"{number}: took {spent:.0f} s where frames are served")
    except Exception as error:
        result.offences.append(f"{number}{suffix}: {type(error).__name__}: {error}")
    finally:
        path.unlink()


def _imported(file: ClipFile) -> str:
    (read,) = read_all([file], Fraction(0), -1, _small_name, limits=LIMITS)
    if read.fault is None:
        if not read.kept:
            raise AssertionError("neither pictures nor a reason")
        return "read"
    reason = str(read.fault)
    _check_reason(reason)
    if reason in (LATE, BROKEN) or "memory" in reason:
        return reason
    return "read in part" if read.kept else "refused"


def _small_name(picture: Image.Image) -> str:
    if picture.mode not in ("L", "RGB") or picture.info:
        raise AssertionError(f"a picture of mode {picture.mode} with {list(picture.info)}")
    return picture_name(picture)


def _served(content: bytes) -> None:
    if decode(content).shape != SHAPE:
        raise AssertionError("a frame of another shape")


def _refused(read: Callable[[], object]) -> str:
    try:
        read()
    except FrameUnreadable as error:
        _check_reason(str(error))
        return "refused"
    return "read"


def _check_reason(reason: str) -> None:
    """A reason is one line for people, and names nobody."""
    if not reason or not reason.isprintable() or any(name in reason for name in TOLD):
        raise AssertionError(f"the reason {reason!r}")


def _count(counts: dict[str, dict[str, int]], suffix: str, what: str) -> None:
    with _LOCK:
        of_kind = counts.setdefault(suffix.lower(), {})
        of_kind[what] = of_kind.get(what, 0) + 1


@contextmanager
def _output(path: Path) -> Iterator[Callable[[], bytes]]:
    """Send what libraries write to standard error to a file until the block ends."""
    saved = os.dup(2)
    with path.open("wb") as file:
        os.dup2(file.fileno(), 2)
        try:
            yield path.read_bytes
        finally:
            os.dup2(saved, 2)
            os.close(saved)


if __name__ == "__main__":
    raise SystemExit(main())
