"""`neurodial compare`: two circuits, two reports, or a model and its tuned copy, against each other."""

from __future__ import annotations

import dataclasses
import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from neurodial.cli.console import bars, err, out, print_json
from neurodial.cli.declared import OUTPUT, command_options
from neurodial.cli.model_options import ModelOptions
from neurodial.cli.options import TwoLists
from neurodial.edits.tuning_options import ComparingModels
from neurodial.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from neurodial.circuit.compare import CircuitOverlap
    from neurodial.cli.declared import Given as CompareGiven
    from neurodial.edits.compare_models import ModelComparison
    from neurodial.edits.tuned_neurons import NeuronInBoth
    from neurodial.evaluation.report.comparison import ReportComparison
else:
    CompareGiven = command_options("CompareGiven", {"compare": ComparingModels()}, shared="Two models", module=__name__)

_CLIPPED = 60
"""Characters of a setting that are shown in the terminal."""


def compare(
    first: Path,
    second: Path,
    *,
    models: tuple[str, str] | None = None,
    behaviour: Annotated[str | None, Parameter(name=["--behaviour", "-b"])] = None,
    method: str = "cna",
    neutral: str = "neutral",
    output: Annotated[Path | None, Parameter(name=["--output", "-o"], group=OUTPUT)] = None,
    force: Annotated[bool, Parameter(group=OUTPUT)] = False,
    json: Annotated[bool, Parameter(group=OUTPUT)] = False,
    given: Annotated[CompareGiven | None, Parameter(name="*")] = None,
    lists: TwoLists | None = None,
    loading: ModelOptions | None = None,
) -> None:
    """Show what two circuits share, where two reports differ, or what tuning did to a behaviour's circuit.

    With a behaviour, first and second are models, the base and its tuned copy; with --models they are circuits of
    these. Then both circuits are put on both models, and the same neurons are looked at in both.

    Args:
        first: a circuit's file, a report (its folder or its report.json), or the base model.
        second: another one of the same kind, for example of the same model after fine-tuning.
        models: base and tuned model that the two circuits are put on.
        behaviour: a shipped behaviour, or a file of contrasted prompts; with --models by default the circuits'.
        method: how circuits are found on two models.
        neutral: prompts that damage is measured on, a shipped list or a file.
        output: reports: a page to write the comparison to, such as compared.html; models: a JSON file.
        force: overwrite that file.
        json: print JSON.
        given: how two models are compared.
        lists: the behaviour as two files.
        loading: how the models are loaded; an adapter and a revision are the tuned model's.
    """
    lists = lists or TwoLists()
    if models is not None or behaviour is not None or lists != TwoLists():
        _compare_models((first, second), models, behaviour, lists, _Measured(method, neutral, given, loading),
                        output, force=force, json=json)  # fmt: skip
        return
    if (given is not None and given.values()) or loading is not None or method != "cna" or neutral != "neutral":
        raise OptionError(
            "Options for models came with two circuits or reports.",
            wanted="--behaviour with two models, or --models BASE TUNED with their circuits",
        )
    kinds = [_is_report(path) for path in (first, second)]
    if kinds[0] != kinds[1]:
        report, other = (first, second) if kinds[0] else (second, first)
        raise OptionError(f"{report} is a report, {other} is none.", wanted="two circuits, or two reports")
    if kinds[0]:
        _compare_reports(first, second, output, force=force, json=json)
    elif output is not None:
        raise OptionError("A page is written for two reports, not for two circuits.", fix="Leave --output out.")
    else:
        _compare_circuits(first, second, json=json)


class _Measured(NamedTuple):
    """How two models are measured, as typed."""

    method: str
    neutral: str
    given: CompareGiven | None
    loading: ModelOptions | None


