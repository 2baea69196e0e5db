from __future__ import annotations

import json
from pathlib import Path

import pytest

from ml_backend.errors import SettingsError
from studies import pool, study
from studies.judges import judges
from studies.simulation import Way
from tests.studies.clips import HEADER, write_clips


def test_every_row_of_table_1_runs_and_nothing_is_done_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With random weights, which every row says: ImageNet's cannot be downloaded everywhere."""
    data = write_clips(tmp_path / "made", 40, HEADER.replace("pleural_lesion", "pleural_effusion"))
    arguments = [str(data), "--quick", "--compare", "random", "--output", str(tmp_path / "out"), "--workers", "1"]
    assert study.main(arguments) == 0
    content = json.loads((tmp_path / "out" / "study.json").read_text())
    methods = {row["method"]: row["weights"] for row in content["methods"]}
    assert methods == dict.fromkeys(["VGG16", "ResNet34", "ResNet50", "ResNet101", "POCOVID-Net"], "random weights") | {
        "NNBD-style": "trained from scratch"
    }
    assert {(row["protocol"], row["strategy"]) for row in content["summary"]} == {
        (protocol, strategy)
        for protocol in ("frames", "patients")
        for strategy in ("random", "mle", "lc", "mlm", "mlm-diverse", "adaptive", "cover", "cover-memory")
    } | {("pool", strategy) for strategy in pool.STRATEGIES}
    assert (tmp_path / "out" / "figures" / "decisions.png").exists()
    required = {"mean_exact", "final_exact", "full_data_exact", "label_share_to_reach_mlm_final"}
    required |= {"effusion_sensitivity_at_20", "manual_share_plain", "manual_share_validated"}
    pools = [row for row in content["summary"] if row["protocol"] == "pool"]
    others = [row for row in content["summary"] if row["protocol"] != "pool"]
    assert all(required <= row.keys() for row in others)
    required = {"clips", "pool_accuracy", "decisions_to_95", "decisions_to_97", "decisions_to_99", "calibration_error"}
    required |= {"corrections_per_frame", "certificate_decisions", "certificate_wrong"}
    assert all(required <= row.keys() for row in pools)
    assert {row["part"] for row in content["ablation"]} == {
        *("augmentation", "starting point", "training set", "trained layers", "confidence validation", "rule (9)")
    }
    assert {row["variant"] for row in content["rare"]} == {"plain loss", "positive weights"}
    assert len(content["maps"]) == 6
    assert {row["clips"] for row in pools} == {"known", "hidden", "sweeps"}
    assert all(row["manual_share_validated"] is not None for row in others), "a round without ticks"
    without_memory = [row for row in others if not row["strategy"].startswith("cover")]
    assert all(row["manual_share_plain"] is not None for row in without_memory)
    assert not [one["name"] for one in content["targets"] if "manual share" in one["name"] and one["value"] is None]
    assert (content["data"][0]["clips"], content["preset"], content["not_run"]) == (10, "quick", [])
    assert {row["way"] for row in content["new_patients"]} == judges(Way()).keys()
    assert [row["seeds"] for row in content["new_patients_summary"]] == [1] * len(judges(Way()))
    assert "report: " in capsys.readouterr().out
    report = (tmp_path / "out" / "report.html").read_text()
    assert report.count("random weights") >= 2 * 5  # five networks, two protocols

    monkeypatch.setattr("studies.work._do", lambda part: pytest.fail(f"{part} is done again"))
    assert study.main(arguments) == 0
    assert json.loads((tmp_path / "out" / "study.json").read_text())["runs"] == content["runs"]


def test_networks_that_would_be_downloaded_are_named_as_not_run() -> None:
    compared, not_run = study._compared("scratch")
    assert compared == (("NNBD-style", None),)
    assert [row["method"] for row in not_run] == ["VGG16", "ResNet34", "ResNet50", "ResNet101", "POCOVID-Net"]
    assert all(row["reason"] for row in not_run)


def test_a_folder_without_clips_and_two_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"has no clips\.csv"):
        study.main([str(tmp_path)])
    for place in ("a", "b"):
        write_clips(tmp_path / place / "made", 1)
    with pytest.raises(SettingsError, match="the same name"):
        study.main([str(tmp_path / "a" / "made"), str(tmp_path / "b" / "made")])


def test_only_the_parts_of_a_kind_are_done(tmp_path: Path) -> None:
    data = write_clips(tmp_path / "made", 40)
    arguments = [str(data), "--quick", "--kind", "new patients", "--output", str(tmp_path / "out"), "--workers", "1"]
    assert study.main([*arguments, "--seeds", "3-4"]) == 0
    content = json.loads((tmp_path / "out" / "study.json").read_text())
    assert {row["seed"] for row in content["new_patients"]} == {3, 4}
    assert (content["runs"], content["pool"]) == ([], [])
    assert "What helps on new patients" in (tmp_path / "out" / "report.html").read_text()
