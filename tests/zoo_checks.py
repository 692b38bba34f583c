"""What a model type can do: each capability is tried on a tiny model of it, and told as `yes` or the reason why not."""

from __future__ import annotations

import dataclasses
import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tests.subjects import differences, same_bits, snapshot
from tests.zoo import zoo_subject

import neurodial as nd
from neurodial.activations.collect import Reading, collect
from neurodial.activations.position import Last
from neurodial.circuit.circuit import Circuit, Origin, Row
from neurodial.circuit.site import Neuron, Site
from neurodial.discovery import find
from neurodial.errors import LayoutError, NeurodialError
from neurodial.export.export_circuit import export_circuit
from neurodial.export.formats import export_format
from neurodial.intervention.scale import Scale
from neurodial.model.expert_rows import up_rows
from neurodial.model.gradients import multiplier_slopes
from neurodial.model.head import hidden_states, logits
from neurodial.model.known_models import CAPABILITIES, YES, BlockNames
from neurodial.model.parts import untraceable
from neurodial.model.subject import Subject
from neurodial.tracing.question import Question
from neurodial.tracing.relevance import relevance

TOLERANCE = 2e-4
"""Largest difference allowed, relative to the largest number: float32 sums in another order, through every layer.

A wrong row, token or dial is off by a hundred times as much; the checks assert that too.
"""
TEXTS = ("sun", "old river", "a", "the way home")
SHOWN, HIDDEN = "!", "?"


class CheckFailedError(Exception):
    """A check that did not hold; the text says which."""


def expect(holds: bool, reason: str) -> None:
    """Raise `CheckFailedError` unless something holds."""
    if not holds:
        raise CheckFailedError(reason)


def off_by(first: torch.Tensor, second: torch.Tensor) -> float:
    """The largest difference, relative to the largest number."""
    scale = max(float(first.abs().max()), float(second.abs().max()), 1e-30)
    return float((first.double() - second.double()).abs().max()) / scale


@torch.no_grad()
def outputs(subject: Subject, rows: list[list[int]]) -> list[torch.Tensor]:
    """The model's own logits of each row, of one batch padded on the right."""
    longest = max(map(len, rows))
    ids = torch.tensor([row + [258] * (longest - len(row)) for row in rows])
    mask = (torch.arange(longest) < torch.tensor([len(row) for row in rows])[:, None]).long()
    found = subject.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    return [found[place, : len(row)] for place, row in enumerate(rows)]


def rows_of(subject: Subject, texts: tuple[str, ...] = TEXTS) -> list[list[int]]:
    """Token ids."""
    return [list(subject.tokenizer(text)["input_ids"]) for text in texts]


def circuit_on(subject: Subject, shift: int = 0, dose: float = 1.5) -> Circuit:
    """Two neurons of every dense MLP, one of every routed expert."""
    rows = []
    for site in subject.sites:
        *experts, width = subject.shape(site)
        for number in range(experts[0] if experts else 2):
            neuron = Neuron(site.layer, number if experts else None, (7 * number + shift) % width)
            rows.append(Row(neuron, 1.0, dose))
    return Circuit.of(rows, name="zoo", origin=Origin(model=subject.identity))


def steer(subject: Subject) -> None:
    """Dial 0 keeps every bit, hook = baked, a dial for each row, composed circuits, the model given back."""
    before, row = snapshot(subject.model), rows_of(subject)[3]
    [plain] = outputs(subject, [row])
    first, second = circuit_on(subject), circuit_on(subject, 3, -0.5)
    with nd.steer(subject, Scale(first, dial=0.0)):
        expect(same_bits(outputs(subject, [row])[0], plain), "dial 0 changes bits")
    with nd.steer(subject, Scale(first), Scale(second, dial=2.0)):
        [hooked] = outputs(subject, [row])
    expect(differences(before, snapshot(subject.model)) == [], "the model is not given back as it was")
    expect(off_by(hooked, plain) > 10 * TOLERANCE, "steering changes nothing")
    expect(off_by(hooked, baked(subject, [(first, 1.0), (second, 2.0)], row)) < TOLERANCE, "hook and weights differ")
    rows, dials = rows_of(subject), [0.0, 1.0, -1.0, 0.5]
    with nd.steer(subject, Scale(first, dial=dials)):
        together = outputs(subject, rows)
    for each, dial, found in zip(rows, dials, together, strict=True):
        with nd.steer(subject, Scale(first, dial=dial)):
            alike = off_by(found, outputs(subject, [each])[0]) < TOLERANCE
            expect_or_why(subject, alike, "a row of a batch is not as by itself")


