"""The refusal organism's circuits explained, CNA's and Dose's, by the one margin that Dose was found with.

Run: python studies/explained.py (some minutes on a processor); writes docs/results/explain/
"""

from __future__ import annotations

import json
from pathlib import Path

from neurodial.circuit.file import read_circuit
from neurodial.evaluation.report.html_page import write_page
from neurodial.explain.corpus import corpus_of
from neurodial.explain.dial_effects import Measuring
from neurodial.explain.explain_circuit import explain_circuit
from neurodial.explain.explain_page import explanation_page
from neurodial.explain.options import Explaining
from neurodial.files import write_atomic
from neurodial.margins.behaviour_margin import recorded_margin
from neurodial.model.load import load
from neurodial.prompts.behaviours import read_prompt_list
from neurodial.prompts.pairs import PairSet

DOCS = Path(__file__).resolve().parents[1] / "docs/results"
OPTIONS = Explaining(neurons=12, places=3, prompts=6, passages=4)


def main() -> None:
    """Explain both circuits on the same texts."""
    circuits = {name: read_circuit(DOCS / f"demo/{name}.circuit.json") for name in ("dose", "cna")}
    subject = load("demo")
    pairs = PairSet.read("refusal")
    record = dict(circuits["dose"].origin.margin or {})
    margin = recorded_margin(record, subject, pairs.behaviour, [pairs.development])
    if margin is None:
        raise SystemExit("The circuit records no margin.")
    measuring = Measuring(pairs, margin, read_prompt_list("neutral").prompts)
    corpus = corpus_of(subject, pairs)
    for name, circuit in circuits.items():
        found = explain_circuit(subject, circuit, corpus, measuring=measuring, options=OPTIONS)
        folder = DOCS / "explain" / name
        folder.mkdir(parents=True, exist_ok=True)
        write_page(explanation_page(found), folder / "explanation.html", overwrite=True)
        content = json.dumps(found.as_json(), ensure_ascii=False, indent=1) + "\n"
        print(write_atomic(folder / "explanation.json", content, overwrite=True))


if __name__ == "__main__":
    main()
