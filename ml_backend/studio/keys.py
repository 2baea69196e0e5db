"""The keys of a task's data that say which patient, which clip and what time a frame is of."""

from __future__ import annotations

from dataclasses import dataclass

from ml_backend.settings import Settings

CAPTION = "caption"
"""Key of the caption that the labelling page shows above a frame."""


@dataclass(frozen=True)
class DataKeys:
    """Names of the keys; the defaults are those that the import writes."""

    patient: str = "patient"
    clip: str = "clip"
    time: str = "time"

    @classmethod
    def of(cls, settings: Settings) -> DataKeys:
        """The keys that the settings name."""
        return cls(settings.patient_key, settings.clip_key, settings.time_key)
