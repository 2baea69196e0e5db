from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from studies.maps import COLOURS, draw

METHODS = ("Grad-CAM", "Grad-CAM++")


@pytest.fixture
def pixels() -> NDArray[np.uint8]:
    return np.full((224, 224, 3), 120, np.uint8)


def _peak(row: int, column: int) -> NDArray[np.float32]:
    y, x = np.mgrid[:224, :224]
    peak: NDArray[np.float32] = np.exp(-((y - row) ** 2 + (x - column) ** 2) / 800).astype(np.float32)
    return peak


def _drawn(path: Path) -> NDArray[np.float64]:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"), np.float64)


def test_a_picture_with_a_row_per_method_and_two_columns_per_symptom(pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    sizes = []
    for symptoms in (("A-line",), ("A-line", "B-line"), ("A-line", "B-line", "Pleural lesion")):
        values = {symptom: {method: _peak(60, 60) for method in METHODS} for symptom in symptoms}
        draw(pixels, values, tmp_path / "map.png", "a clip, 1.5 s", dict.fromkeys(symptoms, 0.5))
        sizes.append(_drawn(tmp_path / "map.png").shape)
    assert sizes[2][1] - sizes[1][1] == pytest.approx(sizes[1][1] - sizes[0][1], abs=2)
    assert sizes[0][0] == sizes[2][0]
    assert [file.name for file in tmp_path.iterdir()] == ["map.png"]


def test_maps_probabilities_and_titles_show(pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    """Whatever is changed changes the picture, and the same input gives the same file."""
    same = {"B-line": {method: _peak(60, 60) for method in METHODS}}
    other_map = {"B-line": {METHODS[0]: _peak(60, 60), METHODS[1]: _peak(160, 160)}}
    files = {}
    for name, values, title, probability in (
        ("first", same, "one", 0.91),
        ("again", same, "one", 0.91),
        ("map", other_map, "one", 0.91),
        ("title", same, "two", 0.91),
        ("probability", same, "one", 0.19),
    ):
        draw(pixels, values, tmp_path / name, title, {"B-line": probability})
        files[name] = (tmp_path / name).read_bytes()
    assert files["first"] == files["again"]
    assert len(set(files.values())) == 4


def test_a_frame_without_evidence_is_drawn_as_such(pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    nothing = np.zeros((224, 224), np.float32)
    draw(pixels, {"A-line": dict.fromkeys(METHODS, nothing)}, tmp_path / "none.png", "none", {"A-line": 0.0})
    draw(pixels, {"A-line": dict.fromkeys(METHODS, _peak(60, 60))}, tmp_path / "some.png", "none", {"A-line": 0.0})
    yellow = []
    for name in ("none.png", "some.png"):
        red, green, blue = np.moveaxis(_drawn(tmp_path / name), 2, 0)
        yellow.append(int(((red > 200) & (green > 180) & (blue < 100)).sum()))
    assert 0 < yellow[0] < yellow[1] / 1.1  # without evidence the bar alone has the colour of the strongest


def test_the_colours_are_read_in_grey() -> None:
    """Brightness (ITU-R BT.601) only ever rises with the value: in black and white the brighter is the more."""
    from matplotlib import colormaps

    brightness = colormaps[COLOURS](np.linspace(0, 1, 256))[:, :3] @ [0.299, 0.587, 0.114]
    assert (np.diff(brightness) > -0.001).all()
    assert brightness[-1] - brightness[0] > 0.6
