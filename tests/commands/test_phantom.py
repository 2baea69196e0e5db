"""The command that writes phantoms."""

from __future__ import annotations

from pathlib import Path

import pytest

from ml_backend.__main__ import main


def code(*arguments: str) -> object:
    with pytest.raises(SystemExit) as ended:
        main(["phantom", *arguments])
    return ended.value.code


def test_impossible_numbers_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code(str(tmp_path), "--patients", "0") == 2
    assert "1 or more" in capsys.readouterr().err
    assert code(str(tmp_path), "--size", "101") == 2
    assert "even numbers" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_command_writes_clips_and_examples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--patients", "1", "--clips", "1", "--frames", "2", "--size", "64", "--examples", str(tmp_path / "ex")]
    assert code(str(tmp_path / "out"), *arguments) == 0
    assert str(tmp_path / "out" / "clips.csv") in capsys.readouterr().out
    assert len(list((tmp_path / "ex").iterdir())) == 4


def test_breathing_clips_have_labels_per_frame(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code(str(tmp_path), "--breathing", "--patients", "1", "--clips", "2", "--frames", "3", "--size", "64") == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "frames.csv")
    assert len((tmp_path / "frames.csv").read_text(encoding="utf-8").splitlines()) == 1 + 2 * 3


def test_a_folder_must_be_named() -> None:
    assert code() == 2
