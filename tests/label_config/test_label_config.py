"""The labelling configuration: what Label Studio reads from it, and the pictures that a team puts in."""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from label_studio_sdk.label_interface import LabelInterface
from PIL import Image

from ml_backend.errors import ConfigurationUnusable
from ml_backend.ingest.clip_table import column
from ml_backend.phantom.clips import write_examples
from ml_backend.setup.label_configuration import EXAMPLES, TEMPLATE, render
from ml_backend.studio.configuration import NONE_OF_THESE, NOT_ASSESSABLE, OTHERWISE, Configuration

SYMPTOMS = ["A-line", "B-line", "Pleural lesion", "Pleural effusion"]


def choices(configuration: str) -> list[tuple[str, str]]:
    return [(tag.attrib["value"], tag.attrib["hotkey"]) for tag in control(configuration, "symptoms")]


def control(configuration: str, name: str) -> ElementTree.Element:
    (found,) = (one for one in ElementTree.fromstring(configuration).iter("Choices") if one.get("name") == name)
    return found


def pictures(configuration: str) -> dict[str, Image.Image]:
    found = re.findall(r"\.example-(\w+) { background-image: url\(\"data:image/jpeg;base64,([^\"]+)\"\)", configuration)
    return {name: Image.open(io.BytesIO(base64.b64decode(data))) for name, data in found}


def prediction(*ticked: str) -> dict[str, object]:
    item = {"from_name": "symptoms", "to_name": "image", "type": "choices", "value": {"choices": list(ticked)}}
    return {"model_version": "v", "score": 0.5, "result": [item]}


@pytest.mark.parametrize("configuration", [TEMPLATE.read_text(encoding="utf-8"), render()], ids=["file", "rendered"])
def test_label_studio_reads_four_symptoms_with_hotkeys_on_one_image(configuration: str) -> None:
    interface = LabelInterface(configuration)
    interface.validate()
    symptoms = interface.get_control("symptoms")
    assert symptoms.tag == "Choices"
    assert symptoms.to_name == ["image"]
    assert symptoms.attr["choice"] == "multiple"
    assert interface.get_object("image").tag == "Image"
    assert interface.get_object("image").value_name == "image"
    assert list(symptoms.labels) == SYMPTOMS
    assert choices(configuration) == [(symptom, str(number)) for number, symptom in enumerate(SYMPTOMS, start=1)]


@pytest.mark.parametrize("ticked", [[], ["A-line"], ["B-line", "Pleural lesion", "Pleural effusion"]])
def test_predictions_are_valid_for_it(ticked: list[str]) -> None:
    assert LabelInterface(render()).validate_prediction(prediction(*ticked))
    assert not LabelInterface(render()).validate_prediction(prediction("Rust"))


def test_three_symptoms_leave_the_fourth_out() -> None:
    configuration = render(symptoms=SYMPTOMS[:3])
    assert choices(configuration) == [("A-line", "1"), ("B-line", "2"), ("Pleural lesion", "3")]
    assert list(pictures(configuration)) == ["a_line", "b_line", "pleural_lesion"]
    assert not LabelInterface(configuration).validate_prediction(prediction("Pleural effusion"))
    assert choices(render(symptoms=["A-line", "Pleural effusion"])) == [("A-line", "1"), ("Pleural effusion", "2")]


@pytest.mark.parametrize(("symptoms", "key"), [(None, "5"), (SYMPTOMS[:3], "4")])
def test_the_answers_that_are_no_symptom_follow_with_their_keys(symptoms: list[str] | None, key: str) -> None:
    xml = render(symptoms=symptoms)
    otherwise = [(one.get("alias"), one.get("hotkey")) for one in control(xml, OTHERWISE)]
    assert otherwise == [(NONE_OF_THESE, key), (NOT_ASSESSABLE, "0")]
    (keys,) = re.findall(r'value="Keys: (\d) to (\d) tick, (\d) none, 0', xml)
    assert keys == ("1", str(int(key) - 1), key)
    parsed = Configuration.parse(xml)
    assert (parsed.none_of_these, parsed.certainty) == (True, True)
    assert list(parsed.label_names) == (symptoms or SYMPTOMS)


def test_an_answer_is_required_where_a_team_wants_it() -> None:
    assert control(render(), OTHERWISE).get("required") is None
    assert control(render(require_answer=True), OTHERWISE).get("required") == "true"


def test_impossible_symptoms_are_refused() -> None:
    with pytest.raises(ConfigurationUnusable, match="Rust"):
        render(symptoms=["A-line", "Rust"])
    with pytest.raises(ConfigurationUnusable, match="two choices or more"):
        render(symptoms=["A-line"])


def test_every_choice_shows_its_picture_and_a_line_of_words() -> None:
    configuration = render()
    shown = pictures(configuration)
    assert list(shown) == [column(symptom) for symptom in SYMPTOMS]
    for symptom, tag in zip(SYMPTOMS, control(configuration, "symptoms"), strict=True):
        assert f'class="example example-{column(symptom)}"' in tag.attrib["html"]
        assert f"<b>{symptom}</b>" in tag.attrib["html"]
        assert shown[column(symptom)].size == (220, 220)
    # Label Studio drops data URIs from <img>; only the style sheet may carry them.
    assert "<img" not in configuration
    assert len(configuration) < 100_000


def test_the_examples_are_those_that_the_phantom_command_draws(tmp_path: Path) -> None:
    for path in write_examples(tmp_path):
        drawn, kept = (np.asarray(Image.open(place), dtype=int) for place in (path, EXAMPLES / path.name))
        # Another processor may round one grey level differently.
        assert np.abs(drawn - kept).max() <= 2


def test_a_team_puts_its_own_pictures_in(tmp_path: Path) -> None:
    Image.new("RGB", (500, 300), (200, 10, 10)).save(tmp_path / "b_line.jpg")
    shown = pictures(render(examples=tmp_path))
    assert list(shown) == ["b_line"]
    assert np.abs(np.asarray(shown["b_line"].convert("RGB"))[110, 110].astype(int) - (200, 10, 10)).max() < 8


def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a_line.png").write_bytes(b"no picture")
    with pytest.raises(ConfigurationUnusable, match=r"a_line\.png cannot be read"):
        render(examples=tmp_path)


@pytest.mark.parametrize(
    ("choice", "name"), [("A-line", "a_line"), ("Pleural effusion", "pleural_effusion"), (" X (y) ", "x_y")]
)
def test_columns_are_choices_in_lower_case_with_underscores(choice: str, name: str) -> None:
    assert column(choice) == name
