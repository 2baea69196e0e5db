"""The annotators: how much they answer, how well they agree, and how much the ticks sway them."""

from __future__ import annotations

from ml_backend.web.lead import charts
from ml_backend.web.lead.page import Seen


def look(seen: Seen) -> str:
    """Render the view."""
    overview = seen.overview
    days = None
    if overview and overview.days:
        numbers = overview.days
        about = f"Answers per day, {next(iter(numbers))} to {list(numbers)[-1]}; the table shows the last days."
        days = charts.bars(about, tuple(day[5:] for day in numbers), "answers", tuple(numbers.values()))
    return seen.render("people.html", days=days)
