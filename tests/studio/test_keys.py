"""A team's own names for patient, clip and time."""

from __future__ import annotations

from ml_backend.frames.frame import Frame
from ml_backend.settings import load
from ml_backend.studio.keys import DataKeys, found_keys


def test_the_settings_name_the_keys() -> None:
    assert DataKeys.of(load()) == DataKeys("patient", "clip", "time")
    own = load(patient_key="pat", clip_key="video", time_key="t")
    assert DataKeys.of(own) == DataKeys("pat", "video", "t")


def test_tasks_with_a_value_are_counted() -> None:
    data = [
        {"image": "x", "pat": "anna", "video": "a.mp4", "t": 0},
        {"image": "x", "pat": 17, "video": "", "t": None},
        {"image": "x", "patient": "berta"},
    ]
    assert found_keys(data, DataKeys("pat", "video", "t")) == {"pat": 2, "video": 1, "t": 1}
    assert found_keys(data, DataKeys()) == {"patient": 1, "clip": 0, "time": 0}
    assert found_keys([], DataKeys()) == {"patient": 0, "clip": 0, "time": 0}


def test_a_frame_has_the_clip_that_its_own_key_names() -> None:
    data = {"image": "x", "video": "a.mp4", "clip": "another"}
    assert Frame.of(5, data, "image", "video").clip == "a.mp4"
    assert Frame.of(5, data, "image").clip == "another"
