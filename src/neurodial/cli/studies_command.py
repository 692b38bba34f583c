"""`neurodial study`: sweep, frontier, transfer and layers; each first prints how many tokens it needs."""

from __future__ import annotations

import dataclasses
import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.table import Table

from neurodial.cli.console import bars, err, out
from neurodial.cli.declared import OUTPUT
from neurodial.cli.evaluate_command import show_report, write_folder
from neurodial.cli.measure_options import MeasureOptions, evaluation_of, parts
from neurodial.cli.model_options import ModelOptions
from neurodial.cli.options import Texts, TwoLists, joined, parse_dials, read_circuits
from neurodial.cli.timed_parts import steps
from neurodial.errors import OptionError

if TYPE_CHECKING:
    from neurodial.evaluation.studies import Grid, LayerCount, Study
    from neurodial.model.subject import Subject
    from neurodial.prompts.pairs import PairSet


def study(
    kind: Literal["sweep", "frontier", "transfer", "layers"],
    model: str,
    *arguments: str,
    output: Annotated[Path, Parameter(name=["--output", "-o"], group=OUTPUT)],
    behaviour: Annotated[str | None, Parameter(name=["--behaviour", "-b"])] = None,
    counts: Texts = None,
    dials: Texts = None,
    points: Texts = None,
    against: Texts = None,
    cap: float = 0.1,
    method: str = "cna",
    shuffles: int = 20,
    lists: TwoLists | None = None,
    measuring: MeasureOptions | None = None,
    loading: ModelOptions | None = None,
) -> None:
    """Measure a grid: dial by number of neurons, all methods, two models, or where a circuit sits. Resumable.

    Args:
        kind: sweep, dial by number of neurons; frontier, behaviour left against damage for every method; transfer,
            circuits of two models on both; layers, where a circuit sits against shuffled sides.
        model: Hub id, local folder, GGUF file, `demo` or `demo-base`.
        arguments: sweep, frontier: circuit files. transfer: the second model. layers: nothing.
        output: the study's folder.
        behaviour: the prompt set; by default the one that the circuits were found with.
        counts: sweep: numbers of neurons between commas; 10,46,138 by default.
        dials: dense grid of dials between commas, measured by margin and KL; both signs by default.
        points: dials at which answers are made, between commas; `none` for none. 0.5 and 1 by default.
        against: frontier: methods to compare with, between commas; caa,direction,random,prompt by default.
        cap: frontier: nats per token up to which the area is taken.
        method: transfer, layers: how circuits are found: cna, cna-reference, or for transfer dose.
        shuffles: layers: circuits on shuffled sides.
        lists: the behaviour as two files.
        measuring: what is measured, on how much.
        loading: how the model is loaded.
    """
    from neurodial.evaluation.studies import DENSE, POINTS, Grid, frontier, sweep

    dense = DENSE if dials is None else tuple(parse_dials(joined(dials)))
    chosen = POINTS if points is None else () if points == ["none"] else tuple(parse_dials(joined(points)))
    grid = Grid(dense, chosen, evaluation_of(measuring), output)
    if kind in {"transfer", "layers"}:
        pairs = (lists or TwoLists()).pairs(behaviour)
        _whole_models(kind, model, arguments, pairs, grid, method, shuffles, loading or ModelOptions())
        return
    circuits = [dataclasses.replace(c, name=name) for name, c, _ in read_circuits(list(arguments), 1.0)]
    if not circuits:
        raise OptionError(f"A {kind} came without a circuit.", wanted="the path of a circuit's file")
    pairs = (lists or TwoLists()).pairs(behaviour, circuits)
    in_steps = steps(err, f"loading {model}", "measuring", "writing")
    subject = (loading or ModelOptions()).load(model, in_steps=in_steps)
    with in_steps.next():
        if kind == "sweep":
            numbers = _counts(joined(counts, "10,46,138"))
            _print_token_plan(subject, pairs, len(numbers), grid)
            result = sweep(subject, circuits[0], pairs, numbers, grid=grid, progress=bars)
        else:
            methods = parts(joined(against, "caa,direction,random,prompt"))
            _print_token_plan(subject, pairs, len(circuits) + len(methods), grid)
            result = frontier(subject, circuits, pairs, methods, grid=grid, progress=bars)
    with in_steps.next():
        _finish(result, output, cap)


