"""A small study that nobody ran, for tests of its report: figures chosen so that means are easy to work out."""

from __future__ import annotations

import copy
from typing import Any

SYMPTOMS = ("A-line", "B-line", "Pleural lesion", "Pleural effusion")


def figures(symptoms: tuple[str, ...], accuracy: float) -> dict[str, dict[str, float | None]]:
    return {one: {"accuracy": accuracy, "sensitivity": None, "specificity": accuracy / 2} for one in symptoms}


def run(data: str, protocol: str, strategy: str, seed: int) -> dict[str, Any]:
    """Two rounds; exact match 0.5 then 0.6 with seed 0, 0.7 then 0.8 with seed 1."""
    symptoms = SYMPTOMS if data == "made" else SYMPTOMS[:3]
    rounds = []
    for place in range(2):
        exact = 0.5 + 0.2 * seed + 0.1 * place
        shares = {
            "plain": 0.4,
            "table": 0.2 + 0.2 * seed,
            "strengths": 0.1,
            "table without rule (9)": 0.3,
            "chosen": 0.1,
        }
        rounds.append(
            {"labelled": 10 + 10 * place, "share": 0.1 + 0.1 * place, "exact": exact, "auc": None if seed else 0.9}
            | {"symptoms": figures(symptoms, exact), "manual": shares if place else None}
            | {"strategy": strategy, "validator": "table" if place else None, "reason": ""}
        )
    return {"data": data, "protocol": protocol, "strategy": strategy, "seed": seed, "weights": "ImageNet"} | {
        "rounds": rounds
    }


NEW_PATIENTS_MEASURES = (
    "auc",
    "auc_clips",
    "exact",
    "corrections",
    "calibration_error",
    "calibration_floor",
    "sensitivity",
)


def study() -> dict[str, Any]:
    places = [(data, protocol) for data in ("made", "other") for protocol in ("frames", "patients")]
    strategies = ("random", "mlm", "adaptive")
    result = {
        "created_at": "2026-01-01",
        "seconds": 3600.0,
        "seconds_of_parts": 7200.0,
        "command": "python scripts/study.py <made>",
        "preset": "default",
        "settings": {"seeds": "(0, 1)", "backbone": "efficientnet_lite0"},
        "versions": {"torch": "2.0"},
        "machine": {"cores": 2, "platform": "made up"},
        "data": [
            {"name": name, "clips": 4, "patients": 3, "frames": 100, "every_seconds": 0.25, "k_max": 10, "rounds": 2}
            | {"symptoms": symptoms, "positives": dict.fromkeys(symptoms, 20), "unreadable": []}
            for name, symptoms in (("made", SYMPTOMS), ("other", SYMPTOMS[:3]))
        ],
        "runs": [run(*place, strategy, seed) for place in places for strategy in strategies for seed in (0, 1)],
        "full": [
            {
                "data": data,
                "protocol": protocol,
                "seed": 0,
                "method": "MSML",
                "weights": "ImageNet",
                "exact": 0.9 if protocol == "frames" else 0.4,
                "auc": 0.9,
                "symptoms": figures(SYMPTOMS if data == "made" else SYMPTOMS[:3], 0.9),
            }
            for data, protocol in places
        ],
        "methods": [
            {"data": "made", "protocol": "frames", "seed": 0, "method": "NNBD-style", "weights": "trained from scratch"}
            | {"exact": 0.3, "auc": None, "share": 1.0, "symptoms": figures(SYMPTOMS, 0.3)}
        ],
        "not_run": [{"method": "VGG16", "reason": "no weights & no internet"}],
        "ablation": [
            {"data": "made", "protocol": "patients", "seed": seed, "part": "augmentation", "variant": variant}
            | {"mean_exact": 0.5 + 0.2 * seed, "final_exact": 0.6, "manual_share": None}
            for variant in ("on", "off")
            for seed in (0, 1)
        ],
        "rare": [
            {"data": "made", "protocol": "patients", "seed": 0, "variant": "positive weights", "exact": 0.25}
            | {"symptoms": figures(SYMPTOMS, 0.5)}
        ],
        "calibration": [
            {"data": "made", "protocol": "patients", "seed": 0, "symptom": symptom, "temperature": 1.5}
            | {"ece_before": 0.2, "ece_after": 0.1, "bins_before": [[0.1, 0.2, 5], [0.9, 0.7, 5]]}
            | {"bins_after": [[0.2, 0.2, 5], [0.8, 0.7, 5]]}
            for symptom in SYMPTOMS
        ],
        "maps": [],
        "new_patients_summary": [
            {"data": "made", "way": way, "seeds": 20, "sensitivity": None}
            | dict.fromkeys(
                ("auc", "auc_clips", "exact", "corrections", "calibration_error", "calibration_floor"), value
            )
            | {"against": dict.fromkeys(NEW_PATIENTS_MEASURES, apart)}
            for way, value, apart in (("tail", 0.7, (0.0, 0.0, 0.0)), ("heads", 0.65, (-0.05, -0.07, 0.01)))
        ],
        "decisions": {"strategy": "mlm < adaptive & random"},
        "targets": [
            {"name": "reached", "value": 0.1, "bar": 0.08, "direction": "at least", "holds": True, "reason": ""},
            {
                "name": "missed",
                "value": None,
                "bar": 0.08,
                "direction": "at most",
                "holds": False,
                "reason": "few <clips>",
            },
        ],
        "summary": [
            {
                "data": "made",
                "protocol": "frames",
                "strategy": "mlm",
                "seeds": 2,
                "mean_exact": 0.65,
                "final_exact": 0.7,
            }
            | {"full_data_exact": 0.9, "label_share_to_reach_mlm_final": None, "final_share": 0.2}
            | {"effusion_sensitivity_at_20": None, "manual_share_plain": 0.4, "manual_share_validated": 0.3}
            | {"manual_audit_plain": 0.5, "manual_audit_validated": None}
            | {"intervals": {"mean_exact": [0.6, 0.7], "final_exact": None}}
        ],
    }
    return copy.deepcopy(result)
