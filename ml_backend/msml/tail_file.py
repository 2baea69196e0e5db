"""Write and read the file with a version's trained weights and metadata (safetensors)."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from ml_backend.errors import VersionUnknown

State = dict[str, NDArray[np.float32]]
_METADATA = "tsal"


def write(path: Path, state: State, metadata: Mapping[str, str]) -> None:
    """Write weights and metadata to a file aside and move it into place; the same input gives the same bytes."""
    # All metadata goes under one key: safetensors writes several keys in an order that changes from call to call.
    content = safetensors.numpy.save(state, metadata={_METADATA: json.dumps(dict(metadata), sort_keys=True)})
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with aside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def read(path: Path) -> tuple[State, dict[str, str]]:
    """Return the weights and the metadata of a file; VersionUnknown where it is missing or damaged."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata: dict[str, str] = json.loads((file.metadata() or {}).get(_METADATA, "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118 - it is not a dict
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise VersionUnknown(f"The weights {path} cannot be read: {error}.") from error
