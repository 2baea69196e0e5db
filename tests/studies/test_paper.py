from __future__ import annotations

from studies.paper import SYMPTOMS, TABLE_I, TABLE_II


def test_every_row_has_three_figures_a_symptom() -> None:
    assert len(TABLE_I) == 11
    for row in TABLE_I.values():
        assert len(row.figures) == len(SYMPTOMS)
        assert all(len(one) == 3 and all(0 <= value <= 100 for value in one) for one in row.figures)
        assert 0 < row.share <= 100


def test_figures_that_people_quote() -> None:
    # MLM labels 14.7% and reaches 98.50% for B-lines; nearly nobody finds a pleural effusion.
    assert (TABLE_I["mlm"].figures[1], TABLE_I["mlm"].share) == ((98.50, 98.79, 92.49), 14.7)
    assert [name for name, row in TABLE_I.items() if row.figures[3][1] > 0] == ["POCOVID-Net", "MSML"]
    assert TABLE_II["plain"] == (100, 29, 11, 5, 1)
    assert TABLE_II["table"] == (100, 2, 1, 0, 0)
