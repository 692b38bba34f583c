"""MMLU against the dial: what each way of taking refusals away costs on the benchmark that the method was shown with.

One run: circuits and other methods, every dial on the same questions and the same requests. Rows stay in the folder, so
an interrupted run goes on; report.json and the plots hold figures alone.

Run: python studies/mmlu.py demo cna=docs/results/demo/cna.circuit.json --data FOLDER -o docs/results/mmlu
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from neurodial.cli.model_options import ModelOptions
from neurodial.cli.options import parse_dials, read_circuits
from neurodial.evaluation.evaluate import evaluate
from neurodial.evaluation.mmlu_run import check_benchmarks
from neurodial.evaluation.options import Evaluation, HarnessOptions
from neurodial.evaluation.report.markdown import markdown_table
from neurodial.evaluation.report.plots import Series, lines
from neurodial.evaluation.results import Report, read_report, report_json
from neurodial.files import write_atomic
from neurodial.generation.decoding import Decoding
from neurodial.intervention.scale import Scale
from neurodial.prompts.behaviours import read_pairs

CHANCE = 0.25
PLOTS = {
    "refusals": ("rate:refusal", "harmful requests refused"),
    "letters": ("mmlu", "MMLU by letters"),
    "texts": ("mmlu_texts", "MMLU by whole answers"),
    "right_letter": ("mmlu_right_letter", "right letter, nats"),
    "right_text": ("mmlu_right_text", "right text, nats per token"),
}
"""Plots by name: the metric and the words of its axis.

Log-probabilities are drawn as paired changes: questions differ far more from each other than under steering.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("circuits", nargs="+", help="name=file of each circuit")
    parser.add_argument("--behaviour", default="refusal")
    parser.add_argument("--data", help="file or folder of the questions, or a Hub id; the Hub's cais/mmlu by default")
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--dials", default="0.25,0.5,0.75,1")
    parser.add_argument("--against", default="caa,caa-published,direction,random")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the random neurons")
    parser.add_argument("--prompts", type=int, help="harmful requests answered; all of the test split by default")
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args(arguments)
    report = run(given)
    write_atomic(given.output / "report.json", report_json(report), overwrite=True)
    for name, (metric, words) in PLOTS.items():
        if metric in report.unsteered.metrics:
            drawn = plot(report, metric, words).replace("<svg ", '<svg color="#1c2430" ', 1)
            write_atomic(given.output / f"{name}.svg", drawn + "\n", overwrite=True)
    print(tables(given.output))


def run(given: argparse.Namespace) -> Report:
    """The report, its settings without the place of the questions on this machine."""
    task = "mmlu" if given.data is None else f"mmlu:{given.data}"
    options = Evaluation(
        decoding=Decoding(max_new_tokens=given.new_tokens, batch_size=52),
        prompts=given.prompts,
        neutral=16,
        over_refusal=0,
        perplexity=0,
        speed=False,
        seeds=tuple(given.seeds),
        harness=HarnessOptions((task,), limit=given.questions, fewshot=given.shots),
    )
    check_benchmarks(options.harness)
    named = read_circuits(given.circuits, 1.0)
    dials = parse_dials(given.dials)
    scales = [Scale(replace(circuit, name=name), dial=dial, force=True) for name, circuit, _ in named for dial in dials]
    subject = ModelOptions(dtype=given.dtype).load(given.model)
    against = tuple(name for name in given.against.split(",") if name)
    report = evaluate(
        subject, scales, read_pairs(given.behaviour), against=against, options=options, folder=given.output
    )
    harness: dict[str, Any] = {**report.settings["harness"], "tasks": ["mmlu"]}
    return replace(report, settings={**report.settings, "harness": harness})


def plot(report: Report, metric: str, words: str) -> str:
    """A metric against the dial, a line for each method, from the unsteered model on."""
    before = report.unsteered.metrics[metric]
    is_share = before.method == "Wilson"
    start = before if is_share else replace(before, value=0.0, low=0.0, high=0.0)
    series = []
    for label, conditions in report.methods().items():
        found = [(0.0, start)]
        found += [
            (a.dial, a.metrics[metric] if is_share else a.differences[metric].estimate)
            for a in conditions
            if metric in a.metrics
        ]
        estimates = [estimate for _, estimate in found]
        columns = ([getattr(e, name) for e in estimates] for name in ("value", "low", "high"))
        series.append(Series(label, tuple(dial for dial, _ in found), *(tuple(column) for column in columns)))
    if metric.startswith("mmlu") and is_share:
        ends = (0.0, max(one.x[-1] for one in series))
        series.append(Series("chance", ends, (CHANCE, CHANCE)))
    return lines(series, x_label="dial", y_label=words, is_share=is_share)


def tables(folder: Path | str) -> str:
    """What the page shows: notes, every number at every dial, and the paired differences; or that there is none yet."""
    path = Path(folder) / "report.json"
    if not path.exists():
        return "This study has not been run yet: `make study-mmlu`."
    report = read_report(path)
    shares, means = ["mmlu", "mmlu_texts", "mmlu_texts_per_character"], ["mmlu_right_letter", "mmlu_right_text"]
    name = path.parent.name
    parts = [
        f"Every figure is from [report.json]({name}/report.json); intervals are at 95 %.",
        "\n\n".join(f"![{words}, against the dial]({name}/{plot}.svg)" for plot, (_, words) in PLOTS.items()),
        "\n".join(f"- {note}" for note in report.notes),
        "## At every dial",
        markdown_table(report, ["rate:refusal", "degenerate", "kl", *shares[:2]]),
        "## Against the unsteered model, on the same questions",
        "Shares: Newcombe's interval for paired rates. Log-probabilities in nats: a bootstrap over the questions.",
        markdown_table(report, [*shares[:2], *means], differences=True),
        "## Changes beyond chance",
        _clear(report),
        "## The other numbers",
        markdown_table(report, [shares[2], *means, "opposite"]),
        "## What was chosen for each method",
        _chosen(report),
    ]
    return "\n\n".join(parts)


def _clear(report: Report) -> str:
    """Sentences for the accuracies whose McNemar test is clear, one for each condition."""
    said = []
    for condition in report.conditions[1:]:
        for name, words in (("mmlu", "by letters"), ("mmlu_texts", "by whole answers")):
            change = condition.differences.get(name)
            if change is not None and change.is_clear:
                who, moved = f"{condition.label} at dial {condition.dial:g}", 100 * change.estimate.value
                said.append(f"- {who}, {words}: {moved:+.1f} points, p = {change.p_value:.2g}.")
    tests = 2 * len(report.conditions[1:])
    lead = f"Of {tests} McNemar tests, {len(said)} have p below 0.05; by chance alone {0.05 * tests:.1f} would."
    return "\n".join([lead, "", *said]).strip()


def _chosen(report: Report) -> str:
    seen = {condition.label: dict(condition.details) for condition in report.conditions if condition.details}
    return "\n".join(f"- {label}: `{json.dumps(details)}`" for label, details in seen.items())


if __name__ == "__main__":
    main()
