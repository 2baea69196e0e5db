from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from studies import figures, report, tables
from tests.studies import made_up


class Reader(HTMLParser):
    """Collects tables by their id as rows of cells, all text, all addresses and all tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.text, self.addresses, self.tags = "", list[str](), set[str]()
        self._table = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        known = dict(attributes)
        self.tags.add(tag)
        self.addresses += [known[name] or "" for name in ("src", "href") if name in known]
        if tag == "table":
            self._table = known["id"] or ""
            self.tables[self._table] = []
        elif tag == "tr":
            self.tables[self._table].append([])
        elif tag in ("td", "th"):
            self.tables[self._table][-1].append("")
        elif tag == "span":
            self.tables[self._table][-1][-1] += "|"

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._table and self.tables[self._table] and self.tables[self._table][-1]:
            self.tables[self._table][-1][-1] += data

    def handle_endtag(self, tag: str) -> None:
        self._table = "" if tag == "table" else self._table

    def row(self, table: str, *first: str) -> list[str]:
        rows = [row for row in self.tables[table] if row[: len(first)] == list(first)]
        assert len(rows) == 1, (first, self.tables[table])
        return [cell.strip() for cell in rows[0][len(first) :]]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    study = made_up.study()
    (folder / "figures").mkdir()
    Image.new("RGB", (40, 40), (255, 0, 255)).save(folder / "figures" / "map.png")
    found = {"data": "made", "place": "most informative", "rank": 1, "clip": "<script>a</script>", "time": 2.04}
    study["maps"] = [
        found | {"symptoms": {}, "margin": 0.0124, "truth": ["B-line"], "figure": "figures/map.png"},
        found | {"symptoms": {}, "margin": 0.5, "truth": [], "figure": "figures/lost.png"},
    ]
    study["data"][0]["unreadable"] = ["a&b.mp4: not a video"]
    figures.write(study, folder)
    return report.write(study, folder)


@pytest.fixture(scope="module")
def read(page: Path) -> Reader:
    return Reader(page.read_text(encoding="utf-8"))


def test_table_i_shows_mean_and_deviation_and_the_papers_number(read: Reader) -> None:
    # Final rounds 0.6 and 0.8: mean 70%, deviation (n - 1) 14.1; specificity is half of it; sensitivity is undefined.
    cells = read.row("table-1-made-frames", "MSML + TSAL (MLM)")
    assert cells[:4] == ["ImageNet", "70.0±14.1|100", "–|92.38", "35.0±7.1|100"]
    assert cells[4:7] == ["70.0±14.1|98.5", "–|98.79", "35.0±7.1|92.49"]
    assert cells[-3:] == ["70.0±14.1", "0.900", "20.0|14.7"]
    assert read.row("table-1-made-frames", "MSML + TSAL (adaptive)")[1] == "70.0±14.1"
    assert read.row("table-1-made-frames", "NNBD-style")[:2] == ["trained from scratch", "30.0|100"]
    assert read.row("table-1-made-frames", "MSML")[-1] == "100.0|100"
    assert "over the seeds 0, 1." in read.text


def test_a_set_has_columns_for_its_own_symptoms(read: Reader) -> None:
    assert read.tables["table-1-made-frames"][0][2:6] == list(made_up.SYMPTOMS)
    assert read.tables["table-1-other-frames"][0][2:5] == list(made_up.SYMPTOMS[:3])
    assert len(read.row("table-1-other-frames", "MSML")) == 1 + 3 * 3 + 3


def test_a_row_that_was_not_run_says_why(read: Reader) -> None:
    assert read.row("table-1-made-frames", "VGG16")[:2] == ["not run", "–|100"]
    assert "Not run: VGG16: no weights & no internet." in read.text
    assert "ResNet34" in read.text.split("it was not part of this study")[0]


def test_table_ii_by_iteration(read: Reader) -> None:
    # By hand first, then 0.2 and 0.4.
    assert read.row("table-2-made-frames", "MLM", "confidence validation") == ["100|100", "30|2", "30.0±14.1"]
    assert read.row("table-2-made-frames", "MLM", "plain pseudo-labels")[:2] == ["100|100", "40|29"]
    assert read.row("table-2-made-frames", "adaptive", "what adaptive chose") == ["100", "10", "10.0±0.0"]
    assert read.row("choices", "made", "frames") == ["adaptive 2", "table 2"]


def test_the_summary_and_both_protocols(read: Reader) -> None:
    # Means over the rounds 0.55 and 0.75.
    wanted = ["2", "65.0 (60.0 to 70.0)", "70.0", "90.0", "20.0", "–", "–", "40.0", "30.0", "50.0", "–"]
    assert read.row("summary", "made", "frames", "MLM") == wanted
    assert read.row("protocols", "made", "MSML, all labels")[:3] == ["90.0", "40.0", "50.0"]
    assert "in 90.0% of the test frames when frames are divided at random" in read.text
    assert "a difference of 50.0 points" in read.text
    assert "leaks near-duplicates of training frames into the test" in " ".join(read.text.split())


def test_the_summary_names_reached_and_missed_targets(page: Path, read: Reader) -> None:
    assert read.row("targets", "reached") == ["10.0", "at least 8.0", "reached", ""]
    assert read.row("targets", "missed") == ["–", "at most 8.0", "MISSED", "few <clips>"]
    assert "1 of 2 targets were reached." in read.text
    assert page.read_text(encoding="utf-8").count(' missed">MISSED<') == 1  # in bold


def summary_row(strategy: str, mean: float, reached: float | None) -> dict[str, Any]:
    figures = {"mean_exact": mean, "final_exact": mean + 0.1, "full_data_exact": 0.9}
    return {
        "data": "made",
        "protocol": "frames",
        "strategy": strategy,
        "label_share_to_reach_mlm_final": reached,
    } | figures


def test_the_answer_in_words() -> None:
    study = made_up.study()
    for run in study["runs"]:
        if run["strategy"] == "adaptive" and run["seed"] == 1:
            run["rounds"] = [row | {"exact": row["exact"] + 0.1} for row in run["rounds"]]
    rows = [summary_row("random", 0.5, None), summary_row("mlm", 0.4, 0.2), summary_row("adaptive", 0.6, 0.1)]
    assert report.answers(study | {"summary": rows}) == [
        (
            "made, frames",
            "Choosing by adaptive does best: on average over the rounds every symptom is right in 60.0% of the test "
            "frames, against 40.0% with MLM and 50.0% with random. It is ahead of random with 1 of 2 seeds. "
            "The next best strategy is 10.0 points behind, and seeds of one strategy differ by 21.2: which of the two "
            "is better cannot be told. It comes where MLM ends with 10.0% of the labels; MLM needs 20.0%. After the "
            "last batch adaptive is best with 70.0%; training on all labels gives 90.0%.",
        )
    ]


def test_the_answer_where_nothing_beats_chance_and_where_nothing_is_known() -> None:
    rows = [summary_row("random", 0.5, 0.1), summary_row("mlm", 0.4, 0.1)]
    (found,) = report.answers(made_up.study() | {"summary": rows})
    assert found[1].startswith(
        "No choice of frames does better than chance: on average over the rounds every symptom is right in 50.0% of "
        "the test frames, against 40.0% with MLM. The next best strategy is 10.0 points behind, and seeds of one "
        "strategy differ by 14.1: which of the two is better cannot be told. After the last batch random is best"
    )
    undefined = [row | {"mean_exact": None} for row in rows]
    assert report.answers(made_up.study() | {"summary": undefined}) == []


@pytest.mark.parametrize(("share", "shown"), [(None, "–"), (0.123, "12.3"), (-0.05, "−5.0")])
def test_percent(share: float | None, shown: str) -> None:
    assert tables.percent(share) == shown


def test_the_other_sections(read: Reader) -> None:
    assert read.row("ablation", "augmentation", "on", "made", "patients") == ["60.0±14.1", "60.0±0.0", "–"]
    assert read.row("rare", "made", "patients", "positive weights")[-1] == "25.0"
    assert read.row("calibration", "made", "patients", "B-line") == ["1.50", "0.200", "0.100"]
    assert read.row("settings", "version", "torch") == ["2.0"]
    assert "margin 0.012; the experts’ label: B-line." in read.text
    assert "The figure figures/lost.png is missing." in read.text


def test_all_text_is_escaped(page: Path, read: Reader) -> None:
    assert "script" not in read.tags
    assert "&lt;script&gt;a&lt;/script&gt;" in page.read_text(encoding="utf-8")
    assert "python scripts/study.py <made>" in read.text
    assert "a&b.mp4: not a video" in read.text


def test_nothing_lies_outside_the_page(page: Path, read: Reader) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(read.addresses) == 4 + 4 + 1 + 1 + 1  # accuracy, by hand, reliability, ablation, map
    assert all(address.startswith("data:image/png;base64,") for address in read.addresses)
    assert not re.search(r"url\(|@import|<link|https?://", text)
    assert "default-src 'none'" in text


def test_parts_that_were_not_run_are_named(tmp_path: Path) -> None:
    lists = ("runs", "full", "methods", "not_run", "ablation", "rare", "calibration", "maps", "targets", "summary")
    study = made_up.study() | {name: [] for name in lists} | {"decisions": {}}
    figures.write(study, tmp_path)
    text = Reader(report.write(study, tmp_path).read_text(encoding="utf-8")).text
    # targets, summary, protocols, both tables, choices, curves, maps, ablation, rare, calibration
    assert text.count("Not run.") == 11


def test_it_opens_in_a_browser_without_a_network(page: Path, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium to open the report with")
    subprocess.run(
        [
            *(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-background-networking", "--proxy-server=127.0.0.1:9", "--window-size=1200,16000"),
            *(f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={tmp_path / 'page.png'}", page.as_uri()),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    with Image.open(tmp_path / "page.png") as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24) or []}
    assert (255, 0, 255) in colours  # the map, which is of this one colour


def test_new_patients_have_means_and_differences(page: Path) -> None:
    reader = Reader(page.read_text())
    first, second = (reader.row("new-patients", "made", way) for way in ("tail", "heads"))
    assert first == ["20", *["0.700"] * 6, "–"]
    assert second == ["20", *["0.650 (−0.050, −0.070 to +0.010)"] * 6, "–"]
