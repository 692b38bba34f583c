"""`neurodial discover`."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from neurodial.cli.circuits_command import print_circuit_json, show_circuit
from neurodial.cli.console import bars, err
from neurodial.cli.options import ModelOptions, TwoLists
from neurodial.errors import OptionError

if TYPE_CHECKING:
    from neurodial.methods.registry import Method


def discover(
    model: str,
    *,
    behaviour: Annotated[str | None, Parameter(name=["--behaviour", "-b"])] = None,
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
    dosing: Literal["closed", "uniform"] | None = None,
    margin: Literal["behaviour", "alternatives", "openers", "answer", "own-answers"] | None = None,
    neutral: str | None = None,
    passages: int | None = None,
    max_degenerate: float | None = None,
    candidates: int | None = None,
    layers: float | None = None,
    seed: int | None = None,
    folds: int | None = None,
    system: str | None = None,
    force: bool = False,
    json: bool = False,
    lists: TwoLists | None = None,
    loading: ModelOptions | None = None,
) -> None:
    """Find the neurons behind a behaviour and write them to a circuit file.

    Args:
        model: Hub id, local folder, GGUF file, `demo` (the small model with the refusal organism) or `demo-base`.
        behaviour: a shipped behaviour (see `neurodial behaviours`), or a file of contrasted prompts.
        output: the circuit's file; by default BEHAVIOUR.circuit.json.
        method: cna (the paper), cna-reference (every difference of the public code), dose (effect and cost, with
            a measured dose for each neuron: the one to take where the model gives gradients), or single (the one
            neuron that goes furthest within the budget).
        fraction: share of all MLP neurons to take; the paper takes 0.001.
        count: number of neurons to take, instead of a share.
        score: what neurons are ranked by; the paper takes delta.
        sign: of the scores; the paper takes both. dose: positive (neurons that hold the behaviour up, turned down),
            negative (those that hold it down, turned up), both, or tuned (the default: the better of positive or both).
        position: token that is read: last (the paper), post-instruction (the mean), or an index such as -2.
        skip_layers: layers to leave out, such as 0,1; none by default.
        universal: list of diverse prompts for the universal-neuron filter, a name or a file; `none` for no filter.
        budget: dose, single: damage in nats per token that dial 1 may do on neutral answers, 0.05 by default; inf for
            no limit.
        margin_target: dose, single: the mean margin that dial 1 is to reach on the development prompts; the budget is
            a limit.
        direction: dose, single: remove the behaviour (the default), or induce it where it is absent.
        x_max: dose, single: the largest dose, 3 and 9 by default; past 1 a neuron's sign is turned.
        dosing: dose: closed (each neuron its own), or uniform (one for all).
        margin: dose, single: what is pushed: alternatives (towards how answers without the behaviour begin), openers
            (away from how the behaviour's answers begin), answer (whole answers in the file), own-answers (towards the
            model's own answers to the other prompt of each pair), or as the prompt set says.
        neutral: dose, single: list of neutral prompts for the damage, a name or a file.
        passages: dose, single: how many of those are answered for the damage, and as many for the cost; all by default.
        max_degenerate: dose, single: how many more answers to the development prompts may break down (loops, gibberish)
            than without steering, as a share such as 0.05; by default no answers are looked at.
        candidates: single: how many neurons are searched, 5 by default.
        layers: single: share of the layers that they come from, from the first; the paper takes two thirds.
        seed: dose: of the sampled labels.
        folds: prompt folds for the stability measure; 0 for none.
        system: a system message before every prompt.
        force: overwrite the output file.
        json: print the circuit as JSON.
        lists: the behaviour as two files.
        loading: how the model is loaded.
    """
    from neurodial.files import refuse_existing
    from neurodial.methods.check import check_method

    chosen = _method(method, fraction, count)
    given: dict[str, object] = {
        "score": score, "sign": sign, "budget": budget, "margin_target": margin_target, "direction": direction,
        "x_max": x_max, "dosing": dosing, "margin": margin, "neutral": neutral,
        "passages": passages, "max_degenerate": max_degenerate, "candidates": candidates, "layers": layers,
        "seed": seed, "folds": folds, "system": system,
    }  # fmt: skip
    changes = {name: value for name, value in given.items() if value is not None}
    chosen = _changed(chosen, method, changes | _parsed(position, skip_layers, universal))
    pairs = (lists or TwoLists()).pairs(behaviour)
    check_method(chosen, pairs)
    target = refuse_existing(output or Path(f"{pairs.behaviour.name}.circuit.json"), overwrite=force)
    subject = (loading or ModelOptions()).load(model)

    from neurodial.discovery import discover as find

    circuit = find(subject, pairs, method=chosen, name=pairs.behaviour.name, progress=bars)
    circuit.write(target, overwrite=force)
    if json:
        print_circuit_json(circuit)
        return
    show_circuit(circuit, top=10)
    err.print(f"\nwritten: {target}", markup=False)


def _method(name: str, fraction: float | None, count: int | None) -> Method:
    from neurodial.circuit.selection import Count, Fraction
    from neurodial.methods.registry import method

    if fraction is not None and count is not None:
        raise OptionError("Both --fraction and --count are given.", wanted="one of them")
    chosen = method(name)
    if fraction is not None:
        return _changed(chosen, name, {"select": Fraction(fraction)})
    return chosen if count is None else _changed(chosen, name, {"select": Count(count)})


def _changed(chosen: Method, name: str, changes: dict[str, object]) -> Method:
    """The method with other options; an option that it lacks is an error."""
    known = {field.name for field in dataclasses.fields(chosen)}
    for option in changes:
        if option not in known:
            typed = "fraction or --count" if option == "select" else option.replace("_", "-")
            selected = ["--fraction", "--count"] if "select" in known else []
            others = [f"--{other.replace('_', '-')}" for other in sorted(known - {"select"})]
            raise OptionError(f"--{typed} is no option of method {name}.", wanted=", ".join([*selected, *others]))
    if changes.get("budget") == math.inf:
        changes = {**changes, "budget": None}
    return dataclasses.replace(chosen, **changes)  # type: ignore[arg-type]


def _parsed(position: str | None, skip_layers: str | None, universal: str | None) -> dict[str, object]:
    from neurodial.activations.position import parse_position
    from neurodial.methods.cna.options import UniversalFilter

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
