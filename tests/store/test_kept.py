"""A file that is written again and again and read in between."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
from pydantic import BaseModel

from ml_backend.store.kept import FILES, Kept

pytestmark = pytest.mark.unit


class Page(BaseModel):
    number: int


def test_reads_what_was_last_written_and_parses_it_once(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "page.json", Page)
    assert kept.read() is None
    for number in (1, 22):
        kept.write(Page(number=number))
        first = kept.read()
        assert first == Page(number=number)
        assert Kept(tmp_path / "page.json", Page).read() is first


def test_a_damaged_file_counts_as_none(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "page.json", Page)
    (tmp_path / "page.json").write_text("{")
    assert kept.read() is None
    kept.write(Page(number=3))
    assert kept.read() == Page(number=3)


def test_what_was_written_over_is_not_held(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "page.json", Page)
    kept.write(Page(number=1))
    old = kept.read()
    assert old is not None
    seen = weakref.ref(old)
    del old
    kept.write(Page(number=22))
    assert kept.read() == Page(number=22)
    gc.collect()
    assert seen() is None


def test_few_files_are_held(tmp_path: Path) -> None:
    pages = [Kept(tmp_path / f"{number}.json", Page) for number in range(FILES + 1)]
    for number, kept in enumerate(pages):
        kept.write(Page(number=number))
    first = [kept.read() for kept in pages]
    assert pages[-1].read() is first[-1]
    assert pages[0].read() is not first[0]
