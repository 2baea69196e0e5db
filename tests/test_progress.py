from __future__ import annotations

import io
import sys

import pytest

from ml_backend import progress
from ml_backend.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)


@pytest.mark.usefixtures("at_once")
def test_without_a_terminal_each_state_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("import", "file", total=4) as bar:
        for _ in range(4):
            bar.advance()
    out, err = capsys.readouterr()
    assert out == ""
    assert "\r" not in err
    lines = err.splitlines()
    assert all(line.startswith("import: ") for line in lines)
    assert [count for count in range(5) if any(f" {count}/4 " in line for line in lines)] == [0, 1, 2, 3, 4]


def test_short_work_is_silent_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("import", "file", total=2) as bar:
        bar.advance(2)
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("at_once")
def test_a_new_stage_counts_from_zero(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("project 1", "frame") as bar:
        bar.at(5, 5, "scoring")
        bar.at(1, 3, "pushing")
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith("scoring") and "5/5" in line for line in lines)
    assert lines[-1].startswith("pushing")
    assert "1/3" in lines[-1]


@pytest.mark.usefixtures("at_once")
def test_a_line_written_in_between_stands_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("import", "file", total=2) as bar:
        bar.say("one.mp4: damaged")
        bar.advance()
    assert "one.mp4: damaged" in capsys.readouterr().err.splitlines()


def test_in_a_terminal_it_is_a_bar_that_is_drawn_over(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress("import", "file", total=2) as bar:
        bar.advance(2)
    assert terminal.getvalue().startswith("\rimport:")
    assert terminal.getvalue().count("\n") == 1
