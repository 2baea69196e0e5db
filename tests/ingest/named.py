"""DICOM files that name people wherever a header can, and the forms in which a name could get out."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pydicom

from tests.ingest.pacs.instances import write_instance

NAMES: dict[str, str] = {
    "PatientName": "Quintessa^Zephyrine",
    "PatientID": "MRN-77310/XQ",
    "IssuerOfPatientID": "Orwyn Registry",
    "OtherPatientIDs": "ALT-5512-QZ",
    "OtherPatientNames": "Quillfeather^Zinnia",
    "PatientBirthName": "Umberfield^Zephyrine",
    "PatientMotherBirthName": "Thistlewick^Adelgund",
    "PatientBirthDate": "19610317",
    "PatientAddress": "Nightingale Lane 94",
    "PatientTelephoneNumbers": "+49 555 0199",
    "PatientComments": "sister of Quillfeather",
    "Occupation": "lampl1ghter-q",
    "MedicalRecordLocator": "SHELF-Q-881",
    "AdditionalPatientHistory": "fell at Brackenholm",
    "AccessionNumber": "ACC-90817-K",
    "StudyID": "ST-6620-J",
    "StudyDate": "20190423",
    "StudyTime": "134507.482913",
    "SeriesDate": "20190424",
    "AcquisitionDateTime": "20190425134509.771",
    "ContentDate": "20190426",
    "StudyDescription": "Zephyrine thorax",
    "SeriesDescription": "Zephyrine left base",
    "ProtocolName": "Vandermolen protocol",
    "ImageComments": "shown to Vandermolen",
    "InstitutionName": "Saint Orwyn Infirmary",
    "InstitutionAddress": "Orwyn Square 12",
    "InstitutionalDepartmentName": "Ward Brackenholm",
    "StationName": "CART-Q-07",
    "ReferringPhysicianName": "Vandermolen^Rufus",
    "PerformingPhysicianName": "Hawksmoor^Ingeborg",
    "OperatorsName": "Okonjo-Brandt^Thorhild",
    "DeviceSerialNumber": "SN-44-8890-PX",
}
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID", "DeviceUID")
_PRIVATE, _REQUEST, _OTHER = "Zephyrine private note", "REQ-31177-W", "ALT-9081-TT"
_NO_NUMBER = "Umberfield rate"


def write_named(path: Path, study: str, seeds: Sequence[int], **tags: object) -> Path:
    """Write an instance that names its patient wherever it can."""
    write_instance(path, study, seeds, **NAMES | tags)
    data: Any = pydicom.dcmread(path)
    data.FrameOfReferenceUID, data.DeviceUID = f"{data.SOPInstanceUID[:50]}.71", f"{data.SOPInstanceUID[:50]}.72"
    for tag in ("FrameTimeVector", "CineRate", "RecommendedDisplayFrameRate"):
        data.add(pydicom.DataElement(tag, "LO", _NO_NUMBER))
    data.private_block(0x0011, "ACME 1.0", create=True).add_new(0x01, "LO", _PRIVATE)
    request, other = pydicom.Dataset(), pydicom.Dataset()
    request.RequestedProcedureID, other.PatientID = _REQUEST, _OTHER
    data.RequestAttributesSequence, data.OtherPatientIDsSequence = [request], [other]
    data.save_as(path)
    return path


def names_in(*paths: Path) -> set[str]:
    """Everything in these files, and in their own names, that must not get out."""
    names = {*NAMES.values(), _PRIVATE, _REQUEST, _OTHER, _NO_NUMBER}
    for value in NAMES.values():
        names |= set(value.split("^")) if "^" in value else set()
    for path in paths:
        data = pydicom.dcmread(path, stop_before_pixels=True)
        names |= {str(data[key].value) for key in (*_UIDS, "PatientID", "PatientName")} | {path.name}
    return names


def forms(name: str) -> Iterator[str]:
    """Yield how a name may be written: as it is, in addresses, coded, or as a hash that anybody can compute."""
    yield from (name, quote(name), quote(name, safe=""), quote_plus(name), name.replace("^", " "))
    yield base64.b64encode(name.encode()).decode().rstrip("=")
    yield from (getattr(hashlib, kind)(name.encode()).hexdigest()[:12] for kind in ("md5", "sha1", "sha256"))


def found_in(text: str, names: set[str]) -> set[str]:
    """Which of these names a text tells, in any form and case."""
    text = text.casefold()
    return {name for name in names if any(form.casefold() in text for form in forms(name))}


def everything_below(folder: Path) -> str:
    """The names and the content of all files below a folder."""
    return "".join(
        str(path.relative_to(folder)) + (path.read_bytes().decode("latin-1") if path.is_file() else "")
        for path in folder.rglob("*")
    )
