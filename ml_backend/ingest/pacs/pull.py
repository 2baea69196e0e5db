"""Import ultrasound from a PACS: find its instances, fetch them one by one, and import each like a DICOM file.

The tasks of an instance are sent together, so a clip that the project has is a whole clip, and is not fetched again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from pydicom import config, uid

from ml_backend.errors import FrameUnreadable, InvalidRequest
from ml_backend.ingest.apart import Limits
from ml_backend.ingest.imported import Imported
from ml_backend.ingest.importer import Importer, fail
from ml_backend.ingest.origins import Origin
from ml_backend.ingest.pacs.people import People, identity_asked_for
from ml_backend.ingest.pacs.query import Query, named_studies
from ml_backend.ingest.pacs.server import Instance, Pacs
from ml_backend.ingest.paths import ClipFile
from ml_backend.ingest.plan import Plan
from ml_backend.ingest.reading import Read
from ml_backend.ingest.recognised import shows
from ml_backend.ingest.report import Report
from ml_backend.ingest.salt import clip_name, patient_name, pseudonym
from ml_backend.ingest.words import counted
from ml_backend.progress import Progress

ULTRASOUND = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.3",  # multi-frame, retired
        "1.2.840.10008.5.1.4.1.1.3.1",  # multi-frame
        "1.2.840.10008.5.1.4.1.1.6",  # single frame, retired
        "1.2.840.10008.5.1.4.1.1.6.1",  # single frame
    }
)


@dataclass(frozen=True)
class Pull:
    """What to fetch: instances by the name of their clip, and the patients that the project has for each study.

    ``found`` are all instances of ultrasound, ``left_out`` counts those of other kinds by their name.
    """

    project: Plan
    secret: bytes
    fetch: Mapping[str, Instance]
    patients: Mapping[str, set[str]]
    found: Mapping[str, Instance]
    left_out: Mapping[str, int]

    @property
    def complete(self) -> int:
        """The number of instances that the project has and that are not fetched."""
        return len(self.found) - len(self.fetch)

    def lines(self) -> Iterator[str]:
        """Yield what the import would do."""
        studies = counted(len({instance.study for instance in self.fetch.values()}), "study", "studies")
        yield f"would fetch:             {counted(len(self.fetch), 'instance', 'instances')} of {studies}"
        report = Report(unit="instance", complete=self.complete, left_out=self.left_out, cut=self.project.cut)
        yield from report.found()


def plan_pull(
    importer: Importer, pacs: Pacs, studies: Sequence[str], queries: Sequence[str], again: bool = False
) -> Pull:
    """Search for the studies named and for those that queries find; fetch and write nothing.

    ``again`` fetches also what the project has. Raises InvalidRequest if there is nothing to import, and see `Pacs`.
    """
    if again and importer.change_cut:
        raise InvalidRequest(
            "--again and --change-crop would import clips a second time, with other pictures: leave one of them out. "
            "To cut clips that are there in another way, delete their tasks first"
        )
    asked = [Query.parse(query) for query in queries]
    found = _found(pacs, named_studies(studies), asked)
    wanted = [instance for instance in found if instance.kind in ULTRASOUND]
    left_out = Counter(_kind(instance) for instance in found if instance.kind not in ULTRASOUND)
    if not wanted:
        raise InvalidRequest(_nothing(left_out))
    project = importer.before()
    secret = importer.secret(project.there)
    clips = {clip_name(secret, instance.uid): instance for instance in wanted}
    there = {clip for clip in clips if project.there.names.get(clip)}
    fetch = {clip: instance for clip, instance in clips.items() if again or clip not in there}
    patients = _patients(clips, project.there)
    return Pull(project, secret, fetch, patients, clips, left_out)


def carry_out_pull(importer: Importer, pacs: Pacs, pull: Pull) -> Report:
    """Fetch and import what was planned. An instance that cannot be read costs only itself.

    Where the PACS or Label Studio fails, running again continues.
    """
    report = importer.begin(pull.project)
    report.unit, report.complete, report.left_out = "instance", pull.complete, pull.left_out
    people = People(pacs, pull.secret, pull.project.there, pull.found)
    with Progress("import", "instance", len(pull.fetch)) as progress:
        for clip, instance in pull.fetch.items():
            try:
                _import(importer, pacs, pull, people, clip, instance, report)
            except FrameUnreadable as error:
                fail(report, PurePath(clip), str(error))
            progress.advance()
    return report


def _import(
    importer: Importer, pacs: Pacs, pull: Pull, people: People, clip: str, instance: Instance, report: Report
) -> None:
    of_study = pull.patients[instance.study]
    with pacs.fetched(instance) as path:
        header = identity_asked_for(path, instance)
        _check_cut(path, clip, pull, importer.limits)
        there = set(of_study)
        if header.key:
            patient, known_by = patient_name(pull.secret, header.key), "header"
            there |= people.other_names(patient)
        else:
            patient, known_by = min(of_study, default=pseudonym(pull.secret, "study", instance.study)), "study"
        origin = _agreeing(Origin(patient, clip, None, known_by, header.burnt_in), there, importer.keep_patients)
        (read,) = importer.read([ClipFile(path, clip, path.parent)], pull.project)
    tasks = list(importer.tasks(PurePath(clip), origin, _told(read), pull.project, report))
    if tasks:
        importer.send(tasks, report)
        of_study.add(origin.patient)


def _check_cut(path: Path, clip: str, pull: Pull, limits: Limits) -> None:
    """Raise FrameUnreadable if the project has the clip with other pictures, which would stand beside the new ones."""
    pictures = pull.project.there.names.get(clip)
    if pictures and not shows(path, pictures, pull.project.cut, limits):
        raise FrameUnreadable(
            "the project has this clip with other pictures, perhaps from another crop: delete its tasks first"
        )


def _told(read: Read) -> Read:
    """Say in a fault that the clip counts as complete now."""
    if read.fault is None or not read.kept:
        return read
    return replace(
        read,
        fault=FrameUnreadable(
            f"{read.fault}. The frames that can be read are imported, so it counts as complete: once it is mended, "
            "--again fetches it again"
        ),
    )


def _agreeing(origin: Origin, there: set[str], keep: bool) -> Origin:
    """Return an origin whose patient is among those the project has; FrameUnreadable for another."""
    if not there or origin.patient in there:
        return origin
    if keep and len(there) == 1:
        return Origin(next(iter(there)), origin.clip, None, "project", origin.burnt_in)
    raise FrameUnreadable(
        f"the project has clips of the same study or person under {' and '.join(sorted(there))}, and this one "
        f"would become {origin.patient}: frames of one patient could be both trained on and tested on. "
        + ("Correct the patients there" if len(there) > 1 else "Add --keep-patients to let it follow them")
    )


def _found(pacs: Pacs, named: Sequence[str], asked: Sequence[Query]) -> list[Instance]:
    """Return each instance once, in the order of the PACS."""
    found: dict[str, Instance] = {}
    everything = Query()
    for number, study in enumerate(named, 1):
        members = pacs.instances(study, everything)
        if not members:
            raise InvalidRequest(
                f"--study number {number} of {len(named)} is not in the PACS, or is empty: correct it or leave it out"
            )
        found |= {instance.uid: instance for instance in members}
    for query in asked:
        studies = pacs.studies(query.study)
        with Progress("search", "study", len(studies)) as progress:
            for study in studies:
                found |= {instance.uid: instance for instance in pacs.instances(study, query)}
                progress.advance()
    return list(found.values())


def _patients(clips: Mapping[str, Instance], there: Imported) -> dict[str, set[str]]:
    patients: dict[str, set[str]] = {}
    for clip, instance in clips.items():
        patients.setdefault(instance.study, set()).update(there.patients.get(clip, ()))
    return patients


def _kind(instance: Instance) -> str:
    name = str(uid.UID(instance.kind, config.IGNORE).name) if instance.kind else ""
    return "of unknown kind" if not name or name == instance.kind else name.removesuffix(" Storage")


def _nothing(left_out: Mapping[str, int]) -> str:
    if not left_out:
        return "the query finds nothing in the PACS: name fewer keys, such as PatientID alone"
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(left_out.items()))
    return f"there is no ultrasound among what the PACS has: {kinds}. Choose other studies"
