"""The report's table of what helps on new patients, and what does not."""

from __future__ import annotations

from studies.figures import Row, Study
from studies.tables import MINUS, UNDEFINED, Cell, Table

COLUMNS = {
    "auc": "AUC, frames",
    "auc_clips": "AUC, clips",
    "exact": "all right",
    "corrections": "corrections a clip",
    "calibration_error": "calibration error",
    "calibration_floor": "error by chance",
    "sensitivity": "sensitivity",
}


def table(study: Study) -> Table:
    """A row for each data set and way: means over the splits, and the differences from the first way with intervals."""
    heads = [[Cell(text) for text in ("data", "what judges", "splits", *COLUMNS.values())]]
    rows = [
        [Cell(one["data"]), Cell(one["way"]), Cell(str(one["seeds"])), *(Cell(_text(one, name)) for name in COLUMNS)]
        for one in study["new_patients_summary"]
    ]
    caption = (
        "New patients: means over splits by patient. In brackets the difference from the first way on the same splits, "
        "with its 95% interval. Corrections: the share of clips of which a frame taken at random has a wrong tick. "
        "Error by chance: the calibration error that exact probabilities would have with so few clips. "
        "Sensitivity: at 90% specificity."
    )
    return Table("new-patients", caption, heads, rows, words=2, wide=True)


def _text(one: Row, name: str) -> str:
    if one[name] is None:
        return UNDEFINED
    apart = one["against"][name]
    text = f"{one[name]:.3f}"
    if apart is None or apart == (0, 0, 0):
        return text
    mean, low, high = (f"{value:+.3f}".replace("-", MINUS) for value in apart)
    return f"{text} ({mean}, {low} to {high})"
