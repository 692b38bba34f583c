"""`neurodial discover`, `show` and `compare`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from neurodial.cli.console import bars, err, out, print_json
from neurodial.cli.options import ModelOptions
from neurodial.errors import OptionError

if TYPE_CHECKING:
    from neurodial.attribution.methods import CNA
    from neurodial.circuit.circuit import Circuit

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
    sign: Literal["both", "positive", "negative"] | None = None,
    position: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    skip_layers: str | None = None,
    universal: Annotated[str | None, Parameter(name="--universal")] = None,
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
        method: cna (the paper) or cna-reference (every difference of the public code).
        fraction: share of all MLP neurons to take; the paper takes 0.001.
        count: number of neurons to take, instead of a share.
        score: what neurons are ranked by; the paper takes delta.
        sign: of the scores; the paper takes both.
        position: token that is read: last (the paper), post-instruction (the mean), or an index such as -2.
        skip_layers: layers to leave out, such as 0,1; none by default.
        universal: list of diverse prompts for the universal-neuron filter, a name or a file; `none` for no filter.
        folds: prompt folds for the stability measure; 0 for none.
        system: a system message before every prompt.
        force: overwrite the output file.
        json: print the circuit as JSON.
        loading: how the model is loaded.
    """
    from neurodial.files import refuse_existing
    from neurodial.prompts.behaviours import read_pairs, read_prompt_list

    chosen = _method(method, fraction, count)
    given = {"score": score, "sign": sign, "folds": folds, "system": system}
    changes: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    changes |= _parsed(position, skip_layers, universal)
    chosen = dataclasses.replace(chosen, **changes)  # type: ignore[arg-type]
    pairs = read_pairs(behaviour)
    contrast = pairs.discovery
    if chosen.universal is not None:
        read_prompt_list(chosen.universal.prompts)  # refused now, not after the model is loaded
    target = refuse_existing(output or Path(f"{pairs.behaviour.name}.circuit.json"), overwrite=force)
    subject = (loading or ModelOptions()).load(model)

    from neurodial.discovery import discover as find

    circuit = find(subject, contrast, method=chosen, name=pairs.behaviour.name, progress=bars)
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
    out.print(f"layers: {layer_bar(circuit)}\n")
    _neuron_table(circuit, top)


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


def _method(name: str, fraction: float | None, count: int | None) -> CNA:
    from neurodial.attribution.methods import method
    from neurodial.circuit.select import Count, Fraction

    if fraction is not None and count is not None:
        raise OptionError("Both --fraction and --count are given.", wanted="one of them")
    chosen = method(name)
    if fraction is not None:
        return dataclasses.replace(chosen, select=Fraction(fraction))
    return chosen if count is None else dataclasses.replace(chosen, select=Count(count))


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