def _finish(result: Study, output: Path, cap: float) -> None:
    from neurodial.evaluation.frontier_area import frontier_figures

    for name, report in (("dense", result.dense), ("answers", result.answers)):
        if report is not None:
            out.print(f"[bold]{name}[/bold]")
            show_report(report)
            write_folder(report, output / name)
            err.print(f"written: {output / name / 'report.html'}")
    try:
        figures = frontier_figures(result.dense, cap=cap)
    except OptionError:
        return  # a margin of whole answers has no rate: there are only the tables
    table = Table("method", f"area to {cap:g} nats", f"left at {cap:g} nats", box=None)
    for figure in figures:
        table.add_row(figure.label, f"{figure.area:.3f}", f"{figure.left:.3f}")
    out.print(table)
    text = json_module.dumps([dataclasses.asdict(figure) for figure in figures], indent=1)
    (output / "frontier.json").write_text(text + "\n", encoding="utf-8")


def _whole_models(
    kind: str,
    model: str,
    arguments: tuple[str, ...],
    pairs: PairSet,
    grid: Grid,
    method: str,
    shuffles: int,
    loading: ModelOptions,
) -> None:
    """The studies that find circuits themselves."""
    from neurodial.methods.cna.options import CNA
    from neurodial.methods.registry import method as method_named

    chosen = method_named(method)
    if not isinstance(chosen, CNA):
        raise OptionError(f"The method of a {kind} study is {method!r}.", wanted="cna or cna-reference")
    subject = loading.load(model)
    if kind == "layers":
        from neurodial.evaluation.studies import layers
        from neurodial.methods.cna.options import CNA

        if not isinstance(chosen, CNA):
            raise OptionError(f"--method is {method!r}.", wanted="cna or cna-reference: their scores have a null")
        _show_layers(layers(subject, pairs.discovery, method=chosen, shuffles=shuffles, progress=bars))
        return
    if len(arguments) != 1:
        raise OptionError(f"A transfer came with {len(arguments)} further models.", wanted="exactly one")
    from neurodial.evaluation.studies import transfer

    other = ModelOptions(dtype=loading.dtype, device=loading.device).load(arguments[0])
    _print_token_plan(subject, pairs, 4, dataclasses.replace(grid, dense=(1.0,)))
    result = transfer((subject, other), pairs, method=chosen, grid=grid, progress=bars)
    overlap = result.overlap
    out.print(f"{overlap.shared} shared of {overlap.first} and {overlap.second}; Jaccard {overlap.jaccard:.3f}")
    for (source, target), report in result.reports.items():
        out.print(f"\n[bold]circuit of {(model, arguments[0])[source]} on {(model, arguments[0])[target]}[/bold]")
        show_report(report)
        if grid.folder is not None:
            write_folder(report, grid.folder / f"circuit-{source}-on-{target}")


def _show_layers(rows: tuple[LayerCount, ...]) -> None:
    table = Table("layer", "neurons", "expected", "shuffled range", "times expected", box=None)
    for row in rows:
        ratio = f"{row.found / row.expected:.1f}" if row.expected else "–"
        table.add_row(str(row.layer), str(row.found), f"{row.expected:.2f}", f"{row.low} to {row.high}", ratio)
    out.print(table)


def _print_token_plan(subject: Subject, pairs: PairSet, conditions: int, grid: Grid) -> None:
    from neurodial.evaluation.studies import token_plan

    tokens = token_plan(subject, pairs, conditions, grid)
    err.print(
        f"tokens to compute, at most, without tuning: {tokens['dense']:,} for the dense grid, "
        f"{tokens['answers']:,} for answers"
    )


def _counts(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in parts(text))
    except ValueError:
        raise OptionError(f"The numbers of neurons are {text!r}.", wanted="numbers such as 10,46") from None
