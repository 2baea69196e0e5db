"""A task's frame, and what reads its file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


class Fetcher(Protocol):
    """What reads a frame's file: `studio.images.FrameFetcher`, or a study's own."""

    def fetch(self, url: str, task: int | None = None) -> bytes:
        """Read one file, or raise FrameUnreadable."""

    def look(self, url: str, task: int | None = None, stamp: str = "") -> tuple[bytes, str] | None:
        """Read one file and its stamp; None where ``stamp`` says that it is the same as before.

        A stamp tells files apart without reading them; it is empty where there is no way to tell.
        """
        return self.fetch(url, task), ""


@dataclass(frozen=True)
class Frame:
    """A task's frame: where Label Studio says it is, which clip and patient it comes from, and when (seconds)."""

    task: int
    url: str
    clip: str = ""
    patient: str = ""
    time: float | None = None

    @classmethod
    def of(
        cls,
        task: int,
        data: object,
        image_key: str,
        clip_key: str = "clip",
        patient_key: str = "patient",
        time_key: str = "time",
    ) -> Frame:
        """The frame that a task's data names; a missing address or one that is no text cannot be read later.

        ``clip_key``, ``patient_key`` and ``time_key`` name its clip, patient and time in seconds; a frame without one
        is a clip, or a patient, of its own.
        """
        named = data if isinstance(data, Mapping) else {}
        # JSON may carry halves of characters, which are no text that an address could be made of.
        url = str(named.get(image_key, "")).encode(errors="replace").decode()
        alone = f"task {task}"
        clip, patient = str(named.get(clip_key) or alone), str(named.get(patient_key) or alone)
        return cls(task, url, clip, patient, _seconds(named.get(time_key)))


def _seconds(value: object) -> float | None:
    try:
        seconds = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return seconds if math.isfinite(seconds) else None
