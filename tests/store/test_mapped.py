from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import psutil  # type: ignore[import-untyped]
import pytest

from ml_backend.store.mapped import mapped

ARRAYS = {
    "numbers": np.arange(12, dtype=np.int16).reshape(3, 4),
    "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "single": np.array(3.5),
    "nothing": np.empty((0, 4), np.float32),
    "words": np.array(["a", "béta"]),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "arrays.npz"
    np.savez(path, **ARRAYS)  # type: ignore[arg-type]
    return path


def test_arrays_are_as_numpy_reads_them_and_stay_on_disk(file: Path) -> None:
    found = mapped(file)
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
        assert not found[name].flags.owndata
        assert not found[name].flags.writeable


def test_all_arrays_keep_one_file_open(file: Path) -> None:
    before = psutil.Process().num_fds()
    found = mapped(file)
    assert psutil.Process().num_fds() == before + 1
    del found
    assert psutil.Process().num_fds() == before


def test_a_changed_byte_is_refused(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[content.index(ARRAYS["columns"].tobytes("F"))] ^= 1
    file.write_bytes(content)
    with pytest.raises(BadZipFile):
        mapped(file)


def test_compressed_arrays_and_objects_are_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "compressed.npz", one=np.zeros(3))
    with pytest.raises(ValueError, match="compressed"):
        mapped(tmp_path / "compressed.npz")
    np.savez(tmp_path / "objects.npz", one=np.array([{}], object))
    with pytest.raises(ValueError, match="objects"):
        mapped(tmp_path / "objects.npz")
