"""What judges the frames of new patients: the network's tail, linear heads on levels of its trunk, or both."""

from __future__ import annotations

from dataclasses import dataclass, replace

from studies.simulation import Way


@dataclass(frozen=True)
class Judge:
    """One way to judge a frame.

    ``tail``: the network's tail, fine-tuned in this way after each batch; ``levels``: linear heads on the last so many
    levels of the trunk, fitted to all answers. The mean of their logits counts where there are both.
    ``by_clip``: a frame gets the mean logits of its clip's frames.
    """

    tail: Way | None = None
    levels: int = 0
    by_clip: bool = False


def judges(tail: Way) -> dict[str, Judge]:
    """Return the ways that are compared, by name; every one is compared with the first. ``tail``: the product's."""
    return {
        "tail, 10 epochs, as release 0.1.0": Judge(replace(tail, epochs=10)),
        "tail": Judge(tail),
        "tail, by clip": Judge(tail, by_clip=True),
        "heads on the last level": Judge(levels=1),
        "heads on the last two levels": Judge(levels=2),
        "heads on four levels": Judge(levels=4),
        "heads on four levels, by clip": Judge(levels=4, by_clip=True),
        "tail and heads on four levels": Judge(tail, 4),
        "tail and heads on four levels, by clip": Judge(tail, 4, by_clip=True),
    }
