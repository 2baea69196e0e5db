"""The labelling configuration: what is read of it, and what is refused with advice."""

from __future__ import annotations

import pytest

from ml_backend.errors import ConfigurationUnusable
from ml_backend.studio.configuration import Configuration

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
