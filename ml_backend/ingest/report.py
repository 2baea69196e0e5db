"""The summary of an import."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ml_backend.ingest.words import some


@dataclass
class Report:
    """What an import did.

    ``files`` counts those read without a fault. Of the ``frames`` seen, some were ``already_there``, some were
    ``imported`` (in a ``dry_run``: would be), and the rest are near-duplicates. ``other_patient`` counts those already
    there whose task names another patient. ``failed`` holds files and reasons; ``patients`` are grouped by their source
    (see `Origin`). ``unmatched`` are rows of the table without a file; for ``joined`` see `Plan.joined`.
    """

    dry_run: bool = False
    files: int = 0
    frames: int = 0
    already_there: int = 0
    other_patient: int = 0
    imported: int = 0
    failed: list[tuple[Path, str]] = field(default_factory=list)
    patients: dict[str, set[str]] = field(default_factory=dict)
    unmatched: tuple[str, ...] = ()
    joined: tuple[str, ...] = ()

    @property
    def near_duplicates(self) -> int:
        """The number of frames dropped because they are nearly the same as another one of their clip."""
        return self.frames - self.already_there - self.imported

    def lines(self) -> Iterator[str]:
        """Yield the summary, a line each."""
        yield f"files read:              {self.files}"
        yield f"frames seen:             {self.frames}"
        yield f"near-duplicates dropped: {self.near_duplicates}"
        yield f"already there:           {self.already_there}"
        if self.other_patient:
            yield f"  under another patient: {self.other_patient} (they keep it)"
        yield f"{'would import:' if self.dry_run else 'imported:':<24} {self.imported}"
        yield f"files failed:            {len(self.failed)}"
        for known_by, patients in sorted(self.patients.items()):
            yield f"patients known by {known_by}: {len(patients)}"
        if self.unmatched:
            yield f"rows of the table without a file: {len(self.unmatched)} ({some(self.unmatched)})"
        if self.joined:
            yield (
                f"new clips went to patients whom the project has from another import: {some(self.joined)}; if they "
                "are other people with the same name, delete these clips and import the folder that holds all patients"
            )
        if "file name" in self.patients:
            yield (
                "every file without a folder was taken for a patient of its own; if the imported folder is one "
                "patient, use --patient-level 0, otherwise name the patients in a table with --patients"
            )
