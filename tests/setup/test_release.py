"""What doctor and connect say of Label Studio's release, before a stand-in that can have any."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ml_backend.errors import StudioRefused
from ml_backend.launch.serve import environment
from ml_backend.services import Services
from ml_backend.setup import doctor
from ml_backend.setup.connect import connect
from ml_backend.setup.release import checked
from ml_backend.studio.client import Studio
from ml_backend.studio.releases import TESTED
from tests.installation import settings_in
from tests.studio.site import Site, running_site


@pytest.fixture
def site() -> Iterator[Site]:
    with running_site() as made:
        made.says("/api/current-user/whoami", {"id": 1, "email": "lead@example.com"})
        yield made


def has_release(site: Site, release: str) -> Studio:
    site.says("/api/version/", {"release": release})
    return Studio(site.url, "0" * 40)


@pytest.mark.parametrize(
    ("release", "state"), [(TESTED[0], "ok"), (TESTED[-1], "ok"), ("1.0.0", "note"), ("99.1.0", "note")]
)
def test_a_release_that_was_not_tested_is_a_note(site: Site, release: str, state: str) -> None:
    (found,) = checked(has_release(site, release))
    assert (found.subject, found.state) == ("label studio version", state)
    assert f"Label Studio {release} " in found.text
    assert "lead@example.com" in found.text


@pytest.mark.parametrize("release", ["1.0.0", "99.1.0"])
def test_doctor_and_connect_say_it_and_go_on(
    site: Site, release: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_release(site, release)
    site.says("/api/projects/7", {"detail": "Not found."}, 404)
    settings = settings_in(tmp_path, label_studio_url=site.url)
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    found = {one.subject: one.state for one in doctor.findings(7)}
    assert (found["label studio version"], found["project"]) == ("note", "change")

    lines: list[str] = []
    with pytest.raises(StudioRefused, match="project 7"):
        connect(Services(settings), 7, lines.append)
    assert [line.split()[0] for line in lines] == ["note"]
    assert release in lines[0]
