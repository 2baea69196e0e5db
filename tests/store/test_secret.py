from __future__ import annotations

from pathlib import Path

import pytest

from ml_backend.errors import SettingsError
from ml_backend.store.secret import BYTES, kept_secret


def test_it_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "data" / "key"
    made = kept_secret(path, "remove it")
    assert len(made) == BYTES
    assert kept_secret(path, "remove it") == made
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_damaged_one_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"short")
    with pytest.raises(SettingsError, match="remove it"):
        kept_secret(tmp_path / "key", "remove it")
    assert (tmp_path / "key").read_bytes() == b"short"


def test_one_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").mkdir()
    with pytest.raises(SettingsError):
        kept_secret(tmp_path / "key", "remove it")
