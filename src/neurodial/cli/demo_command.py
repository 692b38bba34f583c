"""`neurodial demo`: the whole method on a small real model, offline."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.text import Text

from neurodial.cli.console import bars, err, out, written
from neurodial.cli.model_options import ModelOptions
from neurodial.cli.side_by_side import print_side_by_side
from neurodial.cli.timed_parts import TimedPart, TimedParts

if TYPE_CHECKING:
    from neurodial.evaluation.demonstration import Demonstration
    from neurodial.evaluation.store import Answers

_HARMFUL, _HARMLESS = 3, 2
_NAMES = (
    "loading the model",
    "finding neurons by CNA",
    "finding neurons by Dose",
    "answering and measuring",
    "writing",
)
_PARTS = tuple(map(TimedPart, _NAMES, (8.0, 30.0, 330.0, 240.0, 2.0)))
_SHORT_PARTS = tuple(map(TimedPart, _NAMES, (8.0, 12.0, 120.0, 30.0, 1.0)))
"""Shares as a run of the short demo had them, scaled to two free cores; a busy machine takes longer."""


def demo(
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("neurodial-demo"),
    model: str = "demo",
    short: bool = False,
    show_harmful: bool = False,
    json: bool = False,
) -> None:
    """Find and dial the refusal circuit of a small real model, offline, on a CPU; ends with report.html.

    CNA and Dose side by side, each against as many random neurons, in the report that `neurodial evaluate` makes.

    Args:
        output: folder for the circuits, the report and every answer; an earlier demo in it is overwritten,
            an interrupted one is continued.
        model: the model; by default the small model with the refusal organism.
        short: fewer prompts and shorter answers.
        show_harmful: put the answers to harmful prompts into report.html too.
        json: print the report as JSON instead of tables.
    """
    from neurodial.evaluation.demonstration import ROWS, SHORT, Profile, demo_folder, demonstrate
    from neurodial.prompts.pairs import PairSet

    demo_folder(output).refuse_foreign()
    parts = TimedParts(_SHORT_PARTS if short else _PARTS, err, "on two free cores")
    parts.announce()
    pairs = PairSet.read("refusal")
    subject = ModelOptions().load(model, in_steps=parts)

    from neurodial.cli.evaluate_command import show_report, with_command
    from neurodial.evaluation.report.evaluation import write_report
    from neurodial.evaluation.store import Answers

    profile = SHORT if short else Profile()
    shown = demonstrate(subject, pairs, profile, output, progress=bars, part=parts.next)
    shown = dataclasses.replace(shown, report=with_command(shown.report))
    answers = Answers.read(output / ROWS)
    with parts.next():
        write_report(shown.report, output, answers, show_harmful=show_harmful)
    if json:
        show_report(shown.report, as_json=True)
    else:
        _print(shown, answers)
    err.print(Text(parts.summary()), style="dim")
    files = [output / f"{circuit.name}.circuit.json" for circuit in shown.circuits]
    further = (("steer", model, files[-1], "PROMPT"), ("try", model, "-b", "FILE"))
    written(*files, output / "report.json", output / "report.html", then=further)


def _print(shown: Demonstration, answers: Answers) -> None:
    from neurodial.cli.circuits_command import show_circuit
    from neurodial.cli.evaluate_command import show_report

    for circuit in shown.circuits:
        show_circuit(circuit, top=5)
        out.print()
    labels = ["unsteered", *(f"{circuit.name} @ 1" for circuit in shown.circuits)]
    for kind, prompt_set, count in (("harmful", "behaviour", _HARMFUL), ("harmless", "opposite", _HARMLESS)):
        out.print(f"\n[bold]Held-out {kind} requests, side by side[/bold]")
        print_side_by_side(answers, prompt_set, labels, count)
    out.print("\n[bold]On held-out prompts[/bold]")
    show_report(shown.report)
