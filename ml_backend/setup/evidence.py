"""Set up evidence in Label Studio: the panel on the labelling page, and the picture's address in each task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from xml.etree import ElementTree

from ml_backend.errors import ConfigurationUnusable, SettingsError
from ml_backend.loop.evidence_files import folder_of
from ml_backend.services import Services
from ml_backend.settings import Settings
from ml_backend.setup.findings import Finding
from ml_backend.setup.project import LOOKED_AT
from ml_backend.studio.configuration import Configuration

PANEL = "Why these ticks?"
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Addressed:
    """How many of a project's tasks were given their address, and how many already had it."""

    changed: int
    there: int


def with_panel(configuration: Configuration, key: str) -> str:
    """Add the panel, closed, below the frame of a labelling configuration, unless it has the panel already."""
    if has_panel(configuration.xml, key):
        return configuration.xml
    root = _root(configuration.xml)
    for parent in root.iter():
        for place, child in enumerate(parent):
            if child.tag == "Image" and child.get("name") == configuration.target:
                parent.insert(place + 1, _panel(key))
                return ElementTree.tostring(root, encoding="unicode")
    raise ConfigurationUnusable(f"the labelling configuration has no image {configuration.target} in a <View>")


def panel(key: str) -> str:
    """Return the XML of the panel alone, to paste into a configuration."""
    element = _panel(key)
    ElementTree.indent(element)
    return ElementTree.tostring(element, encoding="unicode")


def has_panel(xml: str, key: str) -> bool:
    """Return whether a labelling configuration shows the evidence picture of each task."""
    return any(image.get("value") == f"${key}" for image in _root(xml).iter("Image"))


def address_tasks(services: Services, project: int, configuration: Configuration, report: Report) -> Addressed:
    """Write the address of its evidence into each task of a project, unless the task has it already.

    Label Studio takes only one task per call, at 0.1 s each, so this can be stopped and run again.
    """
    settings, addresses = services.settings, services.evidence_addresses
    require_evidence(settings)
    for finding in _folder(services, project):
        if finding.mend is not None:
            finding.mend()
    tasks = list(services.studio.tasks(project))
    changed = 0
    for done, task in enumerate(tasks, start=1):
        address = addresses.of(project, str(task.data.get(configuration.image_key, "")))
        if task.data.get(addresses.key) != address:
            services.studio.update_data(task.id, {**task.data, addresses.key: address})
            changed += 1
        report(done, len(tasks))
    return Addressed(changed, len(tasks) - changed)


def require_evidence(settings: Settings) -> None:
    """Raise SettingsError if evidence is switched off."""
    if not settings.evidence:
        raise SettingsError("evidence is switched off: set TSAL_EVIDENCE to true")


def checked(services: Services, project: int, configuration: Configuration) -> Iterator[Finding]:
    """Report whether annotators can see the evidence, and what is missing."""
    if not services.settings.evidence:
        return
    yield from _folder(services, project)
    addresses, image = services.evidence_addresses, configuration.image_key
    data = [task.data for task in islice(services.studio.tasks(project), LOOKED_AT)]
    lacking = sum(one.get(addresses.key) != addresses.of(project, str(one.get(image, ""))) for one in data)
    panel_there = has_panel(configuration.xml, addresses.key)
    if lacking:
        text = f"{lacking} of {len(data)} tasks lack the address of their evidence: add it with `tsal evidence`"
        yield Finding("evidence", "change" if panel_there else "note", text)
    if not panel_there:
        text = "the labelling page does not show why frames are ticked: add the panel with `tsal evidence --panel`"
        yield Finding("evidence", "note", text)
    if panel_there and not lacking:
        yield Finding("evidence", "ok", f"the panel {PANEL!r} shows why frames are ticked")


def _folder(services: Services, project: int) -> Iterator[Finding]:
    """Report whether Label Studio serves the folder of the pictures, if pictures are written as files."""
    if not services.settings.evidence_files:
        return
    folder, studio = folder_of(services.settings, project).resolve(), services.studio

    def serve() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        studio.create_local_storage(project, str(folder), "Evidence")

    if any(map(folder.is_relative_to, studio.local_storages(project))):
        yield Finding("evidence", "ok", f"Label Studio serves the pictures in {folder}")
    else:
        yield Finding("evidence", "change", f"let Label Studio serve the pictures in {folder}", serve)


def _root(xml: str) -> ElementTree.Element:
    builder = ElementTree.TreeBuilder(insert_comments=True)
    try:
        return ElementTree.fromstring(xml, ElementTree.XMLParser(target=builder))  # noqa: S314  checked by Configuration
    except ElementTree.ParseError as error:
        raise ConfigurationUnusable(f"the labelling configuration is not XML ({error})") from None


def _panel(key: str) -> ElementTree.Element:
    """Build the panel: a second image in a collapsible panel, without the image tools of the first."""
    outer = ElementTree.Element("Collapse")
    inner = ElementTree.SubElement(ElementTree.SubElement(outer, "Panel", value=PANEL), "View")
    off = dict.fromkeys(
        ("zoom", "zoomControl", "selectionControl", "brightnessControl", "contrastControl", "rotateControl"), "false"
    )
    # The picture is taller than it is wide: without a maxHeight, Label Studio would shrink it to fit the window.
    ElementTree.SubElement(inner, "Image", {"name": "evidence", "value": f"${key}", "maxHeight": "200vh", **off})
    return outer
