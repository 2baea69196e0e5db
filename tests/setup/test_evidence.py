"""The panel and the addresses in a real Label Studio."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from label_studio_sdk.label_interface import LabelInterface

from ml_backend.errors import SettingsError, StudioRefused
from ml_backend.loop.drawing import notice
from ml_backend.services import Services
from ml_backend.setup.evidence import address_tasks, checked, has_panel, with_panel
from ml_backend.setup.label_configuration import render
from ml_backend.studio.configuration import Configuration
from tests.installation import CONFIGURATION, XML, connected_settings, exit_code
from tests.studio_server import StudioServer

DATA = [{"image": f"/data/local-files/?d={number}.png", "patient": f"p{number}"} for number in range(3)]


@pytest.mark.parametrize("xml", [XML, render()], ids=["own", "rendered"])
def test_the_panel_changes_nothing_for_the_backend(xml: str) -> None:
    configuration = Configuration.parse(xml)
    panelled = with_panel(configuration, "why")
    LabelInterface(panelled).validate()
    there = Configuration.parse(panelled)
    assert (there.label_set, there.control, there.target, there.image_key) == (
        configuration.label_set,
        configuration.control,
        configuration.target,
        configuration.image_key,
    )
    assert (has_panel(xml, "why"), has_panel(panelled, "why"), has_panel(panelled, "other")) == (False, True, False)
    assert with_panel(there, "why") == panelled


def test_what_a_team_wrote_stays() -> None:
    xml = '<View><!-- ours --><Image name="i" value="$scan"/><Choices name="s" toName="i" choice="multiple">'
    xml += '<Choice value="a"/><Choice value="b"/></Choices></View>'
    panelled = with_panel(Configuration.parse(xml), "evidence")
    assert panelled.startswith('<View><!-- ours --><Image name="i" value="$scan" /><Collapse>')
    assert "</Collapse><Choices" in panelled


def test_tasks_get_their_address_once_and_keep_their_data(studio_server: StudioServer, tmp_path: Path) -> None:
    services = Services(connected_settings(studio_server, tmp_path))
    studio = services.studio
    project = studio.create_project("evidence", XML)
    studio.import_tasks(project, DATA)
    reported: list[tuple[int, int]] = []
    first = address_tasks(services, project, CONFIGURATION, lambda done, total: reported.append((done, total)))
    assert (first.changed, first.there) == (3, 0)
    assert reported[-1] == (3, 3)
    addresses = services.evidence_addresses
    assert [task.data for task in studio.tasks(project)] == [
        {**data, "evidence": addresses.of(project, data["image"])} for data in DATA
    ]
    again = address_tasks(services, project, CONFIGURATION, lambda *_: None)
    assert (again.changed, again.there) == (0, 3)
    moved = Services(connected_settings(studio_server, tmp_path, public_url="https://lungs.example.org"))
    assert address_tasks(moved, project, CONFIGURATION, lambda *_: None).changed == 3
    off = Services(connected_settings(studio_server, tmp_path, evidence=False))
    with pytest.raises(SettingsError, match="TSAL_EVIDENCE"):
        address_tasks(off, project, CONFIGURATION, lambda *_: None)


def test_with_the_panel_label_studio_wants_the_address_and_the_import_gives_it(
    studio_server: StudioServer, tmp_path: Path
) -> None:
    services = Services(connected_settings(studio_server, tmp_path))
    project = services.studio.create_project("panel", with_panel(CONFIGURATION, "evidence"))
    with pytest.raises(StudioRefused, match='"evidence" key is expected'):
        services.studio.import_tasks(project, DATA)
    addressed = [{**one, "evidence": services.evidence_addresses.of(project, one["image"])} for one in DATA]
    assert len(services.studio.import_tasks(project, addressed)) == 3


def test_the_command_adds_addresses_and_panel(
    studio_server: StudioServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = connected_settings(studio_server, tmp_path)
    services = Services(settings)
    project = services.studio.create_project("command", XML)
    services.studio.import_tasks(project, DATA)

    def states() -> list[str]:
        configuration = services.configuration(services.studio.project(project).label_config)
        return [one.state for one in checked(services, project, configuration)]

    monkeypatch.setenv("TSAL_LABEL_STUDIO_URL", settings.label_studio_url)
    monkeypatch.setenv("TSAL_LABEL_STUDIO_TOKEN", settings.token())
    monkeypatch.setenv("TSAL_BACKEND_URL", settings.backend_url)
    monkeypatch.setenv("TSAL_DATA_DIR", str(settings.data_dir))
    monkeypatch.delenv("TSAL_WEBHOOK_SECRET", raising=False)
    assert states() == ["note", "note"]
    assert exit_code("evidence", "--project", str(project)) == 0
    assert f'value="${settings.evidence_key}"' in capsys.readouterr().out
    assert not has_panel(services.studio.project(project).label_config, "evidence")
    assert states() == ["note"]
    assert exit_code("evidence", "--project", str(project), "--panel") == 0
    assert has_panel(services.studio.project(project).label_config, "evidence")
    assert states() == ["ok"]
    services.studio.update_data(next(services.studio.tasks(project)).id, {**DATA[0], "evidence": "https://elsewhere"})
    assert states() == ["change"]


def test_written_pictures_are_served_by_label_studio(studio_server: StudioServer, tmp_path: Path) -> None:
    services = Services(connected_settings(studio_server, tmp_path, evidence_files=2))
    project = services.studio.create_project("files", XML)
    services.studio.import_tasks(project, DATA)
    assert [one.state for one in checked(services, project, CONFIGURATION)] == ["change", "note", "note"]
    assert address_tasks(services, project, CONFIGURATION, lambda *_: None).changed == 3
    assert [one.state for one in checked(services, project, CONFIGURATION)] == ["ok", "note"]
    url = DATA[0]["image"]
    path = studio_server.files / services.evidence_addresses.file(project, url)
    path.write_bytes(notice(["a picture"]))
    address = f"{studio_server.url}{services.evidence_addresses.of(project, url)}"
    answer = httpx.get(address, headers={"Authorization": f"Token {studio_server.token}"})
    assert (answer.status_code, answer.content) == (200, path.read_bytes())
    assert answer.headers["content-type"].startswith("image/svg+xml")
    assert httpx.get(address).status_code == 401


def test_tsal_config_has_the_panel_where_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("config") == 0
    assert not has_panel(capsys.readouterr().out, "evidence")
    assert exit_code("config", "--evidence") == 0
    assert has_panel(capsys.readouterr().out, "evidence")
