"""What the cache knows of a frame's address: which content it had, and when that was looked at."""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.studio.addresses import FILE_STAMP

CHECK_SECONDS = 86_400.0  # how long a content counts as the one at an address that a server answers for
_HEAD = struct.Struct("<32sd")


@dataclass(frozen=True)
class Known:
    """The content of an address: its ``digest``, its ``stamp`` (`Fetcher.look`), and when it was ``checked``."""

    digest: bytes
    stamp: str
    checked: float

    @property
    def local(self) -> bool:
        """Whether a look at the file system is enough to know that it is still the same."""
        return self.stamp.startswith(FILE_STAMP)

    @property
    def due(self) -> bool:
        """Whether it is time to check that it is still the same."""
        return self.local or not 0 <= time.time() - self.checked < CHECK_SECONDS

    def record(self) -> NDArray[np.uint8]:
        """What the cache keeps."""
        return np.frombuffer(_HEAD.pack(self.digest, self.checked) + self.stamp.encode(), np.uint8)

    @classmethod
    def of(cls, record: NDArray[Any] | None) -> Known | None:
        """Read a record of the cache; None for none, and for one of an older form."""
        content = b"" if record is None else record.tobytes()
        if len(content) < _HEAD.size:
            return None
        digest, checked = _HEAD.unpack_from(content)
        return cls(digest, content[_HEAD.size :].decode(), checked)
