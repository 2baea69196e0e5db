from __future__ import annotations

from pathlib import Path

import pytest

from ml_backend.errors import BackendError, InvalidRequest
from ml_backend.launch import label_studio_environment as environment

NOTHING_NEW = ["--no-index", "pip"]  # what every new environment has, so that no registry is asked


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty user's cache folder, and an empty current folder."""
    for variable in environment.VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = environment.cache_folder()
    assert folder.is_relative_to(tmp_path)
    return folder


def test_an_installation_counts_once_it_is_whole(cache: Path) -> None:
    program = cache / "bin" / "label-studio"
    program.parent.mkdir(parents=True)
    program.touch()
    (cache / "left over").touch()
    assert environment.installed_program() is None, "an interrupted installation is none"
    environment.install(cache, NOTHING_NEW, lambda line: None)
    assert (cache / "bin" / "python").exists()
    assert not (cache / "left over").exists()
    assert environment.installed_program() == program


def test_a_failed_installation_does_not_count_and_says_what_to_do(cache: Path) -> None:
    with pytest.raises(BackendError, match="TSAL_DEMO_LABEL_STUDIO"):
        environment.install(cache, ["--no-index", "there-is-no-such-package"], lambda line: None)
    assert environment.installed_program() is None


def test_a_program_that_is_there_is_used_instead(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_repository = tmp_path / environment.IN_REPOSITORY
    in_repository.parent.mkdir(parents=True)
    in_repository.touch()
    assert environment.program(lambda line: pytest.fail(line)) == in_repository
    named = tmp_path / "another"
    monkeypatch.setenv("TSAL_DEMO_LABEL_STUDIO", str(named))
    with pytest.raises(InvalidRequest, match="is no file"):
        environment.program(lambda line: None)
    named.touch()
    assert environment.program(lambda line: None) == named
