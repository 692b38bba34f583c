"""Gathers how often the detectors err into the file that ships: `python -m scripts.detector_errors`.

From the figures of `docs/results/detectors`: `leave-one-out.json` (`scripts/train_refusal.py` writes it), `check.json`
and `behaviours.json` (`neurodial detectors check`; the page beside them has the commands). A test compares the two.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "docs/results/detectors"
SHIPPED = ROOT / "src/neurodial/evaluation/data/detector_errors.json"
PEOPLE = "answers of {models} models that people labelled (XSTest's completions)"
TOGETHER = "all files together"


def gathered() -> dict[str, dict[str, Any]]:
    """By detector: what it was measured on, and kappa for each way to count partial answers that makes a difference."""
    left_out, checks, behaviours = (
        json.loads((FIGURES / f"{name}.json").read_text("utf-8")) for name in ("leave-one-out", "check", "behaviours")
    )
    models = PEOPLE.format(models=len(left_out["left_out"]))
    answers = f"{models}, each judged by weights found without that model's answers"
    found = {"refusal": _error(answers, left_out["pooled"]["n"], left_out["pooled"]["kappa"])}
    found["refusal"]["calibration_error"] = left_out["calibration"]["expected_calibration_error"]
    for row in checks:  # of `refusal` these are a fit, since its weights were found on the same answers
        if row["file"] == TOGETHER and row["detector"] != "refusal":
            found[row["detector"]] = _error(models, row["answers"], row["kappas"])
    for row in behaviours:
        written = "answers written by hand to show the behaviour or not (our own test answers)"
        found[row["detector"]] = _error(written, row["answers"], row["kappas"])
    return dict(sorted(found.items()))


def _error(answers: str, count: int, kappas: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    rounded = {way: {k: round(kappas[way][k], 4) for k in ("value", "low", "high")} for way in kappas}
    same = all(value == rounded["left out"] for value in rounded.values())
    return {"answers": answers, "n": count, "kappa": {"left out": rounded["left out"]} if same else rounded}


def main() -> None:
    """Write the file that ships."""
    SHIPPED.write_text(json.dumps(gathered(), indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
