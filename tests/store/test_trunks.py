"""What is known of trunks without building them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ml_backend.store.trunks import MOST, Trunk, TrunkStore


def trunk(number: int) -> Trunk:
    return Trunk(key=f"{number:032x}", precision="float32", shape=(192, 7, 7))


def test_a_trunk_is_known_to_the_next_process(tmp_path: Path) -> None:
    assert TrunkStore(tmp_path).read("this") is None
    TrunkStore(tmp_path).keep("this", trunk(1))
    assert TrunkStore(tmp_path).read("this") == trunk(1)
    assert TrunkStore(tmp_path).read("that") is None


def test_what_was_built_last_counts(tmp_path: Path) -> None:
    store = TrunkStore(tmp_path)
    for number in (1, 2):
        store.keep("this", trunk(number))
    assert store.read("this") == trunk(2)


def test_only_the_last_trunks_are_kept(tmp_path: Path) -> None:
    store = TrunkStore(tmp_path)
    for number in range(MOST + 1):
        store.keep(str(number), trunk(number))
    assert [store.read(str(number)) for number in (0, 1, MOST)] == [None, trunk(1), trunk(MOST)]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"this": {"key": 1}}'])
def test_a_damaged_file_counts_as_none(tmp_path: Path, content: str) -> None:
    store = TrunkStore(tmp_path)
    store.keep("this", trunk(1))
    (written,) = tmp_path.iterdir()
    written.write_text(content)
    assert store.read("this") is None
    store.keep("this", trunk(2))
    assert store.read("this") == trunk(2)


def test_nothing_is_written_where_there_is_no_data_folder(tmp_path: Path) -> None:
    TrunkStore(tmp_path / "none").keep("this", trunk(1))
    assert not (tmp_path / "none").exists()


def test_precisions_have_names_of_their_own() -> None:
    assert trunk(1).name != trunk(1).model_copy(update={"precision": "bfloat16"}).name
