"""The labelling configuration of label_config, with a team's example pictures put in."""

from __future__ import annotations

import base64
import io
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageOps

from ml_backend.errors import ConfigurationUnusable
from ml_backend.ingest.clip_table import column
from ml_backend.studio.configuration import NONE_OF_THESE, NOT_ASSESSABLE, OTHERWISE

FOLDER = Path(__file__).resolve().parents[1] / "label_config"
TEMPLATE = FOLDER / "lung_ultrasound.xml"
EXAMPLES = FOLDER / "examples"
EXAMPLE_PIXELS = 220
SUFFIXES = (".png", ".jpg", ".jpeg")


def render(
    examples: Path = EXAMPLES,
    symptoms: Sequence[str] | None = None,
    require_answer: bool = False,
) -> str:
    """The configuration as Label Studio takes it: only the symptoms asked for, their example pictures inside.

    With ``require_answer`` an empty form cannot be submitted.

    The pictures travel as data URIs in the style sheet, because Label Studio removes them from `<img>` and because then
    they need no file storage. A choice without a picture in `examples` keeps its words.

    Raises ConfigurationUnusable when a symptom asked for is no choice of the template or a picture cannot be read.
    """
    root = ElementTree.fromstring(TEMPLATE.read_text(encoding="utf-8"))  # noqa: S314 - a file of this project
    _keep(root, symptoms)
    if require_answer:
        control = _control(root, OTHERWISE)
        control.set("required", "true")
        control.set("requiredMessage", f"Tick what you see, or say “{NONE_OF_THESE}” or “{NOT_ASSESSABLE}”.")
    style = root.find(".//Style")
    if style is not None:
        style.text = (style.text or "") + "".join(_rules(root, examples))
    return ElementTree.tostring(root, encoding="unicode")


def _keep(root: ElementTree.Element, symptoms: Sequence[str] | None) -> None:
    """Take out the choices that are not among the symptoms; number the hotkeys of the rest anew."""
    if symptoms is None:
        return
    control = _control(root, "symptoms")
    known = [choice.get("value", "") for choice in control]
    unknown = [symptom for symptom in symptoms if symptom not in known]
    if unknown:
        raise ConfigurationUnusable(f"{unknown} are no choices of the labelling configuration; it has {known}")
    if len(symptoms) < 2:
        raise ConfigurationUnusable(
            f"a labelling configuration needs two choices or more; only {list(symptoms)} are left"
        )
    for choice in list(control):
        if choice.get("value") not in symptoms:
            control.remove(choice)
    for number, choice in enumerate([*control, *_control(root, OTHERWISE)[:1]], start=1):
        choice.set("hotkey", str(number))
    keys = next(header for header in root.iter("Header") if header.get("value", "").startswith("Keys: "))
    keys.set("value", keys.get("value", "").replace("4", str(len(control))).replace("5", str(len(control) + 1)))


def _control(root: ElementTree.Element, name: str) -> ElementTree.Element:
    return next(control for control in root.iter("Choices") if control.get("name") == name)


def _rules(root: ElementTree.Element, examples: Path) -> list[str]:
    rules = []
    for choice in _control(root, "symptoms"):
        name = column(choice.get("value", ""))
        picture = next((path for path in (examples / f"{name}{suffix}" for suffix in SUFFIXES) if path.is_file()), None)
        if picture is not None:
            rules.append(f'    .symptom .example-{name} {{ background-image: url("{_data_uri(picture)}"); }}\n')
    return rules


def _data_uri(path: Path) -> str:
    try:
        with Image.open(path) as picture:
            small = ImageOps.fit(picture.convert("RGB"), (EXAMPLE_PIXELS, EXAMPLE_PIXELS))
    except OSError as error:
        raise ConfigurationUnusable(f"the example {path} cannot be read as a picture ({error}); replace it") from error
    file = io.BytesIO()
    small.save(file, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
