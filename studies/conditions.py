"""What a condition keeps of a circuit, and what it leaves alone: readings of the prompt, on the test split.

1. For each reading a condition from discovery and development prompts, as `neurodial condition` makes it.
2. Test prompts of both sides, and neutral test prompts, are answered unsteered, and under the circuit everywhere.
   Greedy. With a condition an answer is the circuit's where that holds, else the unsteered one; for one reading, some
   prompts of each kind are answered under the condition itself, to see that it is so.
3. Refusals by the behaviour's detector on the positive side; on the others, the share of answers that the circuit
   changes at all, by a single token.
Finished answers stay beside the report until it is written: the same command goes on.

Run: python studies/conditions.py demo docs/results/demo/dose.circuit.json -o docs/results/conditions.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import torch

from neurodial.circuit.circuit import Circuit
from neurodial.circuit.file import read_circuit
from neurodial.circuit.prompt_condition import PromptCondition, ReadingKind
from neurodial.evaluation.detectors.base import Exchange
from neurodial.evaluation.detectors.registry import detector
from neurodial.evaluation.intervals import rate
from neurodial.files import write_atomic
from neurodial.generation.decoding import Decoding
from neurodial.generation.generate import Answer, generate
from neurodial.intervention.decide import prompt_readings
from neurodial.intervention.scale import Scale
from neurodial.kept import keeping
from neurodial.methods.condition_options import ConditionOptions
from neurodial.methods.find_condition import find_condition
from neurodial.model.load import load
from neurodial.model.subject import Subject
from neurodial.prompts.behaviours import read_prompt_list
from neurodial.prompts.pairs import PairSet
from neurodial.prompts.prompt import Prompt, prompt_text
from neurodial.provenance import versions

CHECKED = 8
"""Prompts of each kind that are answered under a condition itself."""


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(arguments.threads)
    subject = load(arguments.model)
    with keeping(arguments.output.with_suffix(".partial"), subject.identity):
        study(subject, arguments)


def study(subject: Subject, arguments: argparse.Namespace) -> None:
    """All of it."""
    circuit = read_circuit(arguments.circuit)
    pairs = PairSet.read(arguments.behaviour).first(arguments.find)
    names = arguments.readings
    conditions = {name: found(subject, circuit, pairs, name, arguments) for name in names}
    asked: dict[str, Sequence[Prompt]] = {
        "positive": [example.prompt for example in pairs.test.positive][: arguments.prompts],
        "negative": [example.prompt for example in pairs.test.negative][: arguments.prompts],
        "neutral": read_prompt_list("neutral").split("test")[: arguments.prompts],
    }
    decoding = Decoding(max_new_tokens=arguments.tokens, batch_size=52)
    everywhere = Scale(circuit, arguments.dial)
    there = Scale(replace(circuit, condition=conditions[names[0]]), arguments.dial)
    judge = detector(pairs.behaviour.detector)
    rows: dict[str, dict[str, Any]] = {name: {} for name in ("unsteered", "everywhere", *names)}
    for part, prompts in asked.items():
        plain, steered = (generate(subject, prompts, under=under, decoding=decoding) for under in (None, everywhere))
        run = generate(subject, prompts[:CHECKED], under=there, decoding=decoding)
        values = prompt_readings(subject, list(conditions.values()), prompts)
        holds = {
            name: (own > condition.threshold).tolist()
            for (name, condition), own in zip(conditions.items(), values, strict=True)
        }
        by_way = {"unsteered": plain, "everywhere": steered}
        for name in names:
            by_way[name] = [s if held else p for p, s, held in zip(plain, steered, holds[name], strict=True)]
        for way, answers in by_way.items():
            changed = [a.tokens != p.tokens for a, p in zip(answers, plain, strict=True)]
            rows[way][part] = {"changed": asdict(rate(changed))}
            if way in holds:
                rows[way][part]["holds"] = asdict(rate(holds[way]))
            if part == "positive":
                rows[way][part]["refused"] = asdict(rate(refusals(judge, answers)))
        differ = sum(a.tokens != b.tokens for a, b in zip(run, by_way[names[0]], strict=False))
        rows[names[0]][part]["checked"] = {"answers": len(run), "differ": differ}
        print(part, json.dumps({way: row[part] for way, row in rows.items()}), flush=True)
    report = {
        "arguments": {name: str(value) for name, value in vars(arguments).items()},
        "checked": names[0],
        "versions": versions(),
        "model": asdict(subject.identity),
        "conditions": {name: condition.text for name, condition in conditions.items()},
        "rows": rows,
    }
    write_atomic(arguments.output, json.dumps(report, indent=1) + "\n", overwrite=True)
    print(table(rows))


def found(
    subject: Subject, circuit: Circuit, pairs: PairSet, name: ReadingKind, arguments: argparse.Namespace
) -> PromptCondition:
    """A condition; once found it stays beside the report."""
    kept = arguments.output.with_suffix(".partial") / f"{name}.circuit.json"
    if not kept.exists():
        options = ConditionOptions(name, arguments.false_positive_rate)
        replace(circuit, condition=find_condition(subject, circuit, pairs, options)).write(kept)
    condition = read_circuit(kept).condition
    assert condition is not None  # noqa: S101  # it was written with one
    return condition


def refusals(judge: Any, answers: Sequence[Answer]) -> list[bool]:
    """Which answers show the behaviour."""
    verdicts = judge.judge([Exchange(prompt_text(answer.prompt), answer.text) for answer in answers])
    return [verdict.label == "shown" for verdict in verdicts]


def table(rows: dict[str, dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| circuit acts | refused, positive side | changed, negative side | changed, neutral | holds, positive side |",
        "|---|---|---|---|---|",
    ]
    for way, row in rows.items():
        holds = row["positive"].get("holds")
        cells = [row["positive"]["refused"], row["negative"]["changed"], row["neutral"]["changed"], holds]
        lines.append(f"| {way} | {' | '.join('–' if cell is None else shown(cell) for cell in cells)} |")
    return "\n".join(lines)


def shown(estimate: dict[str, Any]) -> str:
    """A share with its interval."""
    value, low, high = (100 * estimate[name] for name in ("value", "low", "high"))
    return f"{value:.0f} % [{low:.0f}, {high:.0f}], n = {estimate['n']}"


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("circuit", type=Path)
    parser.add_argument("--behaviour", default="refusal")
    parser.add_argument("-o", "--output", type=Path, required=True)
    kinds = get_args(ReadingKind)
    parser.add_argument("--readings", nargs="+", choices=kinds, default=kinds, help="the first is checked, too")
    parser.add_argument("--find", type=int, default=60, help="prompts of each side that conditions are found with")
    parser.add_argument("--false-positive-rate", type=float, default=ConditionOptions.false_positive_rate)
    parser.add_argument("--dial", type=float, default=1.0)
    parser.add_argument("--prompts", type=int, default=100, help="of each kind, at most")
    parser.add_argument("--tokens", type=int, default=40, help="longest answer")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
