"""`tsal import`: frames of videos, pictures and DICOM files into a project."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ml_backend.errors import InvalidRequest, SettingsError, printable

if TYPE_CHECKING:
    from ml_backend.ingest.cut import Cut
    from ml_backend.ingest.importer import Importer
    from ml_backend.ingest.report import Report
    from ml_backend.ingest.storage import Storage
    from ml_backend.settings import Settings

Paths = Annotated[list[Path] | None, typer.Argument(metavar="PATH...", help="Files, or folders with all below them.")]
Project = Annotated[int, typer.Option(metavar="ID", help="Number of the project in Label Studio.")]
Url = Annotated[str | None, typer.Option(help="Address of Label Studio.", show_default="TSAL_LABEL_STUDIO_URL")]
Every = Annotated[str, typer.Option(metavar="SECONDS", help="Time between frames; 0: every frame.")]
Distance = Annotated[
    int,
    typer.Option(
        metavar="BITS",
        help="Drop a frame whose perceptual hash differs from that of an earlier frame of its clip in at most "
        "so many of 256 bits. 0: only the same hash; negative: keep all.",
    ),
]
KeepDuplicates = Annotated[bool, typer.Option("--keep-duplicates", help="Keep all frames; the same as --distance -1.")]
Patients = Annotated[Path | None, typer.Option(metavar="CSV", help="Table with the columns file and patient.")]
PatientLevel = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Which folder names the patient. 1: the first below the imported one, 2: the second, and so on; "
        "0: the imported folder itself. If given, it counts for DICOM files too.",
        show_default="1",
    ),
]
TrustHeaders = Annotated[
    bool,
    typer.Option(
        "--trust-headers",
        help="Trust the patients in DICOM headers, even if one has files in several folders (which is refused "
        "otherwise) or --patient-level is given.",
    ),
]
KeepPatients = Annotated[
    bool,
    typer.Option(
        "--keep-patients",
        help="Clips that are in the project under another patient keep that patient, and new clips of the same "
        "patient get it too. Without this, the import is refused.",
    ),
]
Frames = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Folder for the pictures, below --document-root.", show_default="its folder frames"
    ),
]
DocumentRoot = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Folder that Label Studio serves as local files.", show_default="TSAL_DOCUMENT_ROOT"
    ),
]
Dicomweb = Annotated[
    str | None,
    typer.Option(
        metavar="URL", help="Import from a PACS: its DICOMweb address, with --study or --query and without PATH."
    ),
]
Study = Annotated[
    list[str] | None,
    typer.Option(metavar="UID", help="Study Instance UID of a study in the PACS; may be given several times."),
]
QueryText = Annotated[
    list[str] | None,
    typer.Option(
        "--query",
        metavar="KEY=VALUE,...",
        help="Import studies that match keys such as PatientID, StudyDate and Modality; may be given several times.",
    ),
]
Again = Annotated[
    bool,
    typer.Option("--again", help="Fetch again what the project already has, for example to take more frames."),
]
Crop = Annotated[
    str | None,
    typer.Option(
        metavar="LEFT,TOP,WIDTH,HEIGHT",
        help="Take only this part of every picture, in pixels. Kept for later imports into the project, like --mask.",
        show_default="what the project has",
    ),
]
Masks = Annotated[
    list[str] | None,
    typer.Option(
        metavar="LEFT,TOP,WIDTH,HEIGHT",
        help="Black out this part of every picture, in pixels before the crop; may be given several times.",
        show_default="what the project has",
    ),
]
ChangeCrop = Annotated[
    bool,
    typer.Option(
        "--change-crop",
        help="Import new clips with the --crop and --mask given now (neither: whole pictures), although the project's "
        "frames have others.",
    ),
]
InBucket = Annotated[
    str | None,
    typer.Option(
        "--storage",
        metavar="s3://BUCKET/PREFIX",
        help="Keep the pictures in a bucket instead of a folder (see TSAL_S3_ENDPOINT). Needs the extra [s3].",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="List patients and clips, but write and import nothing.")]


def seconds(text: str) -> Fraction:
    """Read a time such as ``0.5`` or ``0.5s``."""
    if not re.fullmatch(r"\d+(\.\d+)?s?", text):
        raise typer.BadParameter(f"{text!r} is not a time: write seconds, such as 0.5 or 0.5s")
    return Fraction(text.removesuffix("s"))


def import_frames(
    project: Project,
    paths: Paths = None,
    url: Url = None,
    every: Every = "0.5",
    distance: Distance = 16,
    keep_duplicates: KeepDuplicates = False,
    patients: Patients = None,
    patient_level: PatientLevel = None,
    trust_headers: TrustHeaders = False,
    keep_patients: KeepPatients = False,
    frames: Frames = None,
    document_root: DocumentRoot = None,
    dicomweb: Dicomweb = None,
    study: Study = None,
    query: QueryText = None,
    again: Again = False,
    crop: Crop = None,
    mask: Masks = None,
    change_crop: ChangeCrop = False,
    storage: InBucket = None,
    dry_run: DryRun = False,
) -> None:
    """Import frames of videos (mp4, avi, mov, mpeg, gif), pictures (jpg, png) and DICOM files into a project.

    With --dicomweb, ultrasound comes from a PACS instead of files (extra [dicomweb]). The settings TSAL_DICOMWEB_USER
    and TSAL_DICOMWEB_PASSWORD, or TSAL_DICOMWEB_TOKEN, sign in there.

    The patient of a file is the one in --patients, else a keyed hash of the DICOM header's patient, else the first
    folder below the imported one (see --patient-level), as a keyed hash too if it has DICOM files. In a folder without
    subfolders every file is a patient of its own.

    Nothing that identifies a patient is taken from DICOM headers or from the names of DICOM files. What is burnt into
    the pixels stays in the pictures: remove it with --crop and --mask. Names of other files and their folders appear in
    the tasks as they are.

    Ends with 1 if a file, folder or instance could not be read or was damaged (the others are imported), with 2 if
    called wrongly, with 3 if a library is missing, with 4 or 5 if Label Studio does not answer or refuses, with 8 or
    9 if the PACS does not answer or refuses, with 10 if the bucket cannot be used. Running it again imports nothing
    twice.
    """
    import warnings

    from ml_backend.ingest.apart import Limits
    from ml_backend.ingest.clip_table import read_clip_table
    from ml_backend.ingest.importer import Importer
    from ml_backend.ingest.origins import Rule
    from ml_backend.store.evidence_addresses import EvidenceAddresses
    from ml_backend.studio.client import Studio
    from ml_backend.studio.keys import DataKeys

    # pydicom quotes header values in its warnings, and a header holds names.
    warnings.filterwarnings("ignore", module="pydicom")
    settings = _settings(url, document_root)
    importer = Importer(
        Studio(settings.label_studio_url, settings.token()),
        project,
        _folder(settings, frames) if storage is None else _bucket(settings, project, storage, frames or document_root),
        data_dir=settings.data_dir,
        every=seconds(every),
        distance=-1 if keep_duplicates else distance,
        rule=Rule(read_clip_table(patients).patients if patients else {}, patient_level, trust_headers),
        keep_patients=keep_patients,
        cut=_cut(crop, mask or [], change_crop),
        change_cut=change_crop,
        keys=DataKeys.of(settings),
        evidence=EvidenceAddresses(settings) if settings.evidence else None,
        limits=Limits.of(settings),
        dry_run=dry_run,
    )
    if dicomweb is None and (study or query or again):
        raise InvalidRequest("--study, --query and --again need --dicomweb")
    if dicomweb is not None and (paths or patients or patient_level is not None or trust_headers):
        raise InvalidRequest(
            "--dicomweb takes no PATH, --patients, --patient-level or --trust-headers; a value with blanks needs "
            "quotation marks, as in --query 'PatientName=…'"
        )
    with importer.alone():
        if dicomweb is None:
            report: Report | None = _from_files(importer, paths or [])
        else:
            report = _from_pacs(importer, settings, dicomweb, study or [], query or [], again)
    if report is not None:
        print("\n".join(map(printable, report.lines())))
        if report.failed:
            raise typer.Exit(1)


def _from_files(importer: Importer, paths: list[Path]) -> Report:
    if not paths:
        raise InvalidRequest("name files or folders to import, or a PACS with --dicomweb")
    plan = importer.plan(paths)
    if importer.dry_run:
        print("\n".join(["dry run: nothing is written", *map(printable, plan.lines())]), flush=True)
    return importer.carry_out(plan)


def _from_pacs(
    importer: Importer, settings: Settings, address: str, studies: list[str], queries: list[str], again: bool
) -> Report | None:
    """Import from a PACS; a dry run fetches nothing and has no report."""
    from ml_backend.ingest.pacs.pull import carry_out_pull, plan_pull
    from ml_backend.ingest.pacs.server import Pacs

    if not studies and not queries:
        raise InvalidRequest("say with --dicomweb what to import: --study UID, or --query PatientID=…,StudyDate=…")
    pacs = Pacs(address, settings)
    pull = plan_pull(importer, pacs, studies, queries, again)
    if importer.dry_run:
        print("\n".join(["dry run: nothing is fetched or written", *map(printable, pull.lines())]))
        return None
    return carry_out_pull(importer, pacs, pull)


def _cut(crop: str | None, masks: list[str], change: bool) -> Cut | None:
    """Return what to take of every picture, None for what the project has."""
    from ml_backend.ingest.cut import Box, Cut

    if crop is None and not masks and not change:
        return None
    return Cut(Box.parse(crop) if crop is not None else None, tuple(Box.parse(mask) for mask in masks))


def _settings(url: str | None, document_root: Path | None) -> Settings:
    """Read the settings, which options override."""
    from ml_backend.settings import load

    given = {"label_studio_url": url, "document_root": document_root}
    return load(**{name: value for name, value in given.items() if value is not None})


def _folder(settings: Settings, frames: Path | None) -> Storage:
    """Keep pictures in the folder that Label Studio serves."""
    from ml_backend.ingest.served import Folder

    if settings.document_root is None:
        raise SettingsError(
            "set TSAL_DOCUMENT_ROOT or --document-root to the folder that Label Studio serves "
            "(its LOCAL_FILES_DOCUMENT_ROOT), or keep the pictures in a bucket with --storage"
        )
    return Folder(frames or settings.document_root / "frames", settings.document_root)


def _bucket(settings: Settings, project: int, address: str, folder: Path | None) -> Storage:
    """Keep pictures in a bucket; no folder may be given too."""
    from ml_backend.ingest.bucket import Bucket, BucketFolder
    from ml_backend.studio.storages import BucketAccess

    if folder is not None:
        raise InvalidRequest("--storage puts the pictures into a bucket: leave out --frames and --document-root")
    if settings.evidence and settings.evidence_files:
        from ml_backend.loop.evidence_files import folder_of

        folder_of(settings, project)  # these pictures need a folder all the same
    return Bucket(BucketFolder.parse(address), BucketAccess.of(settings))
