"""The labelling configuration: what is read of it, and what is refused with advice."""

from __future__ import annotations

import socket
from contextlib import closing
from xml.sax.saxutils import quoteattr

import pytest

from ml_backend.errors import ConfigurationUnusable
from ml_backend.studio.configuration import MAX_CHOICES, Configuration

IMAGE = '<Image name="image" value="$image"/>'
CHOICES = '<Choices name="symptoms" toName="image" choice="multiple">{}</Choices>'
TWO = '<Choice value="A-line"/><Choice value="B-line"/>'


def view(*parts: str) -> str:
    return f"<View>{''.join(parts)}</View>"


def test_reads_choices_control_target_and_key() -> None:
    xml = view('<Image name="frame" value="$picture"/>', CHOICES.replace('"image"', '"frame"').format(TWO))
    configuration = Configuration.parse(xml)
    assert configuration.label_names == ("A-line", "B-line")
    assert configuration.label_set.healthy == "A-line"
    assert (configuration.control, configuration.target) == ("symptoms", "frame")
    assert configuration.image_key == "picture"
    assert configuration.xml == xml


def test_stores_the_alias_and_shows_the_value() -> None:
    choices = '<Choice value="A-line" alias="a"/><Choice value="B-line"/><Choice alias="effusion"/>'
    configuration = Configuration.parse(view(IMAGE, CHOICES.format(choices)))
    assert configuration.label_names == ("A-line", "B-line", "effusion")
    assert configuration.values == ("a", "B-line", "effusion")


def test_finds_choices_in_views_in_document_order() -> None:
    nested = '<View><Choice value="A-line"/><View><Choice value="B-line"/></View></View><Choice value="Effusion"/>'
    configuration = Configuration.parse(view("<View>", CHOICES.format(nested), "</View>", IMAGE))
    assert configuration.label_names == ("A-line", "B-line", "Effusion")


def test_takes_the_first_usable_control() -> None:
    single = f'<Choices name="quality" toName="image">{TWO}</Choices>'
    on_text = f'<Text name="text" value="$text"/><Choices name="mood" toName="text" choice="multiple">{TWO}</Choices>'
    per_region = f'<Choices name="part" toName="image" choice="multiple" perRegion="true">{TWO}</Choices>'
    second = CHOICES.replace("symptoms", "second").format('<Choice value="C"/><Choice value="D"/>')
    xml = view(IMAGE, single, on_text, per_region, CHOICES.format(TWO), second)
    assert Configuration.parse(xml).control == "symptoms"


def test_picks_the_image_of_several_targets() -> None:
    xml = view(
        '<Text name="text" value="$text"/>',
        IMAGE,
        CHOICES.replace('toName="image"', 'toName="text, image"').format(TWO),
    )
    assert Configuration.parse(xml).target == "image"


def test_accepts_a_declaration_comments_and_cdata() -> None:
    xml = '<?xml version="1.0"?>' + view(
        "<!-- <!DOCTYPE> -->", IMAGE, CHOICES.format(TWO), "<Style><![CDATA[<!]]></Style>"
    )
    assert Configuration.parse(xml).control == "symptoms"


