"""`neurodial try`: a first look at a behaviour on a model, from its prompts to a verdict, in minutes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.text import Text

from neurodial.cli.console import bars, err, out, written
from neurodial.cli.declared import OUTPUT, command_options
from neurodial.cli.model_options import ModelOptions
from neurodial.cli.options import TwoLists
from neurodial.cli.side_by_side import print_side_by_side
from neurodial.cli.timed_parts import TimedPart, TimedParts
from neurodial.evaluation.first_try_options import FirstTry

if TYPE_CHECKING:
    from neurodial.cli.declared import Given as TryOptions
    from neurodial.evaluation.first_try import TriedBehaviour
    from neurodial.evaluation.results import Report
    from neurodial.evaluation.store import Answers
    from neurodial.prompts.pairs import PairSet
else:
    TryOptions = command_options("TryOptions", {"try": FirstTry()}, shared="How much", module=__name__)

_SHOWN = 3
_PARTS = (
    TimedPart("loading the model", 8.0),
    TimedPart("answering without steering", 20.0),
    TimedPart("finding the neurons", 80.0),
    TimedPart("answering and measuring with steering", 45.0),
    TimedPart("writing", 2.0),
)
"""Shares as a run on SmolLM2 had them, with two free cores; a larger model takes longer, with the same shares."""
_FINDING_BY_CNA = 10.0


def try_(
    model: str,
    *,
    behaviour: Annotated[str | None, Parameter(name=["--behaviour", "-b"])] = None,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"], group=OUTPUT)] = None,
    unsteered: bool = False,
    force: Annotated[bool, Parameter(group=OUTPUT)] = False,
    json: Annotated[bool, Parameter(group=OUTPUT)] = False,
    options: TryOptions | None = None,
    lists: TwoLists | None = None,
    loading: ModelOptions | None = None,
) -> None:
    """See in minutes whether a behaviour of your own can be turned: look, find, steer, measure.

    How often the model shows the behaviour, the neurons behind it, three answers side by side, a small evaluation
    against as many random neurons, and a verdict. What is finished stays in the folder: after Ctrl-C the same command
    goes on.

    Args:
        model: Hub id, local folder, GGUF file, `demo` or `demo-base`.
        behaviour: a shipped behaviour (see `neurodial behaviours`), or a file of contrasted prompts.
        output: the folder for the circuit, the report and every answer; by default BEHAVIOUR-try.
        unsteered: only look at the unsteered model: how often the behaviour shows, and some answers.
        force: begin anew, whatever try the folder holds.
        json: print the report as JSON.
        options: how much.
        lists: the behaviour as two files.
        loading: how the model is loaded.
    """
    from neurodial.evaluation.first_try import claim_try, detectors_for, identity_of, look, try_behaviour, try_folder
    from neurodial.methods.check import check_method
    from neurodial.options import changed

    chosen = changed(FirstTry(), {} if options is None else options.values(), title="try")
    pairs = (lists or TwoLists()).pairs(behaviour)
    for split in ("discovery", "development", "test"):
        pairs.split(split)
    check_method(chosen.cna, pairs)
    folder = output or Path(f"{pairs.behaviour.name}-try")
    try_folder(folder).refuse_foreign()
    parts = TimedParts(_parts(chosen, unsteered=unsteered), err, "for a model like SmolLM2 on two free cores")
    parts.announce()
    subject = (loading or ModelOptions()).load(model, in_steps=parts)
    if unsteered:
        claim_try(folder, identity_of(subject, pairs, chosen), anew=force)
        with parts.next():
            detectors = detectors_for(subject, pairs, chosen, bars)
            seen = look(subject, pairs, chosen, folder, detectors=detectors, progress=bars)
        _show_look(seen, folder, as_json=json)
        return
    tried = try_behaviour(subject, pairs, chosen, folder, anew=force, progress=bars, part=parts.next)
    with parts.next():
        tried = _written(tried, folder)
    _show(tried, folder, as_json=json)
    err.print(Text(parts.summary()), style="dim")
    _next(model, behaviour, pairs, folder, chosen.detectors)


def _parts(chosen: FirstTry, *, unsteered: bool) -> tuple[TimedPart, ...]:
    if unsteered:
        return _PARTS[:2]
    return tuple(
        dataclasses.replace(part, seconds=_FINDING_BY_CNA)
        if part.name == "finding the neurons" and chosen.method == "cna"
        else part
        for part in _PARTS
    )


def _written(tried: TriedBehaviour, folder: Path) -> TriedBehaviour:
    from neurodial.cli.evaluate_command import write_folder
    from neurodial.evaluation.first_try import REPORT

    return dataclasses.replace(tried, report=write_folder(tried.report, folder / REPORT))


def _show_look(seen: Report, folder: Path, *, as_json: bool) -> None:
    from neurodial.cli.evaluate_command import show_report
    from neurodial.evaluation.first_try import LOOK
    from neurodial.evaluation.store import Answers

    if as_json:
        show_report(seen, as_json=True)
        return
    answers = Answers.read(folder / LOOK)
    for prompt_set, side in (("behaviour", "that should show it"), ("opposite", "of the other side")):
        out.print(f"\n[bold]Answers to prompts {side}[/bold]")
        print_side_by_side(answers, prompt_set, ["unsteered"], _SHOWN)
    print_rates(seen, answers)
    written(folder / LOOK)
    err.print("next: the same command without --unsteered", markup=False)


def _show(tried: TriedBehaviour, folder: Path, *, as_json: bool) -> None:
    from neurodial.cli.circuits_command import show_circuit
    from neurodial.cli.evaluate_command import show_report
    from neurodial.evaluation.first_try import LOOK, REPORT
    from neurodial.evaluation.store import Answers

    if as_json:
        show_report(tried.report, as_json=True)
        return
    show_circuit(tried.circuit, top=3)
    answers: Answers = Answers.read(folder / REPORT)
    labels = ["unsteered", f"{tried.circuit.name} @ 1"]
    out.print("\n[bold]Test prompts, side by side[/bold]")
    print_side_by_side(answers, "behaviour", labels, _SHOWN)
    print_rates(tried.look, Answers.read(folder / LOOK))
    out.print()
    show_report(tried.report)


def print_rates(report: Report, answers: Answers) -> None:
    """Print in words how often a behaviour shows in the answers of the unsteered model, and how many were cut off."""
    detector, description = next(iter(report.detectors.items()))
    out.print(Text(f"\nHow often {report.behaviour} shows without steering (detector {detector}):"))
    sides = {report.headline: "prompts that the change is about", "opposite": "prompts of the other side"}
    for number, side in sides.items():
        rate = report.unsteered.metrics.get(number)
        if rate is not None and rate.n:
            ends = f"95 % interval {rate.low:.0%} to {rate.high:.0%}"
            out.print(f"  {side}: {round(rate.value * rate.n)} of {rate.n} answers ({ends})", markup=False)
    out.print(Text(f"  {description}"), style="dim")
    cut = [row for row in answers.generations if row.set == "behaviour" and not row.finished]
    if cut:
        count = sum(row.set == "behaviour" for row in answers.generations)
        longest = max(row.tokens or 0 for row in cut)
        out.print(
            f"  {len(cut)} of {count} answers were cut off after {longest} tokens: a behaviour that comes later is not "
            f"seen (--answer-tokens {4 * longest})",
            markup=False,
        )


def _next(model: str, behaviour: str | None, pairs: PairSet, folder: Path, detectors: Sequence[str]) -> None:
    from neurodial.evaluation.first_try import REPORT, circuit_path

    circuit = circuit_path(folder, pairs)
    named: list[object] = [] if behaviour is None else ["-b", behaviour]
    for detector in detectors:
        named += ["--detectors", detector]
    written(
        circuit,
        folder / REPORT / "report.html",
        then=(
            ("steer", model, circuit),
            ("evaluate", model, circuit, *named, "--against", "caa,direction,random", "-o", folder / "evaluation"),
            ("export", model, circuit),
            ("serve", model, circuit),
        ),
    )
