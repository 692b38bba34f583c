"""`neurodial discover`, `show` and `compare`."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from neurodial.cli.console import bars, err, out, print_json
from neurodial.cli.options import ModelOptions
from neurodial.errors import OptionError

if TYPE_CHECKING:
    from neurodial.attribution.methods import CNA, Dose
    from neurodial.circuit.circuit import Circuit
    from neurodial.prompts.pairs import PairSet

_BLOCKS = " ▁▂▃▄▅▆▇█"


def discover(
    model: str,
    *,
    behaviour: Annotated[str, Parameter(name=["--behaviour", "-b"])],
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    method: str = "cna",
    fraction: float | None = None,
    count: int | None = None,
    score: Literal["delta", "standardised", "auroc"] | None = None,
    sign: Literal["both", "positive", "negative", "tuned"] | None = None,
    position: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    skip_layers: str | None = None,
    universal: Annotated[str | None, Parameter(name="--universal")] = None,
    budget: float | None = None,
    margin_target: Annotated[float | None, Parameter(allow_leading_hyphen=True)] = None,
    direction: Literal["remove", "induce"] | None = None,
    x_max: float | None = None,
    dosing: Literal["closed", "uniform", "full"] | None = None,
    margin: Literal["behaviour", "alternatives", "openers", "answer", "twin"] | None = None,
    neutral: str | None = None,
    passages: int | None = None,
    rounds: int | None = None,
    seed: int | None = None,
    folds: int | None = None,
    system: str | None = None,
    force: bool = False,
    json: bool = False,
    loading: ModelOptions | None = None,
) -> None:
    """Find the neurons behind a behaviour and write them to a circuit file.

    Args:
        model: Hub id, local folder, GGUF file, `demo` (the small model with the refusal organism) or `demo-base`.
        behaviour: a shipped behaviour (see `neurodial behaviours`), or a .jsonl, .csv or .toml file.
        output: the circuit's file; by default BEHAVIOUR.circuit.json.
        method: cna (the paper), cna-reference (every difference of the public code), or dose (effect and cost, with
            a measured dose for each neuron: the one to take where the model gives gradients).
        fraction: share of all MLP neurons to take; the paper takes 0.001.
        count: number of neurons to take, instead of a share.
        score: what neurons are ranked by; the paper takes delta.
        sign: of the scores; the paper takes both. dose: positive (neurons that hold the behaviour up, turned down),
            negative (those that hold it down, turned up), both, or tuned (the default: the better of positive or both).
        position: token that is read: last (the paper), post-instruction (the mean), or an index such as -2.
        skip_layers: layers to leave out, such as 0,1; none by default.
        universal: list of diverse prompts for the universal-neuron filter, a name or a file; `none` for no filter.
        budget: dose: damage in nats per token that dial 1 may do on neutral answers, 0.05 by default; inf for no limit.
        margin_target: dose: the mean margin that dial 1 is to reach on the development prompts; the budget is a limit.
        direction: dose: remove the behaviour (the default), or induce it where it is absent.
        x_max: dose: the largest dose, 3 by default; past 1 a neuron's sign is turned.
        dosing: dose: closed (each neuron its own), uniform (one for all), or full (from their joint curvature).
        margin: dose: what is pushed: alternatives (towards how answers without the behaviour begin), openers (away
            from how the behaviour's answers begin), answer (whole answers in the file), twin (towards the model's own
            answers to the other prompt of each pair), or as the prompt set says.
        neutral: dose: list of neutral prompts for the damage, a name or a file.
        passages: dose: how many of those are answered for the cost, and as many for the damage; all by default.
        rounds: dose: more than 1 takes the effect again at the doses found.
        seed: dose: of the sampled labels.
        folds: prompt folds for the stability measure; 0 for none.
        system: a system message before every prompt.
        force: overwrite the output file.
        json: print the circuit as JSON.
        loading: how the model is loaded.
    """
    from neurodial.files import refuse_existing
    from neurodial.prompts.behaviours import read_pairs

    chosen = _method(method, fraction, count)
    given: dict[str, object] = {
        "score": score, "sign": sign, "budget": budget, "margin_target": margin_target, "direction": direction,
        "x_max": x_max, "dosing": dosing, "margin": margin, "neutral": neutral, "passages": passages,
        "rounds": rounds, "seed": seed, "folds": folds, "system": system,
    }  # fmt: skip
    changes = {name: value for name, value in given.items() if value is not None}
    chosen = _changed(chosen, method, changes | _parsed(position, skip_layers, universal))
    pairs = read_pairs(behaviour)
    _refuse_missing(chosen, pairs)
    target = refuse_existing(output or Path(f"{pairs.behaviour.name}.circuit.json"), overwrite=force)
    subject = (loading or ModelOptions()).load(model)

    from neurodial.discovery import discover as find

    circuit = find(subject, pairs, method=chosen, name=pairs.behaviour.name, progress=bars)
    circuit.write(target, overwrite=force)
    if json:
        _print_circuit_json(circuit)
        return
    show_circuit(circuit, top=10)
    err.print(f"\nwritten: {target}", markup=False)


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
    found = read_circuit(circuit)
    if json:
        _print_circuit_json(found)
    else:
        show_circuit(found, top=top or len(found))


def compare(first: Path, second: Path, *, json: bool = False) -> None:
    """Show what two circuits share, against what chance would give.

    Args:
        first: a circuit's file.
        second: another one, for example of the same model before fine-tuning.
        json: print JSON.
    """
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


def show_circuit(circuit: Circuit, *, top: int) -> None:
    """Print a circuit as a person would read it."""
    origin = circuit.origin
    widths = origin.model.widths if origin.model else ()
    share = f" of {sum(widths)} ({len(circuit) / sum(widths):.3%})" if widths else ""
    size = f": {len(circuit)} neurons{share}; dial 1 means {circuit.direction}"
    out.print(Text.assemble((circuit.name, "bold"), size))
    if origin.model:
        adapter = " with an adapter" if origin.model.adapter_digest else ""
        out.print(f"model: {origin.model.label} ({origin.model.family}{adapter}, {origin.model.dtype})", markup=False)
    out.print(f"method: {describe_method(dict(origin.method))}", markup=False)
    if origin.prompts:
        out.print(f"prompts: {origin.prompts.get('positive')} positive, {origin.prompts.get('negative')} negative")
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
    for line in report_lines(dict(origin.report or {})):
        out.print(line, markup=False)
    out.print(f"layers: {layer_bar(circuit)}\n")
    _neuron_table(circuit, top)


def report_lines(report: dict[str, Any]) -> list[str]:
    """What a method predicted and measured, in words."""
    if "measured" not in report:
        return []
    measured, predicted = report["measured"], report["predicted"]
    lines = []
    if report.get("openers"):
        coverage = report["coverage"]
        shares = ", ".join(
            f"{coverage[side]:.0%} of the {side} answers" for side in coverage if coverage[side] is not None
        )
        lines.append(f"openers: {', '.join(map(repr, report['openers']))} ({shares})")
    if report.get("alternatives"):
        share = report["alternatives_coverage"]["negative"]
        lines.append(
            f"pushed towards: {', '.join(map(repr, report['alternatives']))} ({share:.0%} of negative answers)"
        )
    lines.append(
        f"at dial 1 on development prompts: margin {measured['margin_before']:+.2f} → {measured['margin']:+.2f} "
        f"(predicted {predicted['margin']:+.2f}); on the other side {measured['other_side_before']:+.2f} → "
        f"{measured['other_side']:+.2f}"
    )
    lines.append(
        f"damage on neutral answers: {measured['divergence']:.3g} ± {measured['divergence_standard_error']:.1g} nats "
        f"per token over {measured['tokens']} tokens (predicted {predicted['divergence']:.3g}); split-half noise of "
        f"the costs {report['cost']['split_half_noise']:.0%}"
    )
    if len(report.get("signs", {})) > 1:
        words = {"positive": "neurons that hold it up alone", "both": "with those that hold it down"}
        reached = (
            f"{words[sign]} {one['margin']:+.2f} at {one['divergence']:.3g}" for sign, one in report["signs"].items()
        )
        lines.append(f"tried: {', '.join(reached)}; taken: {words[report['sign']]}")
    if not report["goal"]["reached"]:
        lines.append(f"the margin {report['goal']['margin']:+.2f} was out of reach; this is the nearest")
    return lines


def layer_bar(circuit: Circuit) -> str:
    """How many neurons lie in each layer, as a row of blocks."""
    last = max((row.neuron.layer for row in circuit), default=0)
    layers = len(circuit.origin.model.widths) if circuit.origin.model else 1 + last
    counts = [len(circuit.in_layers([layer])) for layer in range(layers)]
    top = max(1, *counts)
    blocks = "".join(_BLOCKS[-(-count * (len(_BLOCKS) - 1) // top)] for count in counts)
    return f"0 ▕{blocks}▏ {layers - 1}   (most in one layer: {max(counts)})"


def describe_method(method: dict[str, object]) -> str:
    """A method's options in one line."""
    if not method:
        return "by hand"
    parts = []
    for key, value in method.items():
        if key == "kind":
            continue
        shown = value
        if isinstance(value, dict):
            inner = ", ".join(f"{name} {item}" for name, item in value.items() if name != "kind")
            shown = f"{value.get('kind')}({inner})" if inner else value.get("kind")
        parts.append(f"{key} {shown}")
    return f"{method.get('kind')} — {'; '.join(parts)}"