def expect_or_why(subject: Subject, holds: bool, reason: str) -> None:
    """As `expect`; told where attention looks at the best tokens only: there a small change can become a large one."""
    if holds:
        return
    rows = rows_of(subject, tuple(text + end for end in (SHOWN, HIDDEN) for text in TEXTS))
    pairs = zip(outputs(subject, rows), (outputs(subject, [row])[0] for row in rows), strict=True)
    chosen = getattr(subject.model.config.get_text_config(), "index_topk", None)
    if chosen is not None and any(off_by(together, alone) >= TOLERANCE for together, alone in pairs):
        reason += f"; unsteered too, a row is not as by itself: attention looks at its {chosen} best tokens only, "
        reason += "and rounding changes which"
    raise CheckFailedError(reason)


def baked(subject: Subject, scales: list[tuple[Circuit, float]], row: list[int]) -> torch.Tensor:
    """The logits with the circuits' columns scaled by hand, weights put back afterwards."""
    weights = {site: subject.down_weight(site) for site in subject.sites}
    kept = {site: weight.detach().clone() for site, weight in weights.items()}
    with torch.no_grad():
        multipliers: dict[Neuron, float] = {}
        for circuit, dial in scales:
            for entry in circuit:
                multipliers[entry.neuron] = multipliers.get(entry.neuron, 1.0) - dial * entry.dose
        for neuron, multiplier in multipliers.items():
            column_of(weights, neuron).mul_(multiplier)
        found = outputs(subject, [row])[0]
        for site, weight in weights.items():
            weight.copy_(kept[site])
    return found


def column_of(weights: dict[Site, torch.Tensor], neuron: Neuron) -> torch.Tensor:
    """The column of the down weight that a neuron is written with; a view."""
    weight = weights[neuron.site] if neuron.expert is None else weights[neuron.site][neuron.expert]
    return weight[:, neuron.index]


def discover(subject: Subject) -> None:
    """CNA finds a neuron that was planted; reading with and without a shared prefix agree.

    Scores of routed experts are those that the gradients of their weights give.
    """
    planted = plant(subject)
    contrast = nd.Contrast.of([text + SHOWN for text in TEXTS], [text + HIDDEN for text in TEXTS])
    found = find(subject, contrast, method=nd.CNA(universal=None, folds=0), select=nd.Count(1))
    circuit = found.circuit
    expect(circuit.rows[0].neuron == planted, f"found {tuple(circuit.rows[0].neuron)}, planted {tuple(planted)}")
    for site in subject.sites:
        if site.routed:
            alike = off_by(found.scores[site], gap(subject, site)) < TOLERANCE
            expect_or_why(subject, alike, "scores of experts and weights differ")
    sequences = [(256, *range(40, 46), *row) for row in rows_of(subject)]
    apart, shared = (read(subject, sequences, share) for share in (False, True))
    expect(off_by(apart, shared) < TOLERANCE, "a shared prefix changes activations")


def read(subject: Subject, sequences: list[tuple[int, ...]], share: bool) -> torch.Tensor:
    """Activations (prompt, neuron) of the whole model."""
    parts: dict[tuple[int, Site], torch.Tensor] = {}

    def keep(site: Site, activations: torch.Tensor, rows: tuple[int, ...]) -> None:
        parts.update({(row, site): values.clone() for row, values in zip(rows, activations, strict=True)})

    collect(subject, sequences, Reading(Last(), share_prefix=share), keep)
    return torch.stack(
        [torch.cat([parts[row, site].flatten() for site in subject.sites]) for row in range(len(sequences))]
    )


@torch.no_grad()
def plant(subject: Subject) -> Neuron:
    """Make a neuron of the last plantable site tell the two tokens apart: its rows give 8 on one and 0 on the other.

    Where a norm or the like stands before the neurons, and where there are routed experts alone, the neuron that tells
    them apart most is taken instead.
    """
    texts = [text + end for end in (SHOWN, HIDDEN) for text in TEXTS]
    wanted = torch.tensor([8.0, 0.0], dtype=torch.float64).repeat_interleave(len(TEXTS))
    for layer, site in reversed(list(subject.layout.sites)):
        if site.up is None or (site.is_gated and site.gate is None):
            continue
        for rows in dict.fromkeys(filter(None, (site.up, site.gate))):
            linear = subject.blocks[layer].get_submodule(rows.path)
            given = last_inputs(subject, linear, texts).double()
            place = range(2 * site.width)[rows.features(site.width)][5]
            weight = linear.weight.T if linear.weight.shape[1] != given.shape[1] or site.transposed else linear.weight
            weight[place] = torch.linalg.lstsq(given, wanted).solution.float()
            if getattr(linear, "bias", None) is not None:
                linear.bias[place] = 0.0
        return Neuron(layer, None, 5)
    gaps = {site: gap(subject, site).abs() for site in subject.sites}
    best = max(gaps, key=lambda site: float(gaps[site].max()))
    place = int(gaps[best].argmax())
    expert, index = divmod(place, subject.shape(best)[-1])
    return Neuron(best.layer, expert if best.routed else None, index)


