"""A task's frame, and what reads its file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


class Fetcher(Protocol):
    """What reads a frame's file: `studio.images.FrameFetcher`, or a study's own."""

    def fetch(self, url: str, task: int | None = None) -> bytes:
        """Read one file, or raise FrameUnreadable."""


@dataclass(frozen=True)
class Frame:
    """A task's frame: where Label Studio says it is, and which clip it comes from."""

    task: int
    url: str
    clip: str = ""

    @classmethod
    def of(cls, task: int, data: object, image_key: str, clip_key: str = "clip") -> Frame:
        """The frame that a task's data names; a missing address or one that is no text cannot be read later.

        ``clip_key`` names its clip; a frame without one is a clip of its own.
        """
        named = data if isinstance(data, Mapping) else {}
        # JSON may carry halves of characters, which are no text that an address could be made of.
        url = str(named.get(image_key, "")).encode(errors="replace").decode()
        return cls(task, url, str(named.get(clip_key) or f"task {task}"))