def _neuron_table(circuit: Circuit, top: int) -> None:
    kept = circuit.stability.kept if circuit.stability else None
    table = Table("layer", "neuron", "score", "dose", *(["kept in folds"] if kept else []), box=None)
    frequency = dict(zip((row.neuron for row in circuit), kept or (), strict=False))
    ranked = sorted(circuit, key=lambda row: (-abs(row.score), row.neuron.layer, row.neuron.index))
    for row in ranked[:top]:
        cells = [str(row.neuron.layer), str(row.neuron.index), f"{row.score:+.4f}", f"{row.dose:g}"]
        table.add_row(*cells, *([f"{frequency[row.neuron]:.0%}"] if kept else []))
    out.print(table)
    if len(circuit) > top:
        out.print(f"… and {len(circuit) - top} more", style="dim")


def _print_circuit_json(circuit: Circuit) -> None:
    from neurodial.circuit.file import circuit_json

    print(circuit_json(circuit), end="")


def _method(name: str, fraction: float | None, count: int | None) -> CNA | Dose:
    from neurodial.attribution.methods import method
    from neurodial.circuit.select import Count, Fraction

    if fraction is not None and count is not None:
        raise OptionError("Both --fraction and --count are given.", wanted="one of them")
    chosen = method(name)
    if fraction is not None:
        return dataclasses.replace(chosen, select=Fraction(fraction))
    return chosen if count is None else dataclasses.replace(chosen, select=Count(count))