def _compare_models(
    places: tuple[Path, Path],
    models: tuple[str, str] | None,
    behaviour: str | None,
    lists: TwoLists,
    measured: _Measured,
    output: Path | None,
    *,
    force: bool,
    json: bool,
) -> None:
    from neurodial.circuit.file import read_circuit
    from neurodial.files import refuse_existing, write_atomic
    from neurodial.methods.registry import method as method_named
    from neurodial.model.which_model import refuse_no_model
    from neurodial.options import changed
    from neurodial.prompts.behaviours import read_prompt_list

    values = measured.given.values() if measured.given is not None else {}
    options = changed(ComparingModels(), values, title="compare")
    chosen = method_named(measured.method)
    if output is not None:
        refuse_existing(output, overwrite=force)
    circuits = None if models is None else (read_circuit(places[0]), read_circuit(places[1]))
    labels = models or (str(places[0]), str(places[1]))
    for label in labels:
        refuse_no_model(label)
    pairs = lists.pairs(behaviour, circuits or ())
    neutral = read_prompt_list(measured.neutral).prompts
    loading = measured.loading or ModelOptions()
    base = dataclasses.replace(loading, adapter=None, revision=None).load(labels[0])
    tuned = loading.load(labels[1])
    from neurodial.edits.compare_models import compare_models

    found = compare_models(
        base, tuned, pairs, neutral=neutral, circuits=circuits, method=chosen, options=options, progress=bars
    )
    if json:
        print_json(found.as_json())
    else:
        show_models(found, out)
    if output is not None:
        content = json_module.dumps(found.as_json(), ensure_ascii=False, indent=1) + "\n"
        err.print(f"written: {write_atomic(output, content, overwrite=force)}", markup=False)


def show_models(found: ModelComparison, console: Console, *, most: int = 12) -> None:
    """Print a comparison of two models: overlap, transfer, the neurons that changed most, weights."""
    from neurodial.edits.tuned_neurons import changed_most

    base, tuned = found.labels
    console.print(Text.assemble((f"{base} against {tuned}", "bold"), f", {found.behaviour}"))
    _show_overlap(found.overlap, console)
    ranks = [("all neurons", found.ranks_all), ("the circuits' neurons", found.ranks_circuits)]
    said = ", ".join(f"{name} {'–' if value is None else f'{value:.3f}'}" for name, value in ranks)
    console.print(Text(f"Spearman of the differences of means in both models: {said}\n"))
    table = Table("on", "circuit of", "margin", "change", "above 0", "nats per token", box=None)
    for row in found.transfer:
        change = "" if row.circuit == "none" else f"{found.change(row.circuit, row.model):+.3f}"
        share = f"{row.above.value:.0%} [{row.above.low:.0%}, {row.above.high:.0%}]"
        name = "(unsteered)" if row.circuit == "none" else row.circuit
        table.add_row(row.model, name, f"{row.margin:+.3f}", change, share, f"{row.damage:.4f}")
    console.print(table)
    for name, text in zip(("base", "tuned"), found.margin, strict=True):
        console.print(Text(f"margin on {name}: {text}", style="dim"))
    neurons = Table("neuron", "in", "difference", "in pooled s.d.", "rank", "column moved", "more than", box=None)
    for one in changed_most(found.neurons)[:most]:
        inside = " and ".join(name for name, here in zip(("base", "tuned"), one.in_circuit, strict=True) if here)
        cells = [f"{pair[0]:+.3f} → {pair[1]:+.3f}" for pair in (one.difference, one.apart)]
        rank = f"{one.rank[0]} → {one.rank[1]}"
        moved = (f"{one.moved:.2%}", f"{one.moved_more_than:.0%} of its layer")
        neurons.add_row(one.neuron.short, inside, *cells, rank, *moved)
    console.print()
    console.print(neurons)
    if found.explained:
        console.print()
        console.print(_explained_table(found.explained))
    if found.weights is not None:
        parts = ", ".join(f"{part.title} {part.change:.2%}" for part in found.weights.changed[:4])
        console.print(Text(f"weights: {found.weights.verdict}" + (f"; moved most: {parts}" if parts else "")))
    for note in found.notes:
        console.print(Text(f"note: {note}"))


def _explained_table(explained: Sequence[NeuronInBoth]) -> Table:
    """What neurons write and read in both models, side by side."""
    table = _folding("neuron", "in", "writes", "holds down", "reads")
    for one in explained:
        for number, name in enumerate(("base", "tuned")):
            reads = "; ".join(f"{part} {_quoted(tokens)}" for part, tokens in one.reads[number].items())
            place = one.neuron.short if number == 0 else ""
            cells = (place, name, _quoted(one.writes[number]), _quoted(one.holds_down[number]), reads or "–")
            table.add_row(*map(Text, cells))
    return table


def _quoted(tokens: Sequence[str]) -> str:
    return " ".join(repr(token) for token in tokens)


