"""Ultrasound instances for a PACS, and a PACS that counts what is fetched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydicom import uid

from ml_backend.ingest.pacs.server import Instance, Pacs
from ml_backend.settings import Settings, load
from tests.commands.test_import_frames import scene, write_identified
from tests.ingest.test_files import encapsulated, encoded, write_dicom
from tests.orthanc_server import OrthancServer


def write_instance(path: Path, study: str, seeds: Sequence[int], **tags: object) -> Path:
    """Write an instance of a study, of a series of its own modality."""
    modality = str(tags.pop("Modality", "US"))
    own: dict[str, object] = {
        "StudyInstanceUID": study,
        "SeriesInstanceUID": uid.generate_uid(entropy_srcs=[study, modality]),
        "SOPInstanceUID": uid.generate_uid(entropy_srcs=[study, path.name]),
        "Modality": modality,
    }
    return write_identified(path, seeds, **own | tags)


def write_jpeg(path: Path, study: str, seeds: Sequence[int], **tags: object) -> Path:
    """Write a clip in colours, compressed as machines mostly do."""
    pictures = [np.asarray(Image.fromarray(scene(seed)).convert("RGB")) for seed in seeds]
    coded = [encoded(np.ascontiguousarray(picture), "JPEG", quality=90) for picture in pictures]
    fields: dict[str, Any] = {
        "StudyInstanceUID": study,
        "SeriesInstanceUID": f"{study}.1",
        "SOPInstanceUID": uid.generate_uid(entropy_srcs=[study, path.name]),
        "PatientID": "PAT-4711",
        "PatientName": "DOE^JANE",
        "Modality": "US",
        "FrameTime": "500",
        "PhotometricInterpretation": "YBR_FULL_422",
        **encapsulated(*coded),
    }
    return write_dicom(path, np.stack(pictures), syntax=uid.JPEGBaseline8Bit, **fields | tags)


class QuickPacs(Pacs):
    """Waits no longer than tests may take."""

    waits = (0.01, 0.02)


class CountingPacs(QuickPacs):
    """Notes what is fetched."""

    def __init__(self, url: str, settings: Settings) -> None:
        super().__init__(url, settings)
        self.fetches: list[str] = []

    @contextmanager
    def fetched(self, instance: Instance) -> Iterator[Path]:
        self.fetches.append(instance.uid)
        with super().fetched(instance) as path:
            yield path


def pacs_of(server: OrthancServer) -> CountingPacs:
    """An Orthanc as its user sees it."""
    return CountingPacs(server.dicomweb, load(dicomweb_user=server.user, dicomweb_password=server.password))
