"""Read a project's labelling configuration: which choices there are, and on which image."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.parsers import expat

from ml_backend.errors import ConfigurationUnusable
from ml_backend.tsal.labels import LabelSet

_KEY = re.compile(r"\$(\w+)")
_EXAMPLE = (
    '<View><Image name="image" value="$image"/><Choices name="symptoms" toName="image" choice="multiple">'
    '<Choice value="Healthy"/><Choice value="Symptom"/></Choices></View>'
)

MAX_CHOICES = 1000
LONGEST_NAME = 500
_TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # they turn the direction of text

# Names of the controls other than the symptoms, and the values that Label Studio stores for their choices.
CERTAINTY = "certainty"
OTHERWISE = "otherwise"
NONE_OF_THESE = "none of these"
NOT_ASSESSABLE = "not assessable"

# What teams call the choice for a healthy lung. A-lines are a sign of it, but may also be a choice of their own.
_HEALTHY = re.compile(
    r"(?<!not )(?<!non-)(?<!nicht )\b(healthy|normal\w{0,2}|none|nothing|no (findings?|symptoms?|patholog\w+)"
    r"|no abnormalit\w+"
    r"|negativ\w?|unremarkable|gesund\w*|unauff(ä|ae)llig\w*|ohne befund|kein\w* befund|sain\w?|sano|sana|sin hallazgos"
    r"|gezond|frisk|aucun\w*|ningun[oa]|nessun[oa])\b"
)
_A_LINE = re.compile(r"\ba[- _]?(lines?|linien?|lignes?)\b")


@dataclass(frozen=True)
class Configuration:
    """The parts of a labelling configuration that this backend needs.

    ``label_set``: the choices, the healthy one first; ``values``: what Label Studio stores for each, in the same order
    (the alias if there is one); ``control`` and ``target``: names of the Choices and of the Image; ``image_key``: key
    of a task's data that holds the image's address; ``xml``: all of it; ``healthy_named``: a setting names the healthy
    choice, so that its position does not matter; ``certainty``: whether a TextArea of that name shows how sure the
    suggestion is; ``none_of_these``: whether the Choices ``otherwise`` offer the answer *none of these*.
    """

    label_set: LabelSet
    values: tuple[str, ...]
    control: str
    target: str
    image_key: str
    xml: str
    healthy_named: bool = False
    certainty: bool = False
    none_of_these: bool = False

    @classmethod
    def parse(cls, xml: str, healthy: str | None = None) -> Configuration:
        """Read Label Studio's XML; of several multiple-choice controls on an image the first one counts.

        ``healthy`` is the value or the alias of the choice that means a healthy lung, in upper or lower case; None for
        the first one. Raises ConfigurationUnusable, saying what to change.
        """
        root = _root(xml)
        images = {tag.get("name", ""): tag for tag in root.iter("Image") if tag.get("name")}
        control, target = _control(root, images)
        choices = list(_choices(control))
        name = control.get("name", "")
        if len(choices) < 2:
            raise ConfigurationUnusable(
                f'<Choices name="{name}"> has {len(choices)} <Choice> in it; write at least 2, the healthy one first '
                "(choices that come from task data cannot be used)"
            )
        if healthy is not None:
            choices = _healthy_first(choices, healthy)
        _check(choices, name)
        names, values = (tuple(column) for column in zip(*choices, strict=True))
        if len(set(values)) < len(values):
            raise ConfigurationUnusable(f'two choices of <Choices name="{name}"> have the same alias; make them differ')
        return cls(
            LabelSet(names),
            values,
            name,
            target,
            _image_key(images[target]),
            xml,
            healthy is not None,
            _beside(root, "TextArea", CERTAINTY, target) is not None,
            NONE_OF_THESE in (value for _, value in _choices(_beside(root, "Choices", OTHERWISE, target))),
        )

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the symptoms, the healthy one first: what a model version is bound to."""
        return self.label_set.names

    @property
    def healthy_doubt(self) -> str | None:
        """The choice that looks like the healthy one, if another one is used as such; None if there is no doubt.

        There is no doubt if a setting names the choice, or if the first one looks healthy itself.
        """
        first, *others = self.label_names
        if self.healthy_named or any(looks.search(first.casefold()) for looks in (_HEALTHY, _A_LINE)):
            return None
        return next((name for looks in (_HEALTHY, _A_LINE) for name in others if looks.search(name.casefold())), None)


