"""When a fine-tune is due and when the loop ends (METHOD.md, "The loop")."""

from __future__ import annotations

from dataclasses import dataclass

from ml_backend.tsal.judgement import Figure


@dataclass(frozen=True)
class Progress:
    """Where a project stands.

    ``confirmed``: frames with a confirmed annotation; ``pending``: those of them that are new or changed since the
    newest version; ``pool``: frames without one, None where unknown; ``exact_match``: the active version's, None where
    it was not measured on a uniform sample; ``quiet``: whether nothing new has been confirmed for a while.
    """

    confirmed: int
    pending: int
    pool: int | None = None
    exact_match: Figure | None = None
    quiet: bool = False


def due(progress: Progress, k_max: int, budget: int | None, target: float | None) -> bool:
    """Whether to fine-tune now: for a full batch, or for a smaller one if no more will come for now.

    With an empty pool, the last answers and later corrections are gathered until nothing new comes.
    """
    if progress.pending == 0 or reason_to_stop(progress, budget, target) is not None:
        return False
    spent = budget is not None and progress.confirmed >= budget
    return progress.pending >= k_max or (progress.pool == 0 and progress.quiet) or spent


def reason_to_stop(progress: Progress, budget: int | None, target: float | None) -> str | None:
    """Why the loop has ended, in words for people, or None while it goes on.

    The target is reached when the lower end of the interval of exact match reaches it, so that a few lucky frames do
    not end the loop.
    """
    figure = progress.exact_match
    if target is not None and figure is not None and figure.low >= target:
        return f"the wanted exact match of {target:.2f} is reached: {figure}"
    if budget is not None and progress.confirmed - progress.pending >= budget:
        return f"the annotation budget of {budget} is spent"
    if progress.pool == 0 and progress.pending == 0 and progress.confirmed:
        return "every frame is annotated"
    return None
