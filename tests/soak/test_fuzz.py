"""A sample of the broken files that `make soak` decodes, and a check that harm would be seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from ml_backend.errors import FrameUnreadable
from soak import fuzz
from soak.broken import NAME, Seed, broken, seeds

FILES = 300


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Seed]:
    return seeds(tmp_path_factory.mktemp("seeds") / "clips")


@pytest.fixture
def few(made: list[Seed], monkeypatch: pytest.MonkeyPatch) -> list[Seed]:
    """Only stills, to be quick."""
    stills = [seed for seed in made if seed.suffix in (".png", ".jpg")]
    monkeypatch.setattr(fuzz, "seeds", lambda *_: stills)
    return stills


def total(counts: dict[str, dict[str, int]]) -> int:
    return sum(sum(kinds.values()) for kinds in counts.values())


def test_broken_files_harm_nothing_but_themselves(tmp_path: Path) -> None:
    result = fuzz.fuzz(tmp_path, FILES, seed=1)
    assert result.offences == []
    assert total(result.imported) == total(result.served) == FILES
    assert {".mp4", ".avi", ".mpg", ".gif", ".png", ".jpg", ".dcm", ".tiff", ".webp", ".bmp"} <= result.imported.keys()
    what = {what for kinds in result.imported.values() for what in kinds}
    assert {"read", "read in part", "refused"} <= what
    assert result.healthy == FILES // fuzz.PIECE


def test_the_same_number_makes_the_same_file(made: list[Seed]) -> None:
    files = [broken(made, 0, number) for number in range(200)]
    assert files == [broken(made, 0, number) for number in range(200)]
    assert files != [broken(made, 1, number) for number in range(200)]
    whole = {seed.content for seed in made}
    assert sum(content not in whole for _, content in files) > 190


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("decode", ValueError("any")),
        ("decode", FrameUnreadable("two\nlines")),
        ("decode", FrameUnreadable(f"it is of {NAME}")),
        ("decode", FrameUnreadable("")),
        ("read_all", OSError("any")),
    ],
)
def test_harm_is_seen(
    tmp_path: Path, few: list[Seed], monkeypatch: pytest.MonkeyPatch, name: str, error: Exception
) -> None:
    def harm(*_: object, **__: object) -> None:
        raise error

    healthy = fuzz._healthy

    def read_first(*given: object) -> object:
        found = healthy(*given)  # type: ignore[arg-type]
        monkeypatch.setattr(fuzz, name, harm)
        return found

    monkeypatch.setattr(fuzz, "_healthy", read_first)
    monkeypatch.setattr(fuzz, "_check_healthy", lambda *_: None)
    assert len(fuzz.fuzz(tmp_path, 3, seed=0).offences) == 3


def test_a_healthy_file_that_reads_otherwise_is_seen(
    tmp_path: Path, few: list[Seed], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzz, "_one", lambda folder, *_: [path.write_bytes(b"") for path in folder.glob("healthy-*")])
    (offence,) = fuzz.fuzz(tmp_path, 1, seed=0).offences
    assert "healthy-0" in offence


def test_what_is_left_behind_is_seen(tmp_path: Path, few: list[Seed], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "_one", lambda folder, *_: (folder / "tmp" / "left").touch())
    (offence,) = fuzz.fuzz(tmp_path, 1, seed=0).offences
    assert "left" in offence
