from __future__ import annotations

import pytest

from ml_backend.errors import InvalidRequest
from ml_backend.ingest.pacs.query import Query, is_uid, named_studies


def test_each_key_is_asked_at_its_level() -> None:
    query = Query.parse("PatientID=PAT 4711, StudyDate=20240101-20241231,Modality=US,SOPClassUID=1.2")
    assert query.study == {"PatientID": "PAT 4711", "StudyDate": "20240101-20241231", "ModalitiesInStudy": "US"}
    assert query.series == {"Modality": "US"}
    assert query.instance == {"SOPClassUID": "1.2"}


def test_values_may_hold_commas_and_equals_signs() -> None:
    assert Query.parse("StudyInstanceUID=1.2,1.3,PatientName=DOE*").study == {
        "StudyInstanceUID": "1.2,1.3",
        "PatientName": "DOE*",
    }
    assert Query.parse("StudyID=a=b").study == {"StudyID": "a=b"}


def test_what_modalities_a_study_has_may_be_said() -> None:
    assert Query.parse("Modality=US,ModalitiesInStudy=CT").study == {"ModalitiesInStudy": "CT"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "DOE",
        "DOE^JANE,PatientID=1",
        "Foo=DOE",
        "PatientID=",
        "PatientID= ,Modality=US",
        "PatientID=DOE,PatientID=2",
        "SOPInstanceUID=1.2",
        "BodyPartExamined=DOE,InstanceNumber=1",
    ],
)
def test_what_is_refused_names_nobody(text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Query.parse(text)
    assert "DOE" not in str(refused.value)


@pytest.mark.parametrize("study", ["", "..", "1.2/../3", "1.2?x", "1.2#", "1 2", "1" * 65, ".1", "1.2\n", "१.२"])
def test_what_is_no_uid_stands_in_no_address(study: str) -> None:
    assert not is_uid(study)
    with pytest.raises(InvalidRequest, match="number 2"):
        named_studies(["1.2", study])


def test_studies_count_once() -> None:
    assert named_studies(["1.2", "1.3", "1.2"]) == ["1.2", "1.3"]
