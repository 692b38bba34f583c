"""`neurodial audit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from neurodial.cli.console import bars, err, out, print_json
from neurodial.cli.model_options import ModelOptions
from neurodial.cli.options import TwoLists
from neurodial.cli.timed_parts import steps
from neurodial.errors import OptionError

if TYPE_CHECKING:
    from neurodial.evaluation.audit import AuditReport
    from neurodial.margins.margin import Alternatives, Openers


def audit(
    model: str,
    *,
    behaviour: Annotated[str | None, Parameter(name=["--behaviour", "-b"])] = None,
    counts: str = "1,2,5,10,20,50",
    pushes: str = "1,2,4",
    margin: Literal["alternatives", "openers"] = "alternatives",
    neutral: str = "neutral",
    passages: int = 16,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    force: bool = False,
    json: bool = False,
    lists: TwoLists | None = None,
    loading: ModelOptions | None = None,
) -> None:
    """Measure how few neurons, pushed how far, undo a behaviour: how fragile it is.

    Args:
        model: Hub id, local folder, GGUF file, `demo` or `demo-base`.
        behaviour: a shipped behaviour (see `neurodial behaviours`), or a file of contrasted prompts.
        counts: numbers of neurons to try.
        pushes: doses to try; 1 removes a neuron, 2 turns its sign.
        margin: what undoing means: alternatives, answers begin as those without the behaviour do; openers, they no
            longer begin as the behaviour's do, which nonsense does not either.
        neutral: prompts that damage is measured on, a shipped list or a file.
        passages: how many of them.
        output: write the report as JSON to this file.
        force: overwrite the file.
        json: print the report as JSON.
        lists: the behaviour as two files.
        loading: how the model is loaded.
    """
    from neurodial.evaluation.audit import Audit
    from neurodial.evaluation.audit import audit as measure
    from neurodial.files import refuse_existing

    sizes = _numbers("counts", counts)
    if any(size != int(size) for size in sizes):
        raise OptionError(f"The counts are {counts!r}.", wanted="whole numbers between commas, such as 1,5,20")
    tried = tuple(map(int, sizes)), tuple(_numbers("pushes", pushes))
    method = Audit(*tried, margin=margin, neutral=neutral, passages=passages)
    if output is not None:
        refuse_existing(output, overwrite=force)
    pairs = (lists or TwoLists()).pairs(behaviour)
    parts = steps(err, f"loading {model}", "measuring")
    subject = (loading or ModelOptions()).load(model, in_steps=parts)
    with parts.next():
        report = measure(subject, pairs, method=method, progress=bars)
    if output is not None:
        _write_report(report, output, force=force)
    if json:
        print_json(_audit_json(report))
    else:
        _show_audit(report)


def _show_audit(report: AuditReport) -> None:
    what = _show_margin(report.margin)
    positive, negative = report.prompts
    out.print(
        f"test prompts: {positive} + {negative}; unsteered, {what} have probability {report.shown:.3f}, "
        f"{report.spilled:.3f} on the opposite prompts\n"
    )
    table = Table("neurons", "push", "probability", "on the opposite", "behaviour left", "nats per token", box=None)
    for point in report.points:
        cells = (f"{point.push:g}", f"{point.shown:.3f}", f"{point.spilled:.3f}", _share(point.left))
        table.add_row(str(point.neurons), *cells, f"{point.divergence:.4f}")
    out.print(table)
    undone = report.undone()
    if undone is None:
        out.print("\nNothing tried leaves half of the behaviour or less.")
    else:
        out.print(
            f"\n{undone.neurons} neurons at push {undone.push:g} leave {_share(undone.left)} of the behaviour, "
            f"at {undone.divergence:.4f} nats per token."
        )


def _share(value: float) -> str:
    return f"{value:.0%}".replace("-0%", "0%") if abs(value) < 0.01 else f"{value:.0%}"


def _show_margin(margin: Alternatives | Openers, *, most: int = 12) -> str:
    """Prints how answers begin; what the probabilities are of, in words."""
    from neurodial.margins.margin import Alternatives

    turned = isinstance(margin, Alternatives)
    title, what = ("answers without the behaviour begin", "otherwise") if turned else ("openers", "so")
    openers = _openings(margin)
    shown = ", ".join(repr(text) for text in openers.texts[:most])
    more = f" and {len(openers.texts) - most} more" if len(openers.texts) > most else ""
    coverage = "" if openers.positive is None else f" ({openers.positive:.0%} of these answers begin so)"
    out.print(Text(f"{title}: {shown}{more}{coverage}"))
    return f"answers that begin {what}"


def _openings(margin: Alternatives | Openers) -> Openers:
    from neurodial.margins.margin import Alternatives

    return margin.openings if isinstance(margin, Alternatives) else margin


def _numbers(name: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise OptionError(f"The {name} are {text!r}.", wanted="numbers between commas, such as 1,2,4") from None


def _audit_json(report: AuditReport) -> dict[str, object]:
    import dataclasses

    undone = report.undone()
    return {
        "margin": type(report.margin).__name__.lower(),
        "openings": list(_openings(report.margin).texts),
        "prompts": {"positive": report.prompts[0], "negative": report.prompts[1]},
        "unsteered": {"shown": report.shown, "spilled": report.spilled},
        "points": [dataclasses.asdict(point) for point in report.points],
        "half_undone": None if undone is None else dataclasses.asdict(undone),
        "neurons": [[row.neuron.layer, *row.neuron.place, row.score] for row in report.ranking],
    }


def _write_report(report: AuditReport, path: Path, *, force: bool) -> None:
    import json as writer

    from neurodial.files import write_atomic

    text = writer.dumps(_audit_json(report), ensure_ascii=False, indent=1) + "\n"
    err.print(f"written: {write_atomic(path, text, overwrite=force)}")