def in_words(names: Iterable[str]) -> str:
    """Describe the symptoms of a frame in words."""
    return ", ".join(names) or NONE_OF_THESE


def _root(xml: str) -> ElementTree.Element:
    def refuse(*_: object) -> None:
        raise ConfigurationUnusable("the labelling configuration declares a document type; remove its <!DOCTYPE> part")

    # A configuration needs no document type; without one no entity can expand or load other files.
    guard = expat.ParserCreate()
    guard.StartDoctypeDeclHandler = refuse
    try:
        guard.Parse(xml, True)
        return ElementTree.fromstring(xml)  # noqa: S314 - no document type, see above
    except (expat.ExpatError, ElementTree.ParseError, ValueError) as error:
        raise ConfigurationUnusable(
            f"the labelling configuration is not XML ({error}); correct it in the project's labelling interface"
        ) from None


def _control(root: ElementTree.Element, images: dict[str, ElementTree.Element]) -> tuple[ElementTree.Element, str]:
    """Find the first multiple-choice control of a whole image, and that image's name."""
    seen = []
    for control in root.iter("Choices"):
        name = control.get("name", "")
        named = (part.strip() for part in control.get("toName", "").split(","))
        target = next((part for part in named if part in images), None)
        if not name:
            seen.append('a <Choices> without name="…"')
        elif name == OTHERWISE:
            continue
        elif target is None:
            seen.append(f'<Choices name="{name}"> is not on an <Image>: give it toName="NAME OF THE IMAGE"')
        elif control.get("choice") != "multiple":
            seen.append(f'<Choices name="{name}"> allows one choice only: give it choice="multiple"')
        elif any(control.get(name, "").lower() == "true" for name in ("perRegion", "perItem")):
            seen.append(f'<Choices name="{name}"> is for parts of the image: remove perRegion and perItem')
        elif any(choice.find(".//Choice") is not None for choice in control.iter("Choice")):
            seen.append(f'<Choices name="{name}"> has choices inside choices: make them one flat list')
        else:
            return control, target
    found = "; ".join(seen) or "there is no <Choices>"
    raise ConfigurationUnusable(
        f"the labelling configuration has no multiple-choice control on an image. {found}. An example: {_EXAMPLE}"
    )


def _beside(root: ElementTree.Element, tag: str, name: str, target: str) -> ElementTree.Element | None:
    """Find the control with this tag and name on the image ``target``."""
    found = (control for control in root.iter(tag) if control.get("name") == name)
    return next((control for control in found if control.get("toName") == target), None)


def _choices(control: ElementTree.Element | None) -> Iterator[tuple[str, str]]:
    """Yield (name, stored value) of each choice in document order."""
    for choice in control.iter("Choice") if control is not None else ():
        value, alias = choice.get("value"), choice.get("alias")
        yield value or alias or "", alias or value or ""


def _healthy_first(choices: list[tuple[str, str]], healthy: str) -> list[tuple[str, str]]:
    """Move the choice with that name or stored value to the front."""
    for same in (str, str.casefold):
        for choice in choices:
            if same(healthy) in map(same, choice):
                return [choice, *(other for other in choices if other is not choice)]
    raise ConfigurationUnusable(
        f"TSAL_HEALTHY_LABEL={healthy} is no choice of the labelling configuration; name one of "
        f"{', '.join(name for name, _ in choices)}"
    )


def _check(choices: Sequence[tuple[str, str]], control: str) -> None:
    """Refuse more choices than anybody could tell apart, and names that do something when they are shown."""
    if len(choices) > MAX_CHOICES:
        raise ConfigurationUnusable(
            f'<Choices name="{control}"> has {len(choices)} <Choice> in it; write at most {MAX_CHOICES}'
        )
    for number, texts in enumerate(choices, start=1):
        if any(len(text) > LONGEST_NAME or any(map(_commands, text)) for text in texts):
            raise ConfigurationUnusable(
                f'<Choice> number {number} of <Choices name="{control}"> has a line break, a control character or more '
                f"than {LONGEST_NAME} letters in it; write a short name in one line"
            )


def _commands(letter: str) -> bool:
    """Whether a character changes how others are shown instead of being shown itself."""
    return unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") or letter in _TURNS


def _image_key(image: ElementTree.Element) -> str:
    value = image.get("value", "")
    match = _KEY.fullmatch(value)
    if match is None:
        raise ConfigurationUnusable(
            f'<Image name="{image.get("name")}"> has value="{value}"; write the task\'s key alone, as in value="$image"'
        )
    return match[1]
