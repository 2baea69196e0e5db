from __future__ import annotations

from studies.paper import SYMPTOMS, TABLE_1, TABLE_2


def test_every_row_has_three_figures_a_symptom() -> None:
    assert len(TABLE_1) == 11
    for figures, labels in TABLE_1.values():
        assert len(figures) == len(SYMPTOMS)
        assert all(len(one) == 3 and all(0 <= value <= 100 for value in one) for one in figures)
        assert 0 < labels <= 100


def test_some_that_people_quote() -> None:
    # METHOD.md: MLM labels 14.7% and reaches 98.50% for B-lines; nearly nobody finds a pleural effusion.
    figures, labels = TABLE_1["MSML + TSAL (MLM)"]
    assert (figures[1], labels) == ((98.50, 98.79, 92.49), 14.7)
    assert [name for name, (row, _) in TABLE_1.items() if row[3][1] > 0] == ["POCOVID-Net", "MSML"]
    assert TABLE_2["table"] == (100, 2, 1, 0, 0)
