from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from studies import figures
from studies.plan import STRATEGIES
from tests.studies import made_up


def lines(figure: Figure, panel: int) -> dict[str, Any]:
    return {str(line.get_label()): line for line in figure.axes[panel].get_lines()}


def test_every_set_and_protocol_has_its_figures_and_none_is_blank(tmp_path: Path) -> None:
    paths = figures.write(made_up.study(), tmp_path)
    places = [f"{data}-{protocol}" for data in ("made", "other") for protocol in ("frames", "patients")]
    wanted = {f"{kind}-{place}" for kind in ("accuracy", "by-hand") for place in places}
    assert paths.keys() == wanted | {"reliability-made-patients", "ablation-made-patients"}
    for path in paths.values():
        with Image.open(path) as picture:
            assert np.asarray(picture.convert("L")).std() > 5, path.name


def test_a_study_without_results_has_no_figures(tmp_path: Path) -> None:
    study = made_up.study() | {"runs": [], "calibration": [], "ablation": []}
    assert figures.write(study, tmp_path) == {}


def test_lines_are_told_apart_without_colour() -> None:
    assert set(STRATEGIES) <= figures.STYLES.keys()
    for styles in ([*figures.STYLES.values(), figures.FULL], list(figures.DEFAULTS.values())):
        assert len({style.dashes for style in styles}) == len(styles)
        assert len({style.marker for style in styles}) == len(styles)
    hatches = [hatch for _, hatch in figures.BARS]
    assert len(set(hatches)) == len(hatches)


def test_every_line_is_drawn_in_its_style() -> None:
    drawn = lines(figures.curves(made_up.study(), "made", "frames"), 4)
    assert drawn.keys() == {"random", "MLM", "adaptive", "all labels"}
    assert len({str(line._unscaled_dash_pattern) for line in drawn.values()}) == 4
    for name in ("random", "MLM", "adaptive"):
        style = figures.STYLES[name.lower()]
        assert (drawn[name].get_color(), drawn[name].get_marker()) == (style.colour, style.marker)


def test_a_line_is_the_mean_of_the_seeds_and_its_band_their_deviation() -> None:
    figure = figures.curves(made_up.study(), "made", "frames")
    drawn = lines(figure, 4)
    np.testing.assert_allclose(drawn["MLM"].get_xdata(), [10, 20])
    np.testing.assert_allclose(drawn["MLM"].get_ydata(), [60, 70])
    assert drawn["all labels"].get_ydata() == pytest.approx([90, 90])
    # 0.5 and 0.7 lie 0.1 to both sides of their mean: with n - 1 = 1 the deviation is the root of 0.02.
    band = figure.axes[4].collections[0].get_paths()[0].vertices
    at_first = [float(y) for x, y in np.asarray(band) if x == 10]
    assert min(at_first) == pytest.approx(60 - 100 * math.sqrt(0.02))
    assert max(at_first) == pytest.approx(60 + 100 * math.sqrt(0.02))
    # The area is undefined with seed 1: the mean is of the others.
    np.testing.assert_allclose(lines(figure, 5)["MLM"].get_ydata(), [0.9, 0.9])


def test_a_set_has_panels_for_its_own_symptoms() -> None:
    titles = [axes.get_title() for axes in figures.curves(made_up.study(), "other", "frames").axes]
    assert titles == [*(f"{name}: accuracy (%)" for name in made_up.SYMPTOMS[:3]), "exact match (%)", "macro AUC"]


def test_the_first_batch_is_labelled_by_hand() -> None:
    figure = figures.by_hand(made_up.study(), "made", "frames")
    of_mlm, of_adaptive = lines(figure, 0), lines(figure, 1)
    np.testing.assert_allclose(of_mlm["confidence validation"].get_ydata(), [100, 30])
    np.testing.assert_allclose(of_mlm["by hand only"].get_ydata(), [100, 100])
    assert "what adaptive chose" not in of_mlm
    np.testing.assert_allclose(of_adaptive["what adaptive chose"].get_ydata(), [100, 10])


def test_bins_of_all_seeds_are_put_together_by_their_frames() -> None:
    study = made_up.study()
    study["calibration"].append(study["calibration"][0] | {"seed": 1, "bins_before": [[0.16, 0.5, 15]]})
    drawn = lines(figures.reliability(study, "made", "patients"), 0)["before the temperature"]
    np.testing.assert_allclose(drawn.get_xdata(), [(0.1 * 5 + 0.16 * 15) / 20, 0.9])
    np.testing.assert_allclose(drawn.get_ydata(), [(0.2 * 5 + 0.5 * 15) / 20, 0.7])


def test_bars_are_the_means_and_a_dash_stands_for_what_is_undefined() -> None:
    means, ends, by_hand = figures.ablation(made_up.study(), "made", "patients").axes
    drawn: Any = [means.patches, ends.patches]
    assert [[bar.get_width() for bar in bars] for bars in drawn] == [pytest.approx([60, 60])] * 2
    assert len({bar.get_hatch() for bar in means.patches}) == 2
    assert [text.get_text() for text in by_hand.texts] == ["–", "–"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], (None, None)), ([None], (None, None)), ([0.5, None], (0.5, None)), ([1, 3], (2, math.sqrt(2)))],
)
def test_mean_and_deviation(values: list[float | None], expected: tuple[float | None, float | None]) -> None:
    assert figures.mean_and_deviation(values) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.5, 0.6, None, 0.7], (0.6 - 4.3027 * 0.1 / 3**0.5, 0.6 + 4.3027 * 0.1 / 3**0.5)),  # 2 degrees of freedom
        ([0.55, 0.75], (0.0, 1.0)),  # 12.7 times 0.1 on either side
        ([0.5, None], None),
        ([], None),
    ],
)
def test_the_interval_of_a_mean_over_the_seeds(
    values: list[float | None], expected: tuple[float, float] | None
) -> None:
    found = figures.t_interval(values)
    assert found == (expected if expected is None else pytest.approx(expected, abs=1e-4))
