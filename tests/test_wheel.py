"""The wheel: what is in it, and that it works in an environment and a folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path

import httpx
import pytest

from ml_backend.launch.processes import Processes, free_port
from tests.installation import XML

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "CITATION.cff", "ml_backend", "label_config")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--wheel-dir", str(folder / "dist"), str(source)], check=True, capture_output=True)
    (built,) = (folder / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the wheel; what it depends on comes from the environment of the tests."""
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = environment / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    # A path alone: the link to the repository that lies there is not followed.
    (packages / "shared.pth").write_text(sysconfig.get_paths()["purelib"])
    return environment / "bin"


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder, in an environment without settings and without the repository."""
    for name in [name for name in os.environ if name.startswith(("TSAL_", "PYTHONPATH"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tsal(installed: Path, *arguments: str) -> str:
    ended = subprocess.run([str(installed / "tsal"), *arguments], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_it_carries_one_package_with_its_data(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"ml_backend"}
    data = {path.relative_to(ROOT).as_posix() for path in (ROOT / "label_config").rglob("*") if path.is_file()}
    assert data
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "ml_backend").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {f"ml_backend/{name}" for name in data} | package <= set(names)
    assert "ml_backend/py.typed" in names


def test_it_asks_for_ranges_and_names_its_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (about,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        (entries,) = (name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
        metadata = Parser().parsestr(archive.read(about).decode())
        assert "tsal = ml_backend.__main__:main" in archive.read(entries).decode()
    needed = metadata.get_all("Requires-Dist") or []
    assert needed
    assert not [one for one in needed if "==" in one.partition(";")[0] or one.startswith("label-studio-ml")]
    assert metadata["Requires-Python"] == ">=3.10"


def test_its_commands_work_in_an_empty_folder(installed: Path, clean: Path) -> None:
    where = "import ml_backend, sys; print(ml_backend.__file__, *sys.path, sep='\\n')"
    found = subprocess.run([str(installed / "python"), "-c", where], capture_output=True, text=True, check=True)
    assert Path(found.stdout.splitlines()[0]).is_relative_to(installed.parent)
    assert str(ROOT) not in found.stdout.splitlines()
    assert tsal(installed, "--help").startswith("Usage: tsal ")
    configuration = tsal(installed, "config")
    assert configuration.startswith("<View")
    assert configuration.count("data:image/jpeg;base64,") == 4
    tsal(installed, "phantom", "out", "--patients", "1", "--clips", "1", "--frames", "2", "--size", "64")
    assert sorted(path.name for path in (clean / "out").iterdir()) == ["clips", "clips.csv"]


def test_its_backend_answers_setup_and_predict(installed: Path, clean: Path) -> None:
    port = free_port()
    settings = {
        "TSAL_PORT": str(port),
        "TSAL_LABEL_STUDIO_TOKEN": "token-of-the-tests",
        "TSAL_LABEL_STUDIO_URL": "http://127.0.0.1:1",
        "TSAL_BACKBONE": "efficientnet_lite0",
    }
    lines: list[str] = []
    with Processes(lambda _, line: lines.append(line)) as processes:
        child = processes.start("backend", [str(installed / "tsal"), "backend"], settings)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            _wait(client, child.process.poll, lines)
            about = {"project": "1.0", "label_config": XML}
            told = client.post("/setup", json={**about, "schema": XML, "hostname": "", "access_token": ""})
            assert told.status_code == 200, lines
            assert told.json()["model_version"]
            tasks = [{"id": 1, "data": {"image": "/data/local-files/?d=1.png"}}]
            answer = client.post("/predict", json={**about, "tasks": tasks})
            assert answer.status_code == 200, lines
            assert len(answer.json()["results"]) == 1


def _wait(client: httpx.Client, ended: object, lines: list[str]) -> None:
    deadline = time.monotonic() + 120
    while True:
        assert callable(ended)
        assert ended() is None, lines
        try:
            client.get("/health").raise_for_status()
            return
        except httpx.HTTPError:
            assert time.monotonic() < deadline, json.dumps(lines)
            time.sleep(0.2)


@pytest.fixture(autouse=True)
def _nothing_is_built_in_the_repository() -> Iterator[None]:
    before = {path.name for path in ROOT.iterdir()}
    yield
    assert {path.name for path in ROOT.iterdir()} - before <= {".pytest_cache"}
