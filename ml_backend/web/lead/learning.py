"""The learning curve: the accuracy of each version, what people corrected, and the reasons for each batch."""

from __future__ import annotations

from collections import Counter

from ml_backend.web.lead import charts
from ml_backend.web.lead.page import Seen


def look(seen: Seen) -> str:
    """Render the view."""
    overview = seen.overview
    versions = overview.versions if overview else ()
    if overview is None or not versions:
        return seen.render("learning.html", curve=None, corrected=None, reasons=())
    numbers = tuple(str(one.number) for one in versions)
    curve = charts.measures(
        f"Share right, versions {numbers[0]} to {numbers[-1]}; the table gives the figures.",
        numbers,
        (
            ("network, on held-out patients", tuple(one.exact_match for one in versions)),
            ("ticks, on the audit", tuple(one.stood for one in versions)),
        ),
    )
    corrected = charts.bars(
        "Share of each batch that people corrected; the table gives the figures.",
        numbers,
        "corrected, %",
        tuple(100 * (one.corrected or 0.0) for one in versions),
    )
    counted: Counter[str] = Counter()
    for asked in overview.asked:
        counted.update(asked.reasons)
    reasons = [reason for reason, _ in counted.most_common()]
    return seen.render("learning.html", curve=curve, corrected=corrected, reasons=reasons)
