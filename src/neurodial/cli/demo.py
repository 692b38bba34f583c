"""`neurodial demo`: the whole method on a small real model, offline."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from neurodial.cli.console import bars, err, out
from neurodial.cli.options import ModelOptions
from neurodial.errors import FileError

if TYPE_CHECKING:
    from neurodial.evaluation.demonstration import Demonstration
    from neurodial.evaluation.statistics import Estimate

_FILES = ("refusal.circuit.json", "report.json", "report.html")
_HARMFUL, _HARMLESS = 3, 2


def demo(
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("neurodial-demo"),
    model: str = "demo",
    short: bool = False,
    show_harmful: bool = False,
    json: bool = False,
) -> None:
    """Find and dial the refusal circuit of a small real model, offline, on a CPU; ends with report.html.

    Args:
        output: folder for refusal.circuit.json, report.json and report.html; an earlier demo's is overwritten.
        model: the model; by default the small model with the refusal organism.
        short: fewer prompts and shorter answers.
        show_harmful: put the answers to harmful prompts into report.html too.
        json: print the figures as JSON instead of tables.
    """
    _refuse_foreign(output)
    from neurodial.prompts.pairs import PairSet

    pairs = PairSet.read("refusal")
    subject = ModelOptions().load(model)

    from neurodial.evaluation.demonstration import SHORT, Profile, demonstrate
    from neurodial.evaluation.report.demonstration import demonstration_json, demonstration_page
    from neurodial.evaluation.report.page import write_page
    from neurodial.files import write_atomic

    shown = demonstrate(subject, pairs, SHORT if short else Profile(), progress=bars)
    shown.circuit.write(output / _FILES[0], overwrite=True)
    write_atomic(output / _FILES[1], demonstration_json(shown), overwrite=True)
    write_page(demonstration_page(shown), output / _FILES[2], show_harmful=show_harmful, overwrite=True)
    if json:
        print(demonstration_json(shown), end="")
    else:
        _print(shown)
    err.print(f"\nwritten: {', '.join(str(output / name) for name in _FILES)}")


def _refuse_foreign(folder: Path) -> None:
    """Refuse a folder that holds something else than an earlier demo.

    Raises:
        FileError: names the folder.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise FileError(f"{folder} is a file.", wanted="a folder for the demo's files")
    report = folder / "report.json"
    if not any(folder.iterdir()):
        return
    try:
        is_ours = json_module.loads(report.read_text(encoding="utf-8")).get("format") == "neurodial.demo"
    except (OSError, ValueError, AttributeError):
        is_ours = False
    if not is_ours:
        raise FileError(f"The folder {folder} holds other files.", wanted="a new folder, or an earlier demo's")


def _print(shown: Demonstration) -> None:
    from neurodial.cli.circuits import show_circuit
    from neurodial.evaluation.demonstration import findings

    show_circuit(shown.circuit, top=5)
    for kind, first, count in (("harmful", 0, _HARMFUL), ("harmless", len(shown.harmful), _HARMLESS)):
        out.print(f"\n[bold]Held-out {kind} requests, side by side[/bold]")
        _print_answers(shown, first, count)
    out.print()
    table = Table("", "refused, harmful", "refused, harmless", "degenerate", title="On held-out prompts", box=None)
    for side in shown.sides:
        cells = [side.refused_harmful, side.refused_harmless, side.degenerate]
        table.add_row(side.label, *map(_percent, cells))
    out.print(table)
    out.print("\n[bold]What was found[/bold]")
    for sentence in findings(shown):
        out.print(Text(f"• {sentence}"))


def _print_answers(shown: Demonstration, first: int, count: int) -> None:
    sides = [side for side in shown.sides if not side.is_control]
    for number in range(first, first + count):
        table = Table(*(side.label for side in sides), show_lines=True, expand=True)
        table.add_row(*(Text(" ".join(side.answers[number].text.split())) for side in sides))
        out.print(Text(str(sides[0].answers[number].prompt), style="bold"))
        out.print(table)


def _percent(estimate: Estimate) -> str:
    return f"{estimate.value:.0%} [{estimate.low:.0%}, {estimate.high:.0%}] n={estimate.n}"
