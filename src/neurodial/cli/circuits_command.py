"""`neurodial show`: circuits as readable tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from neurodial.cli.console import duration, out
from neurodial.errors import OptionError
from neurodial.methods.registry import presets
from neurodial.provenance import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from neurodial.circuit.circuit import Circuit, Row
    from neurodial.circuit.report import DoseReport, FitReport

_BLOCKS = " ▁▂▃▄▅▆▇█"


def show(circuit: Path, *, top: int = 20, json: bool = False) -> None:
    """Show a circuit: its neurons, layers, stability and origin.

    Args:
        circuit: the circuit's file.
        top: how many neurons to list; 0 for all.
        json: print JSON.
    """
    from neurodial.circuit.file import read_circuit

    if top < 0:
        raise OptionError(f"The number of neurons to list is {top}.", wanted="0 for all, or more")
    loaded = read_circuit(circuit)
    if json:
        print_circuit_json(loaded)
    else:
        show_circuit(loaded, top=top or len(loaded))


def show_circuit(circuit: Circuit, *, top: int) -> None:
    """Print a circuit as readable tables."""
    origin = circuit.origin
    everything = origin.model.neurons if origin.model else 0
    share = f" of {everything} ({len(circuit) / everything:.3%})" if everything else ""
    size = f": {len(circuit)} neurons{share}; dial 1 means {circuit.direction}"
    out.print(Text.assemble((circuit.name, "bold"), size))
    if origin.model:
        adapter = " with an adapter" if origin.model.adapter_digest else ""
        out.print(f"model: {origin.model.label} ({origin.model.family}{adapter}, {origin.model.dtype})", markup=False)
    if origin.engine:
        parts = [f"{name.replace('_', ' ')} {value}" for name, value in origin.engine.items() if _is_told(name, value)]
        out.print(f"engine: {origin.engine['name']} {origin.engine['version']}{_listed(parts)}", markup=False)
    out.print(f"method: {describe_method(origin.method)}", markup=False)
    if origin.prompts:
        out.print(f"prompts: {origin.prompts.get('positive')} positive, {origin.prompts.get('negative')} negative")
    for note in origin.prompts.get("notes", ()):
        out.print(f"  note: {note}", markup=False)
    if origin.universal is not None:
        removed = origin.universal.get("would_have_been_chosen", [])
        out.print(
            f"universal neurons: {origin.universal.get('flagged')} flagged, {len(removed)} kept out of the circuit"
        )
    if circuit.stability is not None:
        overlaps = circuit.stability.overlaps
        out.print(
            f"stability: {circuit.stability.mean:.0%} of the neurons are chosen again when one of {len(overlaps)} "
            f"folds of the prompts is left out (lowest {min(overlaps):.0%})"
        )
    for line in report_lines(origin.report) if origin.report is not None else ():
        out.print(line, markup=False)
    if circuit.condition is not None:
        out.print(f"acts only where: {circuit.condition.text}", markup=False)
    out.print(f"layers: {layer_bar(circuit)}\n")
    _neuron_table(circuit, top)


def _is_told(name: str, value: object) -> bool:
    """Whether a fact about an engine is worth a word: parallel sizes beyond one, a quantisation."""
    return name not in {"name", "version", "model_runner", "options"} and value not in (None, False, 1)


def _listed(parts: Sequence[str]) -> str:
    return f" ({', '.join(parts)})" if parts else ""


def report_lines(report: DoseReport) -> list[str]:
    """What a method predicted and measured, in words."""
    measured, predicted = report.measured, report.predicted
    lines = [*_margin_lines(report)]
    if report.neutral.left_out:
        lines.append(f"left out of cost and damage: {report.neutral.left_out} neutral answers that show the behaviour")
    foretold = "" if predicted is None else f" (predicted {predicted.margin:+.2f})"
    lines.append(
        f"at dial 1 on development prompts: margin {measured.margin_before:+.2f} → {measured.margin:+.2f}{foretold}; "
        f"on the other side {measured.other_side_before:+.2f} → {measured.other_side:+.2f}"
    )
    summed = "" if predicted is None else f" (each neuron's own, summed: {predicted.divergence_diagonal:.3g})"
    noise = "" if report.cost is None else f"; split-half noise of the costs {report.cost.split_half_noise:.0%}"
    lines.append(
        f"damage on neutral answers: {measured.divergence:.3g} ± {measured.divergence_standard_error:.1g} nats "
        f"per token over {measured.tokens} tokens{summed}{noise}"
    )
    if measured.reference is not None:
        lines.append(
            f"log-likelihood of the reference answers: {measured.reference_before:+.2f} → {measured.reference:+.2f} a "
            "token (a limit: not to fall)"
        )
    if measured.degenerate is not None:
        lines.append(
            f"degenerate answers on development prompts: {measured.degenerate_before:.0%} → "
            f"{measured.degenerate:.0%} (limited)"
        )
    if measured.broken_before is not None and measured.broken is not None:
        lines.append(f"mean brokenness of these answers: {measured.broken_before:.3f} → {measured.broken:.3f}")
    if len(report.signs) > 1 and report.sign is not None:
        words = {"positive": "neurons that hold it up alone", "both": "with those that hold it down"}
        reached = (f"{words[sign]} {best.margin:+.2f} at {best.divergence:.3g}" for sign, best in report.signs.items())
        lines.append(f"tried: {', '.join(reached)}; taken: {words[report.sign]}")
    if report.fit is not None:
        lines.append(_fit_line(report.fit))
    if report.candidates:
        tried = (f"{name} {best.margin:+.2f} at {best.divergence:.3g}" for name, best in report.candidates.items())
        lines.append(f"neurons searched (layer.index, margin at damage): {', '.join(tried)}")
    if report.shortfall:
        lines.append(f"not met: {report.shortfall} This is the best that was found")
    elif not report.goal.reached:
        lines.append(f"the margin {report.goal.margin:+.2f} was out of reach; this is the nearest")
    if report.seconds:
        parts = sorted(report.seconds.items(), key=lambda part: -part[1])
        whole = duration(sum(report.seconds.values()))
        lines.append(f"took {whole}: {', '.join(f'{name} {duration(seconds)}' for name, seconds in parts)}")
    return lines


def _fit_line(fit: FitReport) -> str:
    before = f"{fit.before.margin:+.2f} at {fit.before.divergence:.3g}"
    after = "no strength within the limits"
    if fit.after is not None:
        after = f"{fit.after.margin:+.2f} at {fit.after.divergence:.3g}"
    kept = "fitted doses taken" if fit.taken else "doses of before taken"
    steps = f"{fit.made} of {fit.asked} steps, best after {fit.steps}"
    return f"fit (development): {before} → {after}; {steps}; {kept}"


def _margin_lines(report: DoseReport) -> Iterator[str]:
    from neurodial.circuit.report import told_apart

    if report.weighed:
        count = max(agreement.answers for agreement in report.weighed.values())
        yield f"margins, on {count} development answers, by {report.judged_by}: {told_apart(report.weighed)}"
    if report.margin == "SpanMargin":
        yield f"margin: {report.margin_text}"
    if report.openers:
        shares = ", ".join(
            f"{share:.0%} of the {side} answers" for side, share in report.coverage.items() if share is not None
        )
        yield f"openers: {_quoted(report.openers)} ({shares})"
    if report.alternatives:
        share = report.alternatives_coverage.get("negative") or 0.0
        yield f"pushed towards: {_quoted(report.alternatives)} ({share:.0%} of negative answers)"


def _quoted(texts: Sequence[str]) -> str:
    """Texts between quotes, line breaks as a person reads them."""
    return ", ".join("“" + text.replace("\n", "⏎") + "”" for text in texts)


def layer_bar(circuit: Circuit) -> str:
    """How many neurons lie in each layer, as a row of blocks."""
    last = max((row.neuron.layer for row in circuit), default=0)
    layers = len(circuit.origin.model.widths) if circuit.origin.model else 1 + last
    counts = [len(circuit.in_layers([layer])) for layer in range(layers)]
    top = max(1, *counts)
    blocks = "".join(_BLOCKS[-(-count * (len(_BLOCKS) - 1) // top)] for count in counts)
    return f"0 ▕{blocks}▏ {layers - 1}   (most in one layer: {max(counts)})"


def describe_method(method: Mapping[str, object]) -> str:
    """A method's options in words: those that are not the defaults of today.

    Example:
        >>> describe_method({"kind": "CNA", "score": "delta", "select": {"kind": "Count", "value": 46}})
        'CNA, with select count:46; otherwise as by default'
    """
    if not method:
        return "by hand"
    kind = str(method["kind"])
    defaults: Mapping[str, object] = next(
        (describe(preset) for preset in presets().values() if type(preset).__name__ == kind), {}
    )
    options = {name: value for name, value in method.items() if name != "kind" and value != defaults.get(name, ...)}
    if not options:
        return f"{kind}, as by default"
    listed = ", ".join(f"{name.replace('_', ' ')} {_option_words(value)}" for name, value in options.items())
    return f"{kind}, with {listed}" + ("; otherwise as by default" if defaults else "")


def _option_words(value: object) -> str:
    """A value from a circuit's record, as a user would type it."""
    if value is None or value in ([], ()):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        inner = [_option_words(item) for name, item in value.items() if name != "kind"]
        return ":".join([str(value.get("kind", "")).lower(), *inner])
    if isinstance(value, list | tuple):
        return ",".join(map(_option_words, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _neuron_table(circuit: Circuit, top: int) -> None:
    kept_shares = circuit.stability.kept if circuit.stability else None
    frequency = dict(zip((row.neuron for row in circuit), kept_shares or (), strict=False))
    cells: dict[str, Callable[[Row], str]] = {"layer": lambda row: str(row.neuron.layer)}
    if any(row.neuron.expert is not None for row in circuit):
        cells["expert"] = lambda row: "" if row.neuron.expert is None else str(row.neuron.expert)
    cells["neuron"] = lambda row: str(row.neuron.index)
    cells["score"] = lambda row: f"{row.score:+.4f}"
    cells["dose"] = lambda row: f"{row.dose:g}"
    if any(row.visits is not None for row in circuit):
        cells["visits (+/-)"] = lambda row: "" if row.visits is None else "{}/{}".format(*row.visits)
    if kept_shares:
        cells["kept in folds"] = lambda row: f"{frequency[row.neuron]:.0%}"
    table = Table(*cells, box=None)
    for row in sorted(circuit, key=lambda row: (-abs(row.score), row.neuron.order))[:top]:
        table.add_row(*(cell(row) for cell in cells.values()))
    out.print(table)
    if len(circuit) > top:
        out.print(f"… and {len(circuit) - top} more", style="dim")


def print_circuit_json(circuit: Circuit) -> None:
    """Print the text of a circuit's file."""
    from neurodial.circuit.file import circuit_json

    print(circuit_json(circuit), end="")
