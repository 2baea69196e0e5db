"""Arrays of an ``.npz`` file that stay on disk: only the parts that are used take memory."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

_LENGTHS = struct.Struct("<26xHH")  # of the name and of the extra field, at the end of a member's own header


def mapped(path: Path) -> dict[str, NDArray[Any]]:
    """Map the arrays of a file that `numpy.savez` wrote, by name; they cannot be written to.

    The file may be removed or replaced while the arrays are in use. Its checksums are compared once.

    Raises:
        BadZipFile, ValueError: if the file is damaged, compressed, or has anything but arrays.
        OSError: if it cannot be read.
    """
    with path.open("rb") as file, ZipFile(file) as archive:
        if (damaged := archive.testzip()) is not None:
            raise BadZipFile(f"{damaged} of {path} is damaged")
        content = np.memmap(file, np.uint8, "r")  # one for all arrays: each mapping keeps the file open
        return {member.filename.removesuffix(".npy"): _array_in(content, file, member) for member in archive.infolist()}


def _array_in(content: NDArray[np.uint8], file: BinaryIO, member: ZipInfo) -> NDArray[Any]:
    if member.compress_type != ZIP_STORED:
        raise ValueError(f"{member.filename} is compressed")
    file.seek(member.header_offset)
    name, extra = _LENGTHS.unpack(file.read(_LENGTHS.size))
    file.seek(name + extra, 1)
    version = npy.read_magic(file)  # type: ignore[no-untyped-call]
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read_header(file)  # type: ignore[no-untyped-call]
    if dtype.hasobject:
        raise ValueError(f"{member.filename} has objects")
    return np.ndarray(shape, dtype, content, file.tell(), order="F" if fortran else "C")
