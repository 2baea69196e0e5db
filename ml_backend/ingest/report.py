"""The summary of an import."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath

from ml_backend.ingest.cut import WHOLE, Cut
from ml_backend.ingest.words import counted, some


@dataclass
class Report:
    """What an import did.

    ``files`` counts those read without a fault. Of the ``frames`` seen, some were ``already_there``, some were
    ``imported`` (in a ``dry_run``: would be), and the rest are near-duplicates. ``other_patient`` counts those already
    there whose task names another patient. ``failed`` holds files and reasons; ``patients`` are grouped by their source
    (see `Origin`). ``unmatched`` are rows of the table without a file; for ``joined`` see `Plan.joined`. ``burnt_in``
    counts DICOM files by what they say of names in the picture (see `Identity`); ``cut`` is what was taken of pictures.

    From a PACS, each ``unit`` is an instance; ``complete`` counts those that the project has and that were not fetched,
    ``left_out`` those of other kinds than ultrasound, by kind.
    """

    dry_run: bool = False
    files: int = 0
    frames: int = 0
    already_there: int = 0
    other_patient: int = 0
    imported: int = 0
    failed: list[tuple[PurePath, str]] = field(default_factory=list)
    patients: dict[str, set[str]] = field(default_factory=dict)
    unmatched: tuple[str, ...] = ()
    joined: tuple[str, ...] = ()
    burnt_in: Counter[str] = field(default_factory=Counter)
    cut: Cut = WHOLE
    unit: str = "file"
    complete: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def near_duplicates(self) -> int:
        """The number of frames dropped because they are nearly the same as another one of their clip."""
        return self.frames - self.already_there - self.imported

    def lines(self) -> Iterator[str]:
        """Yield the summary, a line each."""
        yield f"{f'{self.unit}s read:':<24} {self.files}"
        yield from self.found()
        yield f"frames seen:             {self.frames}"
        yield f"near-duplicates dropped: {self.near_duplicates}"
        yield f"already there:           {self.already_there}"
        if self.other_patient:
            yield f"  under another patient: {self.other_patient} (they keep it)"
        yield f"{'would import:' if self.dry_run else 'imported:':<24} {self.imported}"
        yield f"{f'{self.unit}s failed:':<24} {len(self.failed)}"
        yield from self._burnt_in()
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
        if "study" in self.patients:
            yield "headers without a patient: each of their studies was taken for a patient of its own"

    def found(self) -> Iterator[str]:
        """Yield what was found and is not fetched, and what is taken of every picture."""
        if self.complete:
            yield f"{f'{self.unit}s complete:':<24} {self.complete} (in the project already, not fetched again)"
        if self.left_out:
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.left_out.items()))
            yield f"left out, no ultrasound: {sum(self.left_out.values())} ({kinds})"
        if self.cut != WHOLE:
            yield f"taken of every picture:  {self.cut}"

    def _burnt_in(self) -> Iterator[str]:
        if named := self.burnt_in["YES"]:
            what = (
                "look at what the crop and the masks leave" if self.cut != WHOLE else "hide them with --crop or --mask"
            )
            yield (
                f"WARNING: names may be burnt into the picture of {counted(named, self.unit, f'{self.unit}s')}, as the "
                f"header says (BurnedInAnnotation YES): {what}"
            )
        if unsaid := sum(self.burnt_in.values()) - named - self.burnt_in["NO"]:
            yield f"without BurnedInAnnotation: {unsaid}"
