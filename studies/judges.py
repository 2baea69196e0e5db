"""What judges the frames of new patients: the network's tail, linear heads on levels of its trunk, or both."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ml_backend.msml.levels import COUNT
from studies.simulation import Way

EVERY = tuple(range(COUNT))
"""All levels of a trunk."""


@dataclass(frozen=True)
class Judge:
    """One way to judge a frame.

    ``tail``: the network's tail, fine-tuned in this way after each batch; ``levels``: linear heads on these levels of
    the trunk (the last is -1), fitted to all answers. The mean of their logits counts where there are both.
    ``by_clip``: a frame gets the mean logits of its clip's frames.
    """

    tail: Way | None = None
    levels: tuple[int, ...] = ()
    by_clip: bool = False


def judges(tail: Way) -> dict[str, Judge]:
    """Return the ways that are compared, by name; every one is compared with the first. ``tail``: the product's."""
    return {
        "tail, 10 epochs, as release 0.1.0": Judge(replace(tail, epochs=10)),
        "tail": Judge(tail),
        "tail, by clip": Judge(tail, by_clip=True),
        "heads on the last level": Judge(levels=(-1,)),
        "heads on the last two levels": Judge(levels=(-2, -1)),
        "heads on four levels": Judge(levels=EVERY),
        "heads on four levels, by clip": Judge(levels=EVERY, by_clip=True),
        "tail and heads on four levels": Judge(tail, EVERY),
        "tail and heads on four levels, by clip": Judge(tail, EVERY, by_clip=True),
    }
