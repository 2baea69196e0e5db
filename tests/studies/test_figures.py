from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studies import figures
from studies.plan import STRATEGIES
from tests.studies import made_up


def test_every_set_and_protocol_has_its_figures_and_none_is_blank(tmp_path: Path) -> None:
    paths = figures.write(made_up.study(), tmp_path)
    places = [f"{data}-{protocol}" for data in ("made", "other") for protocol in ("frames", "patients")]
    wanted = {f"curves-{place}" for place in places} | {f"manual-{place}" for place in places}
    assert paths.keys() == wanted | {"calibration-made-patients", "ablation-made"}
    for path in paths.values():
        with Image.open(path) as picture:
            assert np.asarray(picture.convert("L")).std() > 5, path.name


def test_lines_are_told_apart_without_colour() -> None:
    assert figures.STYLES.keys() == set(STRATEGIES)
    for styles in (figures.STYLES, figures.VALIDATORS):
        assert len({str(style.line) for style in styles.values()}) == len(styles)
        assert len({style.marker for style in styles.values()}) == len(styles)
        assert len({style.colour for style in styles.values()}) == len(styles)


def test_a_line_is_the_mean_over_the_seeds_and_the_dashes_are_all_labels() -> None:
    study = made_up.study()
    runs = [run for run in study["runs"] if (run["data"], run["protocol"]) == ("made", "frames")]
    figure = figures.curves(runs, study["full"][:1])
    panel = figure.axes[0]
    lines = {line.get_label(): line for line in panel.get_lines()}
    np.testing.assert_allclose(lines["mlm"].get_xdata(), [10, 20])
    np.testing.assert_allclose(lines["mlm"].get_ydata(), [0.6, 0.7])
    assert lines["all labels"].get_ydata() == pytest.approx([0.9, 0.9])
    assert lines.keys() == {"random", "mlm", "adaptive", "all labels"}
    # The area is undefined with seed 1: the mean is of the others.
    area = {line.get_label(): line for line in figure.axes[1].get_lines()}
    np.testing.assert_allclose(area["mlm"].get_ydata(), [0.9, 0.9])
    assert [one.get_title() for one in figure.axes[2:6]] == [f"accuracy, {name}" for name in made_up.SYMPTOMS]


def test_the_first_batch_is_labelled_by_hand() -> None:
    study = made_up.study()
    runs = [run for run in study["runs"] if (run["data"], run["protocol"]) == ("made", "frames")]
    lines = {line.get_label(): line for line in figures.manual(runs).axes[0].get_lines()}
    np.testing.assert_allclose(lines["table"].get_ydata(), [1.0, 0.3])
    assert "chosen" not in lines  # MLM alone chooses nothing