@pytest.mark.parametrize(
    ("xml", "advice"),
    [
        ("", "not XML"),
        ("<View>", "not XML"),
        ("<View>\ud800</View>", "not XML"),
        (view(IMAGE), "there is no <Choices>"),
        (view(IMAGE, f'<Choices name="s" toName="image">{TWO}</Choices>'), 'give it choice="multiple"'),
        (view(IMAGE, CHOICES.format(TWO).replace("multiple", "single-radio")), 'give it choice="multiple"'),
        (view(IMAGE, f'<Choices toName="image" choice="multiple">{TWO}</Choices>'), 'without name="…"'),
        (view(CHOICES.format(TWO)), 'is not on an <Image>: give it toName="NAME OF THE IMAGE"'),
        (view('<Video name="image" value="$v"/>', CHOICES.format(TWO)), "is not on an <Image>"),
        (view(IMAGE, CHOICES.format(TWO).replace("choice=", 'perRegion="true" choice=')), "remove perRegion"),
        (view(IMAGE, CHOICES.format('<Choice value="A"><Choice value="B"/></Choice>')), "one flat list"),
        (view(IMAGE, CHOICES.format("")), "has 0 <Choice> in it; write at least 2"),
        (view(IMAGE, CHOICES.format('<Choice value="A"/>')), "has 1 <Choice> in it; write at least 2"),
        (view(IMAGE, CHOICES.format('<Choice value="A"/><Choice value="A"/>')), "make them differ"),
        (view(IMAGE, CHOICES.format('<Choice value="A" alias="x"/><Choice value="B" alias="x"/>')), "same alias"),
        (view(IMAGE, CHOICES.format('<Choice value="A" alias="x"/><Choice value="A" alias="y"/>')), "rename"),
        (view(IMAGE, CHOICES.format('<Choice value="A"/><Choice/>')), "without a name"),
        (view('<Image name="image" value="$a.b"/>', CHOICES.format(TWO)), "the task's key alone"),
        (view('<Image name="image" value="http://x/$image"/>', CHOICES.format(TWO)), "the task's key alone"),
        (view('<Image name="image" valueList="$images"/>', CHOICES.format(TWO)), "the task's key alone"),
        ('<!DOCTYPE View [<!ENTITY a "b">]>' + view(IMAGE, CHOICES.format(TWO)), "remove its <!DOCTYPE> part"),
        ('<?a <!-- ?><!DOCTYPE View><?b --> ?>' + view(IMAGE, CHOICES.format(TWO)), "remove its <!DOCTYPE> part"),
    ],
)  # fmt: skip
def test_refuses_with_advice(xml: str, advice: str) -> None:
    with pytest.raises(ConfigurationUnusable) as caught:
        Configuration.parse(xml)
    assert advice in str(caught.value)


def labelled(*choices: str) -> str:
    return view(IMAGE, CHOICES.format("".join(f"<Choice {choice}/>" for choice in choices)))


@pytest.mark.parametrize("healthy", ["Normal", "n", "normal", "N"])
def test_a_setting_names_the_healthy_choice_wherever_it_stands(healthy: str) -> None:
    xml = labelled('value="Consolidation &gt; 1cm"', 'value="B-line"', 'value="Normal" alias="n"')
    configuration = Configuration.parse(xml, healthy)
    assert configuration.label_set.healthy == "Normal"
    assert configuration.label_names == ("Normal", "Consolidation > 1cm", "B-line")
    assert configuration.values == ("n", "Consolidation > 1cm", "B-line")
    assert configuration.healthy_doubt is None
    assert Configuration.parse(xml).label_set.healthy == "Consolidation > 1cm"


def test_the_exact_name_wins_over_one_in_other_case() -> None:
    xml = labelled('value="A"', 'value="normal"', 'value="Normal"')
    assert Configuration.parse(xml, "Normal").label_names == ("Normal", "A", "normal")


def test_an_unknown_healthy_choice_is_refused_with_the_choices() -> None:
    with pytest.raises(ConfigurationUnusable, match=r"TSAL_HEALTHY_LABEL=Norm .*; name one of B-line, Normal"):
        Configuration.parse(labelled('value="B-line"', 'value="Normal"'), "Norm")


@pytest.mark.parametrize(
    ("names", "doubt"),
    [
        (("Konsolidierung > 1cm", "B-Linien", "Normal"), "Normal"),
        (("Consolidation", "A-lines", "Healthy lung"), "Healthy lung"),  # the word counts before the sign
        (("Consolidation", "A lines", "Effusion"), "A lines"),
        (("B-Linie", "unauffällig"), "unauffällig"),
        (("B-Linie", "Gesund"), "Gesund"),
        (("B-line", "No finding"), "No finding"),
        (("Covid", "Negative"), "Negative"),
        (("Ligne B", "Poumon sain"), "Poumon sain"),
        (("Líneas B", "Sin hallazgos"), "Sin hallazgos"),
        (("Normal", "B-line"), None),
        (("A-line", "Normal"), None),
        (("Healthy", "A-line"), None),
        (("B-line", "Effusion"), None),
        (("B-line", "Abnormal pleura", "Not normal"), None),
    ],
)
def test_a_first_choice_that_does_not_look_healthy_is_doubted_for_one_that_does(
    names: tuple[str, ...], doubt: str | None
) -> None:
    xml = labelled(*(f'value="{name}"'.replace(">", "&gt;") for name in names))
    assert Configuration.parse(xml).healthy_doubt == doubt


HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "' OR 1=1 --",
    '"quoted" & <b>',
    "=cmd|'/C calc'!A0",
    "@SUM(1+1)*cmd",
    "+1",
    "../../etc/passwd",
    "C:\\Windows",
    "a/b\\c",
    "%s%n{0}{config.__class__}$image",
    "(a+)+$",
    "[x](http://example.com/)",
    "| a | b |",
    "`rm -rf`",
    "none of these",
    "not assessable",
    "symptoms",
    "__proto__",
    "NULL",
    "نبض\u200cها",
)
"""Names that do harm where they are taken for anything but text, and those of our own answers."""


def test_names_are_text_whatever_they_say() -> None:
    choices = "".join(f"<Choice value={quoteattr(name)}/>" for name in HOSTILE)
    assert Configuration.parse(view(IMAGE, CHOICES.format(choices))).label_names == HOSTILE


@pytest.mark.parametrize(
    "name",
    ["B&#10;line", "B&#13;line", "B&#9;line", "\x9b31mred", "\u202egnp.exe", "a\u2028b", "\u2066a", "x" * 501],
)
@pytest.mark.parametrize("where", ["value", "alias"])
def test_names_that_do_something_where_they_are_shown_are_refused(name: str, where: str) -> None:
    choices = TWO + (f'<Choice value="{name}"/>' if where == "value" else f'<Choice value="C" alias="{name}"/>')
    with pytest.raises(ConfigurationUnusable) as caught:
        Configuration.parse(view(IMAGE, CHOICES.format(choices)))
    assert str(caught.value).isprintable()
    assert "number 3" in str(caught.value)


def test_more_choices_than_anybody_could_tell_apart_are_refused() -> None:
    def of(count: int) -> Configuration:
        return Configuration.parse(
            view(IMAGE, CHOICES.format("".join(f'<Choice value="c{number}"/>' for number in range(count))))
        )

    assert len(of(MAX_CHOICES).values) == MAX_CHOICES
    with pytest.raises(ConfigurationUnusable, match=str(MAX_CHOICES)):
        of(10_000)


BOMB = "".join(f'<!ENTITY e{number} "{f"&e{number - 1};" * 10}">' for number in range(1, 10))
ENTITIES = {
    "a billion laughs": f'<!DOCTYPE View [<!ENTITY e0 "ha">{BOMB}]>',
    "a file": '<!DOCTYPE View [<!ENTITY e9 SYSTEM "file:///etc/passwd">]>',
    "an address": '<!DOCTYPE View SYSTEM "http://127.0.0.1:{port}/x.dtd">',
    "a parameter": '<!DOCTYPE View [<!ENTITY % e SYSTEM "http://127.0.0.1:{port}/x.dtd"> %e;]>',
}


@pytest.mark.parametrize("kind", ENTITIES)
def test_no_entity_expands_or_is_fetched(kind: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        listener.setblocking(False)
        declared = ENTITIES[kind].replace("{port}", str(listener.getsockname()[1]))
        with pytest.raises(ConfigurationUnusable, match="document type"):
            Configuration.parse(declared + view(IMAGE, CHOICES.format(TWO + '<Choice value="&e9;"/>')))
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_elements_within_elements_end() -> None:
    deep = "<View>" * 200_000 + IMAGE + CHOICES.format(TWO) + "</View>" * 200_000
    assert Configuration.parse(deep).label_names == ("A-line", "B-line")
