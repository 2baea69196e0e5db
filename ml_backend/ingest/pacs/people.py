"""Who the patients of fetched instances are, and under which other names the project has them already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from ml_backend.errors import FrameUnreadable
from ml_backend.ingest.dicom import dicom_header
from ml_backend.ingest.identity import Identity, identity_of
from ml_backend.ingest.imported import Imported
from ml_backend.ingest.pacs.server import Instance, Pacs
from ml_backend.ingest.salt import patient_name
from ml_backend.progress import Progress


def identity_asked_for(path: Path, instance: Instance) -> Identity:
    """Read who the patient of a fetched instance is; FrameUnreadable if the PACS sent another instance."""
    identity = identity_of(path)
    if (identity.instance, str(dicom_header(path).get("SOPClassUID") or "")) != (instance.uid, instance.kind):
        raise FrameUnreadable("the PACS sent another instance than the one asked for: see its own log")
    return identity


class People:
    """The patients of the clips that a search found and the project has.

    Clips that came as files may have a patient from a table or a folder. Whose they are is in their headers, so one
    clip of each such study and patient is fetched, but only once a patient comes whom the project does not have.
    """

    def __init__(self, pacs: Pacs, secret: bytes, there: Imported, found: Mapping[str, Instance]) -> None:
        self._pacs, self._secret = pacs, secret
        self._names = there.everybody()
        self._known: dict[tuple[str, str], list[Instance]] = {}
        for clip, instance in found.items():
            for name in sorted(there.patients.get(clip, ())):
                self._known.setdefault((instance.study, name), []).append(instance)
        self._learnt: dict[str, set[str]] | None = None
        self._unknown: set[str] = set()

    def other_names(self, patient: str) -> set[str]:
        """Return what the project calls the patient of a header, if only by other names.

        Raises FrameUnreadable if that cannot be learnt.
        """
        if patient in self._names:
            return set()
        if self._learnt is None:
            self._learnt = self._learn()
        if self._unknown and patient not in self._learnt:
            raise FrameUnreadable(
                f"its patient may be {' or '.join(sorted(self._unknown))} of the project, of whom the PACS gives no "
                "instance to compare with. If it is somebody else, import this study alone with --study"
            )
        return self._learnt.get(patient, set())

    def _learn(self) -> dict[str, set[str]]:
        learnt: dict[str, set[str]] = {}
        with Progress("compare with the project", "study", len(self._known)) as progress:
            for (_, name), instances in self._known.items():
                key = next(self._keys(instances), None)
                if key is None:
                    self._unknown.add(name)
                elif key:
                    learnt.setdefault(patient_name(self._secret, key), set()).add(name)
                progress.advance()
        return learnt

    # Of a study and patient, any instance that can be had will do.
    def _keys(self, instances: list[Instance]) -> Iterator[tuple[str, ...]]:
        for instance in instances:
            try:
                with self._pacs.fetched(instance) as path:
                    yield identity_asked_for(path, instance).key
            except FrameUnreadable:
                continue