def gap(subject: Subject, site: Site) -> torch.Tensor:
    """How far the two tokens' mean activations lie apart, read without the tool."""
    texts = [text + end for end in (SHOWN, HIDDEN) for text in TEXTS]
    table = last_visits(subject, site, texts) if site.routed else last_inputs(subject, subject.down(site), texts)
    return table[: len(TEXTS)].mean(0) - table[len(TEXTS) :].mean(0)


def last_visits(subject: Subject, site: Site, texts: list[str]) -> torch.Tensor:
    """Routing weight times activation of each expert's neurons at the last token of each text.

    It is what a column of an expert's weight is multiplied by, so the gradient of the output by the weight tells it.
    """
    experts = subject.experts(site.layer)
    module = subject.blocks[site.layer].get_submodule(experts.module)
    weight, outputs, tables = module.get_parameter(experts.down), [], []
    handle = module.register_forward_hook(lambda *args: outputs.append(args[-1]))
    needed = weight.requires_grad
    try:
        weight.requires_grad_(True)
        for row in rows_of(subject, tuple(texts)):
            outputs.clear()
            with torch.enable_grad():
                subject.model(input_ids=torch.tensor([row]), use_cache=False)
                last = outputs[0].reshape(-1, len(row), outputs[0].shape[-1])[:, -1].sum(dim=0)
                along = torch.linspace(0.5, 1.5, len(last))
                [slopes] = torch.autograd.grad(last @ along, weight)
            slopes = slopes.reshape(experts.experts, -1, slopes.shape[-1])
            slopes = slopes.mT if experts.transposed else slopes
            tables.append(torch.einsum("ehn,h->en", slopes, along) / along.square().sum())
    finally:
        handle.remove()
        weight.requires_grad_(needed)
    return torch.stack(tables)


@torch.no_grad()
def last_inputs(subject: Subject, linear: torch.nn.Module, texts: list[str]) -> torch.Tensor:
    """What a map is given at the last token of each text."""
    seen: list[torch.Tensor] = []
    handle = linear.register_forward_pre_hook(lambda _, args: seen.append(args[0].reshape(-1, args[0].shape[-1])[-1]))
    try:
        for row in rows_of(subject, tuple(texts)):
            subject.model(input_ids=torch.tensor([row]), use_cache=False)
    finally:
        handle.remove()
    return torch.stack(seen)


def dose(subject: Subject) -> None:
    """Hidden states become the model's own logits, slopes reach every site, and one equals a finite difference."""
    [row] = rows_of(subject, ("the way home",))
    tokens = torch.tensor([row])
    with torch.no_grad():
        expect(
            off_by(logits(subject, hidden_states(subject, tokens))[0], outputs(subject, [row])[0]) < TOLERANCE, "logits"
        )
    slopes: dict[Site, torch.Tensor] = {}
    with multiplier_slopes(subject, lambda site, slope: slopes.update({site: slope[0]})):
        value_of(subject, tokens).backward()
    expect(set(slopes) == set(subject.sites), "no slope reaches some layers")
    for routed in (site for site in subject.sites if site.routed):
        expect(off_by(slopes[routed], weight_slopes(subject, routed, tokens)) < 10 * TOLERANCE, "slopes of experts")
    site = max(slopes, key=lambda each: float(slopes[each].abs().max()))
    expert, index = divmod(int(slopes[site].abs().argmax()), subject.shape(site)[-1])
    neuron = Neuron(site.layer, expert if site.routed else None, index)
    circuit, step = Circuit.of([Row(neuron, 1.0, 1.0)]), 0.02
    ends = []
    for dial in (-step, step):
        with torch.no_grad(), nd.steer(subject, Scale(circuit, dial=dial)):
            ends.append(float(value_of(subject, tokens)))
    measured, slope = (ends[0] - ends[1]) / (2 * step), float(slopes[site][neuron.place])
    alike = abs(measured - slope) <= 0.03 * abs(slope)
    expect_or_why(subject, alike, f"a slope is {slope:.4g}, measured {measured:.4g}")


