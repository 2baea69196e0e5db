"""A small set of labelled clips for tests: stills of three patterns, two patients each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

HEADER = "file,patient,labelled,a_line,b_line,pleural_lesion\n"


def write_clips(folder: Path, clips: int = 12, header: str = HEADER) -> Path:
    """Write `clips/` and `clips.csv`: every third clip shows the same pattern, every fourth the same patient."""
    (folder / "clips").mkdir(parents=True)
    y, x = np.mgrid[0:64, 0:64] // 8
    patterns = [np.full((64, 64), 40), 255 * (x % 2), 255 * ((x + y) % 2)]
    rows = []
    for number in range(clips):
        noise = np.random.default_rng(number).integers(0, 30, (64, 64))
        pixels = np.clip(patterns[number % 3] + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "clips" / f"{number}.png")
        labels = [int(number % 3 == 0), int(number % 3 > 0), int(number % 3 == 2)]
        rows.append(f"{number}.png,patient {number % 4},1,{','.join(map(str, labels))}\n")
    rows.append("none.png,patient 9,0,0,0,0\n")
    (folder / "clips.csv").write_text(header + "".join(rows))
    return folder
