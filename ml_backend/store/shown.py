"""The frames that a picture may show, as columns, which can stay on disk even for a million frames."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from ml_backend.store.evidence_addresses import name_of

DIGITS = 16  # hexadecimal digits of a name that are compared first: as many as 64 bits hold


@dataclass(frozen=True)
class Shown:
    """A frame that a picture may show: its task, its address, its clip, and its time in the clip in seconds."""

    task: int
    url: str
    clip: str
    time: float | None


@dataclass(frozen=True)
class _Texts:
    """Texts, one after the other as UTF-8 ``bytes``; text i ends at ``ends[i]``."""

    bytes: NDArray[np.uint8]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, texts: Iterable[str]) -> _Texts:
        parts = [text.encode(errors="surrogatepass") for text in texts]
        return cls(np.frombuffer(b"".join(parts), np.uint8), np.cumsum([len(part) for part in parts], dtype=np.int64))

    def __getitem__(self, place: int) -> str:
        begin = int(self.ends[place - 1]) if place else 0
        return self.bytes[begin : int(self.ends[place])].tobytes().decode(errors="surrogatepass")

    def __iter__(self) -> Iterator[str]:
        content, begin = self.bytes.tobytes(), 0
        for end in self.ends.tolist():
            yield content[begin:end].decode(errors="surrogatepass")
            begin = end


@dataclass(frozen=True, eq=False)
class Frames(Sequence[Shown]):
    """n frames. ``tasks`` (n,) int64; ``clips`` (n,) int32, numbered from 0; ``times`` (n,) seconds, NaN if unknown."""

    tasks: NDArray[np.int64]
    clips: NDArray[np.int32]
    times: NDArray[np.float64]
    _names: NDArray[np.uint64]  # the first digits of each name
    _urls: _Texts
    _clip_names: _Texts

    @classmethod
    def of(cls, frames: Sequence[Shown]) -> Frames:
        """Turn frames into columns."""
        number: dict[str, int] = {}
        clips = [number.setdefault(one.clip, len(number)) for one in frames]
        return cls(
            np.array([one.task for one in frames], np.int64),
            np.array(clips, np.int32),
            np.array([math.nan if one.time is None else one.time for one in frames], np.float64),
            np.array([_key_of(name_of(one.url)) for one in frames], np.uint64),
            _Texts.of(one.url for one in frames),
            _Texts.of(number),
        )

    def columns(self) -> dict[str, NDArray[Any]]:
        """The columns by name, for a file."""
        urls, names = self._urls, self._clip_names
        return {
            "tasks": self.tasks,
            "clip_of": self.clips,
            "time_of": self.times,
            "names": self._names,
            "urls": urls.bytes,
            "url_ends": urls.ends,
            "clip_names": names.bytes,
            "clip_name_ends": names.ends,
        }

    @classmethod
    def read(cls, columns: Mapping[str, NDArray[Any]]) -> Frames:
        """Turn what `columns` returned back into frames."""
        urls = _Texts(columns["urls"], columns["url_ends"])
        names = _Texts(columns["clip_names"], columns["clip_name_ends"])
        return cls(columns["tasks"], columns["clip_of"], columns["time_of"], columns["names"], urls, names)

    def find(self, name: str) -> int | None:
        """Return the row of the first frame with this name (see `name_of`), None if there is none."""
        rows = np.flatnonzero(self._names == _key_of(name)).tolist()
        return next((row for row in rows if name_of(self._urls[row]) == name), None)

    def rows_of(self, tasks: Iterable[int]) -> NDArray[np.intp]:
        """Return the rows of these tasks, ascending; tasks without a frame here are left out."""
        return np.flatnonzero(np.isin(self.tasks, np.fromiter(tasks, np.int64)))

    def __len__(self) -> int:
        return len(self.tasks)

    @overload
    def __getitem__(self, row: int) -> Shown: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[Shown]: ...
    def __getitem__(self, row: int | slice) -> Shown | Sequence[Shown]:
        if isinstance(row, slice):
            return [self[one] for one in range(len(self))[row]]
        row = range(len(self))[row]
        time = float(self.times[row])
        clip = self._clip_names[int(self.clips[row])]
        return Shown(int(self.tasks[row]), self._urls[row], clip, None if math.isnan(time) else time)

    def __iter__(self) -> Iterator[Shown]:
        names = list(self._clip_names)
        rows = zip(self.tasks.tolist(), self._urls, self.clips.tolist(), self.times.tolist(), strict=True)
        for task, url, clip, time in rows:
            yield Shown(task, url, names[clip], None if math.isnan(time) else time)


def _key_of(name: str) -> np.uint64:
    return np.uint64(int(name[:DIGITS], 16))
