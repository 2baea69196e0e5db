"""The command `tsal` and the scripts that lead to it."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ml_backend import __version__
from ml_backend.__main__ import main
from ml_backend.commands.import_frames import import_frames, seconds
from ml_backend.ingest.duplicates import DISTANCE
from ml_backend.ingest.importer import EVERY

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "flask", "redis", "rq", "label_studio_sdk", "numpy", "pydantic", "httpx", "PIL", "av"}
COMMANDS = [
    "serve",
    "connect",
    "doctor",
    "import",
    "config",
    "versions",
    "order",
    "finish",
    "audit",
    "suspects",
    "model",
    "backend",
    "worker",
    "sidecar",
    "demo",
    "phantom",
]
DOORS = {
    "worker": "worker",
    "versions": "versions",
    "import_frames": "import",
    "connect": "connect",
    "doctor": "doctor",
    "serve": "serve",
    "demo": "demo",
    "make_phantom": "phantom",
    "label_configuration": "config",
}


def code(*arguments: str) -> object:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_the_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert code("--help") == 0
    shown = {line.split()[0] for line in capsys.readouterr().out.partition("Commands:")[2].splitlines() if line}
    assert shown >= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert code(command, "--help") == 0
    assert capsys.readouterr().out.startswith(f"Usage: tsal {command} ")


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\nfrom ml_backend.__main__ import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    print(*sys.modules, file=sys.stderr)"
    )
    ended = run(sys.executable, "-c", program)
    loaded = set(ended.stderr.split())
    assert "ml_backend.commands.main" in loaded
    assert not HEAVY & loaded


@pytest.mark.parametrize("part", ["web.app", "loop.work", "loop.watch"])
def test_backend_worker_and_sidecar_wait_without_what_computes(part: str) -> None:
    program = f"import sys, ml_backend.{part}; print(*sys.modules)"
    loaded = set(run(sys.executable, "-c", program).stdout.split())
    assert f"ml_backend.{part}" in loaded
    assert not {"torch", "torchvision", "sklearn", "scipy.stats"} & loaded


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert code("--version") == 0
    assert capsys.readouterr().out.split() == ["tsal", __version__]


@pytest.mark.parametrize(
    "arguments",
    [["nothing"], ["order", "--nothing"], ["connect"], ["import", "x", "--project", "1", "--every", "?"]],
)
def test_a_wrong_call_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert code(*arguments) == 2
    assert capsys.readouterr().err


def test_ctrl_c_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ml_backend.launch.serve.run", interrupted)
    assert code("serve") == 130


def test_defaults_are_those_of_the_code_that_is_called() -> None:
    defaults = inspect.signature(import_frames).parameters
    assert defaults["distance"].default == DISTANCE
    assert seconds(defaults["every"].default) == EVERY


def test_a_missing_package_is_named_in_one_line() -> None:
    # -S: without the installed packages, as with the wrong interpreter.
    ended = run(sys.executable, "-S", "-E", str(ROOT / "scripts" / "worker.py"))
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.count("\n") == 1
    assert sys.executable in ended.stderr


def test_a_missing_module_of_ours_is_not_reported_as_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ml_backend.phantom.clips", None)
    with pytest.raises(ModuleNotFoundError):
        main(["phantom", "out"])


@pytest.mark.parametrize(("door", "command"), DOORS.items())
def test_a_script_is_a_door_to_its_command(door: str, command: str) -> None:
    ended = run(sys.executable, str(ROOT / "scripts" / f"{door}.py"), "--help")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(f"Usage: tsal {command} ")


@pytest.mark.parametrize(("mode", "command"), [("--once", "order"), ("--watch", "sidecar")])
def test_reorder_queue_still_has_two_modes(mode: str, command: str) -> None:
    script = str(ROOT / "scripts" / "reorder_queue.py")
    ended = run(sys.executable, script, mode, "--project", "no number")
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"Usage: tsal {command} ")
    assert run(sys.executable, script).returncode == 2
    assert run(sys.executable, script, "--once", "--watch").returncode == 2


def test_versions_takes_the_project_before_or_after_the_subcommand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith("TSAL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TSAL_DATA_DIR", str(tmp_path))
    for arguments in (["--project", "9", "list"], ["list", "--project", "9"]):
        assert code("versions", *arguments) == 2
        assert "name one of the connected projects" in capsys.readouterr().err