def weight_slopes(subject: Subject, site: Site, tokens: torch.Tensor) -> torch.Tensor:
    """The slope in each neuron's multiplier, by the gradient of the weight: the column times its own gradient."""
    experts = subject.experts(site.layer)
    weight = subject.blocks[site.layer].get_submodule(experts.module).get_parameter(experts.down)
    with torch.enable_grad():
        [slopes] = torch.autograd.grad(value_of(subject, tokens), weight)
    products = (weight.detach() * slopes).reshape(experts.experts, -1, weight.shape[-1])
    return products.sum(dim=-1 if experts.transposed else -2)


def value_of(subject: Subject, tokens: torch.Tensor) -> torch.Tensor:
    """A number of the last position's logits."""
    last = logits(subject, hidden_states(subject, tokens)[:, -1])[0]
    return last[40] - last[41] + last[42] / 2


def trace(subject: Subject) -> None:
    """Without biases, relevance is conserved: at every depth it sums to the target's value."""
    reason = untraceable(subject.layout)
    expect(reason is None, str(reason))
    with torch.no_grad():
        for name, parameter in subject.model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
    [found] = relevance(subject, [Question(tuple(rows_of(subject)[3]), 40, 41)])
    sums = [float(found.inputs.double().sum()), *(float(hidden.double().sum()) for hidden in found.hidden)]
    worst = max(abs(total - found.value) for total in sums)
    scale = max(abs(found.value), *(float(hidden.abs().max()) for hidden in found.hidden))
    expect(worst <= 10 * TOLERANCE * scale, f"relevance sums to {sums[0]:.4g}, the target is {found.value:.4g}")


def exported(route: str) -> Callable[[Subject], None]:
    """The check of an export: the files are loaded again and do what the hook does."""

    def check(subject: Subject) -> None:
        circuit = circuit_on(subject)
        has_experts = any(row.neuron.expert is not None for row in circuit)
        if has_experts and not export_format(route).takes_experts:
            expect(bool(subject.dense_sites), "it holds no neurons of routed experts")
            circuit = dataclasses.replace(circuit, rows=tuple(row for row in circuit if row.neuron.expert is None))
        with tempfile.TemporaryDirectory() as folder:
            export_circuit(subject, Scale(circuit, dial=0.75), route=route, output=Path(folder) / route)
        expect(not has_experts or export_format(route).takes_experts, "dense and shared MLPs only, not routed experts")

    return check


def gguf(subject: Subject) -> None:
    """Whether llama.cpp's name is known and a row of up scales a neuron; the bits are tested on files elsewhere."""
    expect(subject.engines.gguf is not None, "llama.cpp's name of it is not known here")
    expect(all(site.up_rows_scale for _, site in subject.layout.sites), "as an adapter only: no row scales a neuron")
    expect(all(up_rows(subject, layer) for layer, _ in subject.layout.experts), "no row scales a neuron of the experts")


CHECKS: dict[str, Callable[[Subject], None]] = {
    "steer": steer,
    "discover": discover,
    "dose": dose,
    "lora": exported("lora"),
    "ia3": exported("ia3"),
    "weights": exported("weights"),
    "gguf": gguf,
    "trace": trace,
}


def told(check: Callable[[Subject], None], subject: Subject) -> str:
    """`yes`, or why not."""
    try:
        check(subject)
    except NeurodialError as error:
        return error.problem
    except CheckFailedError as error:
        return str(error)
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError, NotImplementedError) as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:160]
    return YES


def row_of(model_type: str, *, images: bool = False) -> dict[str, Any]:
    """A model type's row of the table: its sites and each capability. Warnings of transformers change nothing in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _row_of(model_type, images=images)


def _row_of(model_type: str, *, images: bool) -> dict[str, Any]:
    try:
        subject = zoo_subject(model_type, images=images)
    except NeurodialError as error:
        refused = f"{error.problem} {('Wanted: ' + error.wanted) if error.wanted else ''}".strip()
        mlp = error.mlp if isinstance(error, LayoutError) else None
        return {"refused": refused} | ({} if mlp is None else {"mlp": mlp})
    except Exception as error:  # noqa: BLE001  # transformers raises anything where a shrunk configuration does not fit
        return {"not built": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:160]}
    found = {name: told(check, subject) for name, check in CHECKS.items()}
    names = json.loads(json.dumps(dataclasses.asdict(BlockNames.of(subject.layout))))
    maps = [site.down for _, site in subject.layout.sites]
    maps += [f"{experts.module}.{experts.down} of routed experts" for _, experts in subject.layout.experts]
    maps += ["routed experts not read" for block in subject.layout.blocks if block.unread]
    routed = any(block.routed for block in subject.layout.blocks)
    kind = "dense" if not routed else "mixed" if subject.dense_sites else "routed"
    where = {"neurons": ", ".join(dict.fromkeys(maps)), "mlp": kind}
    return {**where, **{name: found[name] for name in CAPABILITIES}, "block_names": names}