def _is_report(path: Path) -> bool:
    """Whether a path is a report's folder or file; a circuit's own reader says what is wrong with anything else."""
    from neurodial.evaluation.results import FORMAT

    if path.is_dir():
        return True
    try:
        value = json_module.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(value, dict) and value.get("format") == FORMAT


def _compare_circuits(first: Path, second: Path, *, json: bool) -> None:
    from neurodial.circuit.compare import compare as overlap
    from neurodial.circuit.file import read_circuit

    result = overlap(read_circuit(first), read_circuit(second))
    if json:
        print_json(dataclasses.asdict(result))
        return
    _show_overlap(result, out)
    table = Table("layer", "first", "second", "shared", box=None)
    for row in result.by_layer:
        table.add_row(*map(str, row))
    out.print(table)


def _show_overlap(result: CircuitOverlap, console: Console) -> None:
    expected = "not known" if result.expected is None else f"{result.expected:.2f}"
    sign = "" if result.same_sign is None else f", {result.same_sign:.0%} of them with the same sign"
    console.print(f"{result.shared} shared of {result.first} and {result.second} neurons (by chance: {expected}){sign}")
    ranks = "" if result.ranks is None else f", Spearman of the shared neurons' scores {result.ranks:.3f}"
    console.print(f"Jaccard overlap {result.jaccard:.3f}{ranks}\n")


def _compare_reports(first: Path, second: Path, output: Path | None, *, force: bool, json: bool) -> None:
    from neurodial.evaluation.report.comparison import compare_reports, comparison_page, read_for_comparison
    from neurodial.evaluation.report.html_page import write_page
    from neurodial.evaluation.results import plain_values

    names = [path.name if path.is_dir() else path.parent.name or path.stem for path in (first, second)]
    if names[0] == names[1]:
        names = [str(first), str(second)] if first != second and not first.is_absolute() else ["first", "second"]
    comparison = compare_reports(*(read_for_comparison(p, n) for p, n in zip((first, second), names, strict=True)))
    if output is not None:
        write_page(comparison_page(comparison), output, overwrite=force)
    if json:
        print_json(plain_values(comparison))
    else:
        print_comparison(comparison, out)
    if output is not None:
        err.print(f"written: {output}")


def print_comparison(comparison: ReportComparison, console: Console) -> None:
    """Print a comparison: what differs in how both were made, each condition's numbers, the summary."""
    if comparison.changes:
        console.print(Text("what differs in how they were made", style="bold"))
        table = _folding("setting", *comparison.names)
        for place, *values in comparison.changes:
            table.add_row(Text(place), *(Text(_clipped(value)) for value in values))
        console.print(table)
    for label, dial in dict.fromkeys((number.label, number.dial) for number in comparison.numbers):
        console.print(Text(f"\n{label} at dial {dial:g}", style="bold"))
        console.print(_numbers_table(comparison, label, dial))
    for name, keys in comparison.alone.items():
        if keys:
            console.print(Text(f"\nonly in {name}: {', '.join(keys)}"))
    for name, verdict in zip(comparison.names, comparison.verdicts, strict=True):
        console.print(Text(f"\n{name}: {verdict}"))
    console.print(Text(f"\n{comparison.summary}", style="bold"))


def _numbers_table(comparison: ReportComparison, label: str, dial: float) -> Table:
    from neurodial.cli.report_table import shown_estimate
    from neurodial.evaluation.metrics import metric
    from neurodial.evaluation.verdict import shown_change

    moved = ["difference"] if comparison.same_prompts else []
    table = _folding("number", *comparison.names, *moved)
    for number in comparison.numbers:
        if (number.label, number.dial) == (label, dial):
            described = metric(number.name, comparison.detectors)
            cells = [shown_estimate(e, is_share=described.is_share) for e in (number.first, number.second)]
            if comparison.same_prompts:
                cells.append("–" if number.difference is None else shown_change(number.difference, number.name))
            table.add_row(Text(described.title), *map(Text, cells))
    return table


def _folding(*headings: str) -> Table:
    """A table that breaks long words rather than cut them."""
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(Text(heading), overflow="fold")
    return table


def _clipped(text: str) -> str:
    return text if len(text) <= _CLIPPED else text[: _CLIPPED - 1] + "…"
