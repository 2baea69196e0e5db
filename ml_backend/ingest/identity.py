"""Who a DICOM header says the patient is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.multival import MultiValue

from ml_backend.errors import FrameUnreadable
from ml_backend.ingest.dicom import dicom_header

# What devices and anonymizers write where there is no name or number; a number after it tells patients apart.
_PLACEHOLDER = re.compile(
    r"0*|x+|(anon|anonymous|anonymi[sz]ed|deidentified|unknown|unnamed|undefined|none|null|nil|na|nan|noid|noname|noone|"
    r"nobody|removed|redacted|withheld|test|patient|name|id)*0*"
)
_PART = re.compile(r"[^\W_]+")
_LONG = 3  # letters: shorter parts of a name, such as initials, may stand in a pseudonym by chance


@dataclass(frozen=True)
class Identity:
    """What is needed of a DICOM header.

    ``key`` identifies the patient: the number with its issuer if there is one, else the name; empty if the header says
    nothing but placeholders. ``names`` and ``numbers`` are all that must not get out. ``instance`` is the clip's own
    identifier. ``burnt_in`` is what it says of names in the picture itself: YES, NO, or nothing.
    """

    key: tuple[str, ...]
    names: tuple[str, ...]
    numbers: tuple[str, ...]
    instance: str
    burnt_in: str

    def is_told_by(self, patient: str) -> bool:
        """Say whether a patient's name in a table tells who the patient of this header is."""
        letters, parts = _letters(patient), _parts(patient)
        if letters in {_letters(value) for value in (*self.numbers, *self.names)}:
            return True
        for name in self.names:
            of_name = {part for part in _parts(name) if not _PLACEHOLDER.fullmatch(part)}
            if of_name and parts and parts <= of_name:
                return True
            if any(part.isalpha() and len(part) >= _LONG for part in parts & of_name):
                return True
        return False


def identity_of(path: Path) -> Identity:
    """Read who the patient of a DICOM file is, or raise FrameUnreadable."""
    header = dicom_header(path)
    try:
        return _identity(header)
    except Exception as error:  # values are decoded only now; what pydicom says of them quotes them
        raise FrameUnreadable(f"its header cannot be read ({type(error).__name__})") from None


def _identity(header: Any) -> Identity:
    number, name = (next(_values(header, tag), "") for tag in ("PatientID", "PatientName"))
    names = (*_values(header, "PatientName"), *_values(header, "OtherPatientNames"))
    others = header.get("OtherPatientIDsSequence") or ()
    numbers = [*_values(header, "PatientID"), *_values(header, "OtherPatientIDs")]
    numbers += [value for other in others for value in _values(other, "PatientID")]
    key = (number, *_values(header, "IssuerOfPatientID")) if number else (name,) if name else tuple(numbers[:1])
    burnt_in = str(header.get("BurnedInAnnotation") or "").strip().upper()
    return Identity(key, names, tuple(numbers), str(header.get("SOPInstanceUID") or ""), burnt_in)


def _values(header: Any, tag: str) -> Iterator[str]:
    """Yield the values of an element, which may have several, without placeholders."""
    told = header.get(tag)
    for value in told if isinstance(told, MultiValue) else [told]:
        text = str(value or "").strip()
        if not _PLACEHOLDER.fullmatch(_letters(text)):
            yield text


def _letters(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())


def _parts(text: str) -> set[str]:
    return set(_PART.findall(text.casefold()))
