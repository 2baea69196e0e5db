"""What the benchmarks without a Label Studio share: the settings of their installation, and the answers in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ml_backend.settings import Settings, load
from ml_backend.setup.label_configuration import render
from ml_backend.studio.configuration import Configuration
from ml_backend.studio.payloads import choices_result

XML = render()
WHEN = "2026-11-12T10:00:00.000000Z"


def offline_settings(folder: Path, **more: Any) -> Settings:
    """The settings of an installation below ``folder``; ``more`` settings besides the usual ones."""
    return load(
        label_studio_url="http://127.0.0.1:1",
        label_studio_token="0" * 40,
        backend_url="http://127.0.0.1:2",
        data_dir=folder / "data",
        document_root=folder / "files",
        backbone="efficientnet_lite0",
        **more,
    )


def results() -> list[Sequence[Mapping[str, Any]]]:
    """The results of annotations that each tick one symptom, one for each symptom."""
    configuration = Configuration.parse(XML)
    combinations = np.eye(len(configuration.label_names), dtype=np.uint8)
    return [[choices_result(one, configuration)] for one in combinations]
