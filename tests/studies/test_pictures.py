from pathlib import Path

import numpy as np
from PIL import Image

from studies import pictures


def test_the_pictures_of_the_method_are_drawn(tmp_path: Path) -> None:
    assert pictures.main([str(tmp_path)]) == 0
    for name in ("memory", "certificate"):
        with Image.open(tmp_path / f"method-{name}.png") as picture:
            grey = np.asarray(picture.convert("L"))
            assert grey.min() < 50
            assert grey.max() > 200
