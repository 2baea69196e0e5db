"""A team's own names for patient, clip and time."""

from __future__ import annotations

from ml_backend.frames.frame import Frame
from ml_backend.settings import load
from ml_backend.studio.keys import DataKeys


def test_the_settings_name_the_keys() -> None:
    assert DataKeys.of(load()) == DataKeys("patient", "clip", "time")
    own = load(patient_key="pat", clip_key="video", time_key="t")
    assert DataKeys.of(own) == DataKeys("pat", "video", "t")


def test_a_frame_has_the_clip_that_its_own_key_names() -> None:
    data = {"image": "x", "video": "a.mp4", "clip": "another"}
    assert Frame.of(5, data, "image", "video").clip == "a.mp4"
    assert Frame.of(5, data, "image").clip == "another"
