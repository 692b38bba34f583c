"""`neurodial compare`: two circuits, or two reports, against each other."""

from __future__ import annotations

import dataclasses
import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from neurodial.cli.console import err, out, print_json
from neurodial.errors import OptionError

if TYPE_CHECKING:
    from rich.console import Console

    from neurodial.evaluation.report.comparison import ReportComparison

_CLIPPED = 60
"""Characters of a setting that are shown in the terminal."""


def compare(
    first: Path,
    second: Path,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    force: bool = False,
    json: bool = False,
) -> None:
    """Show what two circuits share against what chance would give, or where two reports differ.

    Args:
        first: a circuit's file, or a report: its folder or its report.json.
        second: another one of the same kind, for example of the same model before fine-tuning.
        output: reports: a page to write the comparison to, such as compared.html.
        force: overwrite that page.
        json: print JSON.
    """
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
    expected = "not known" if result.expected is None else f"{result.expected:.2f}"
    sign = "" if result.same_sign is None else f", {result.same_sign:.0%} of them with the same sign"
    out.print(f"{result.shared} shared of {result.first} and {result.second} neurons (by chance: {expected}){sign}")
    out.print(f"Jaccard overlap {result.jaccard:.3f}\n")
    table = Table("layer", "first", "second", "shared", box=None)
    for row in result.by_layer:
        table.add_row(*map(str, row))
    out.print(table)


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
