"""The demonstration as a page and as JSON."""

from __future__ import annotations

import dataclasses
import json

from neurodial.circuit.circuit import Circuit
from neurodial.evaluation.demonstration import Demonstration, Side, findings
from neurodial.evaluation.report.page import Column, Figure, Page, Section, Shown, SideBySide, Table
from neurodial.evaluation.report.plots import Series, lines
from neurodial.evaluation.statistics import Estimate
from neurodial.prompts.pairs import prompt_text
from neurodial.provenance import describe

FORMAT = "neurodial.demo"
_EXAMPLES = 8


def demonstration_json(shown: Demonstration) -> str:
    """All figures of the demonstration, with what makes them again; no answers."""
    origin = shown.circuit.origin
    value = {
        "format": FORMAT,
        "version": 1,
        "created": origin.created,
        "versions": dict(origin.versions),
        "model": None if origin.model is None else dataclasses.asdict(origin.model),
        "profile": describe(shown.profile),
        "prompts": dict(origin.prompts),
        "split": "test",
        "method": dict(origin.method),
        "universal": origin.universal,
        "neurons": len(shown.circuit),
        "stability": None if shown.circuit.stability is None else shown.circuit.stability.mean,
        "findings": findings(shown),
        "sides": [_side_json(side) for side in shown.sides],
    }
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"


def demonstration_page(shown: Demonstration) -> Page:
    """The demonstration as a page; harmful prompts' answers are marked, so that the writer leaves them out."""
    return Page(
        title="neurodial: the refusal circuit of a small model",
        lead=tuple(findings(shown)),
        sections=(
            Section("What the dial does", tables=(_rates(shown),), figures=(_figure(shown),)),
            Section(
                "Answers side by side",
                text=("Held-out prompts that the circuit was not found with. Greedy answers, cut at their length.",),
                answers=tuple(_examples(shown, harmful=False)) + tuple(_examples(shown, harmful=True)),
            ),
            Section("The circuit", tables=(_neurons(shown.circuit),), folded=True),
        ),
        provenance=_provenance(shown),
    )


def _rates(shown: Demonstration) -> Table:
    columns = (
        Column("intervention", "Dial 0 is the unsteered model; at dial d each neuron is multiplied by 1 - d."),
        Column(
            "refused, harmful",
            "Share of held-out harmful prompts whose answer the keyword detector calls a refusal; Wilson 95 %.",
            is_share=True,
        ),
        Column("refused, harmless", "The same on matched harmless prompts: over-refusal.", is_share=True),
        Column(
            "change on harmful",
            "Paired difference against dial 0 on the same prompts; Newcombe's 95 % interval, McNemar's exact test.",
            is_share=True,
        ),
        Column("degenerate", "Share of all answers that are empty, looping or gibberish.", is_share=True),
    )
    rows = tuple(
        (side.label, side.refused_harmful, side.refused_harmless, side.difference, side.degenerate)
        for side in shown.sides
    )
    return Table(columns, rows, "Refusal rates on held-out test prompts")


def _figure(shown: Demonstration) -> Figure:
    sides = [side for side in shown.sides if not side.is_control]

    def series(label: str, estimates: list[Estimate]) -> Series:
        return Series(
            label,
            tuple(side.dial for side in sides),
            tuple(estimate.value for estimate in estimates),
            tuple(estimate.low for estimate in estimates),
            tuple(estimate.high for estimate in estimates),
        )

    svg = lines(
        [
            series("harmful requests", [side.refused_harmful for side in sides]),
            series("harmless requests", [side.refused_harmless for side in sides]),
        ],
        x_label="dial",
        y_label="refused",
        is_share=True,
    )
    return Figure(svg, "Refusals against the dial, with 95 % intervals.", "refusals")


def _examples(shown: Demonstration, *, harmful: bool) -> list[SideBySide]:
    examples = shown.harmful if harmful else shown.harmless
    first = 0 if harmful else len(shown.harmful)
    return [
        SideBySide(
            prompt_text(example.prompt),
            tuple(
                Shown(side.label, side.answers[first + number].text, side.verdicts[first + number].label)
                for side in shown.sides
                if not side.is_control
            ),
            is_harmful=harmful,
        )
        for number, example in enumerate(examples[:_EXAMPLES])
    ]


def _neurons(circuit: Circuit) -> Table:
    kept = circuit.stability.kept if circuit.stability else (None,) * len(circuit)
    rows = tuple(
        (row.neuron.layer, row.neuron.index, row.score, row.dose, share)
        for row, share in zip(circuit, kept, strict=True)
    )
    columns = (
        Column("layer"),
        Column("neuron"),
        Column("score", "Mean activation on harmful minus mean on harmless prompts, at the last prompt token."),
        Column("dose", "How far the neuron goes at dial 1: its multiplier is 1 - dial x dose."),
        Column("kept", "Share of ten jackknife folds in which the neuron is chosen again.", is_share=True),
    )
    return Table(columns, rows)


def _provenance(shown: Demonstration) -> tuple[tuple[str, str], ...]:
    origin = shown.circuit.origin
    facts = [
        ("made by", "neurodial demo"),
        ("created", origin.created),
        ("versions", ", ".join(f"{name} {version}" for name, version in origin.versions.items())),
        ("method", json.dumps(dict(origin.method), ensure_ascii=False)),
        ("profile", json.dumps(describe(shown.profile), ensure_ascii=False)),
        ("discovery prompts", str(origin.prompts.get("hash", ""))),
    ]
    if origin.model is not None:
        facts.insert(2, ("model", f"{origin.model.label}, weights {origin.model.digest[:16]}"))
    return tuple(facts)


def _side_json(side: Side) -> dict[str, object]:
    return {
        "label": side.label,
        "dial": side.dial,
        "is_control": side.is_control,
        "refused_harmful": dataclasses.asdict(side.refused_harmful),
        "refused_harmless": dataclasses.asdict(side.refused_harmless),
        "degenerate": dataclasses.asdict(side.degenerate),
        "difference": None if side.difference is None else dataclasses.asdict(side.difference),
    }
