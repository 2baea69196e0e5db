"""`tsal phantom`: clips of lung-ultrasound phantoms with exact labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def phantom(
    out: Annotated[
        Path | None, typer.Argument(metavar="[OUT]", help="Folder for the clips and their table.", show_default=False)
    ] = None,
    patients: Annotated[int, typer.Option(metavar="N", help="People to examine.")] = 12,
    clips: Annotated[int, typer.Option(metavar="N", help="Clips of each person.")] = 2,
    frames: Annotated[int, typer.Option(metavar="N", help="Frames in each clip.")] = 30,
    rate: Annotated[int, typer.Option(metavar="N", help="Frames a second.")] = 10,
    size: Annotated[int, typer.Option(metavar="PIXELS", help="Height and width, even.")] = 400,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of everything random.")] = 7,
    breathing: Annotated[
        bool,
        typer.Option("--breathing", help="Findings come and go within a clip: labels per frame, in OUT/frames.csv."),
    ] = False,
    examples: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Also write the labelling configuration's example pictures to DIR."),
    ] = None,
) -> None:
    """Draw lung-ultrasound phantoms: OUT/clips/*.mp4, and OUT/clips.csv with their exact labels.

    With --breathing, B-lines, effusions and lesions come and go with the breath and with the probe's movement, and
    OUT/frames.csv has the labels of every frame (file, frame, time in seconds, symptoms). The same seed and numbers
    give the same files. Example: tsal phantom runs/phantom --patients 12
    """
    from ml_backend.phantom.clips import generate, write_examples

    if out is None and examples is None:
        raise typer.BadParameter("name a folder to write to: OUT, or --examples DIR")
    if examples is not None:
        print("\n".join(map(str, write_examples(examples))))
    if out is not None:
        print(generate(out, patients, clips, frames, seed, (size, size), rate, True, breathing))
