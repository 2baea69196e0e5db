"""The state of a project: who labelled what, how right the ticks are, what is left, and what is happening or wrong."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from ml_backend.loop.now import now
from ml_backend.loop.overview import USUAL
from ml_backend.store.overviews import Moment, Overview
from ml_backend.web.lead import charts
from ml_backend.web.lead.page import Seen


def look(seen: Seen) -> str:
    """Render the view."""
    overview = seen.overview
    return seen.render(
        "standing.html",
        now=now(seen.services, seen.project, seen.health.known(reasons=True)),
        k_max=seen.settings.k_max,
        usual=USUAL,
        left=_left(overview.history) if overview else None,
        sure=_sure(overview) if overview else None,
    )


def _left(history: Sequence[Moment]) -> Markup | None:
    """Draw the answers left until a finish: past forecasts, then one fewer with each answer."""
    so_far = tuple((float(one.people), one.answers) for one in history if one.answers is not None)
    if not so_far:
        return None
    people, answers = so_far[-1]
    return charts.curve(
        f"Answers left until a finish: {answers:.0f} after {people:.0f} frames, none after {people + answers:.0f}.",
        "answered frames",
        (("forecast so far", so_far), ("from now on", ((people, answers), (people + answers, 0.0)))),
    )


def _sure(overview: Overview) -> Markup | None:
    """Draw how sure the machine is of the unanswered frames."""
    bins = overview.standing.bins
    if not bins:
        return None
    names = tuple(f"{10 * place} to {10 * place + 10}%" for place in range(len(bins)))
    about = f"The machine is at least 90% sure of {bins[-1]} of {sum(bins)} frames."
    return charts.bars(about, names, "frames", bins)