def _changed(chosen: CNA | Dose, name: str, changes: dict[str, object]) -> CNA | Dose:
    """The method with other options; an option that it lacks is an error."""
    known = {field.name for field in dataclasses.fields(chosen)}
    for option in changes:
        if option not in known:
            shown = ", ".join(f"--{known_one.replace('_', '-')}" for known_one in sorted(known - {"select"}))
            raise OptionError(
                f"--{option.replace('_', '-')} is no option of method {name}.", wanted=f"--fraction, --count, {shown}"
            )
    if changes.get("budget") == math.inf:
        changes = {**changes, "budget": None}
    return dataclasses.replace(chosen, **changes)  # type: ignore[arg-type]


def _refuse_missing(chosen: CNA | Dose, pairs: PairSet) -> None:
    """Refuse now, and not after the model is loaded, what the method will read and is not there."""
    from neurodial.attribution.methods import Dose
    from neurodial.prompts.behaviours import read_prompt_list

    pairs.split("discovery")
    if isinstance(chosen, Dose):
        pairs.split("development")
        read_prompt_list(chosen.neutral)
    elif chosen.universal is not None:
        read_prompt_list(chosen.universal.prompts)


def _parsed(position: str | None, skip_layers: str | None, universal: str | None) -> dict[str, object]:
    from neurodial.activations.position import parse_position
    from neurodial.attribution.methods import UniversalFilter

    found: dict[str, object] = {}
    if position is not None:
        found["position"] = parse_position(position)
    if skip_layers is not None:
        try:
            found["skip_layers"] = tuple(int(part) for part in skip_layers.split(",") if part)
        except ValueError:
            raise OptionError(f"The layers to skip are {skip_layers!r}.", wanted="numbers, such as 0,1") from None
    if universal is not None:
        found["universal"] = None if universal == "none" else UniversalFilter(universal)
    return found
