"""What to search a PACS for: keys of DICOMweb's search and their values, each at the level that it belongs to.

Values name people, so no message repeats one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ml_backend.errors import InvalidRequest

# Every server must match some of these keys (PS3.18, table 10.6.1-5), and nearly all match the others. A server may
# ignore any other key, and would then return what nobody asked for.
_STUDY = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyDescription",
    "StudyID",
    "StudyInstanceUID",
    "AccessionNumber",
    "ModalitiesInStudy",
    "ReferringPhysicianName",
)
_SERIES = ("Modality", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "BodyPartExamined")
_INSTANCE = ("SOPInstanceUID", "SOPClassUID", "InstanceNumber")
KEYS = (*_STUDY, *_SERIES, *_INSTANCE)
# Some machines write letters and leading zeros, against the standard. Nothing else may stand in an address.
_UID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")


def is_uid(value: object) -> bool:
    """Say whether a value may be a DICOM UID, and so may stand in an address."""
    return isinstance(value, str) and _UID.fullmatch(value) is not None


@dataclass(frozen=True)
class Query:
    """The values asked for by keyword, at the level of studies, of series and of instances."""

    study: dict[str, str] = field(default_factory=dict)
    series: dict[str, str] = field(default_factory=dict)
    instance: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Query:
        """Parse ``PatientID=…,StudyDate=…``; values may contain commas. Raises InvalidRequest."""
        values: dict[str, str] = {}
        # A comma separates two keys only where a key follows it: names and lists of UIDs hold commas too.
        for number, part in enumerate(re.split(r",\s*(?=[A-Za-z]+=)", text.strip()), 1):
            key, equals, value = part.partition("=")
            key = key.strip()
            if not equals or key not in KEYS:
                raise InvalidRequest(
                    f"part {number} of --query does not begin with a key and =, as in StudyDate=20240101-20241231; "
                    f"the keys are {', '.join(KEYS)}"
                )
            if not value.strip():
                raise InvalidRequest(f"{key} of --query has no value, so it would find everything: give it one")
            if key in values:
                raise InvalidRequest(f"{key} appears twice in one --query: write a second --query")
            values[key] = value.strip()
        study = {key: value for key, value in values.items() if key in _STUDY}
        if "Modality" in values:
            study.setdefault("ModalitiesInStudy", values["Modality"])  # or every study would be looked into
        if not study:
            raise InvalidRequest(
                "--query names no key of a patient or study, so it would look through the whole PACS: add Modality "
                f"or one of {', '.join(_STUDY)}"
            )
        return cls(
            study,
            {key: value for key, value in values.items() if key in _SERIES},
            {key: value for key, value in values.items() if key in _INSTANCE},
        )


def named_studies(studies: Sequence[str]) -> list[str]:
    """Return the UIDs given with --study, each once; InvalidRequest if one of them is not a UID."""
    for number, study in enumerate(studies, 1):
        if not is_uid(study):
            raise InvalidRequest(
                f"--study number {number} is not a Study Instance UID, which consists of digits and dots"
            )
    return list(dict.fromkeys(studies))
