"""Mixtures of experts for tests: what is read of them by hand, and a circuit of one neuron of every expert."""

from functools import cache

import torch
from torch.nn import functional

from neurodial.circuit.circuit import Circuit, Origin, Row
from neurodial.circuit.site import Neuron
from neurodial.model.tiny import tiny_subject


@cache
def subject_of(name, way="batched_mm"):
    """In float64, but for the grouped product, which takes none. Each is made once, and every test gives it back."""
    subject = tiny_subject(name)
    subject.model.to(torch.float32 if way == "grouped_mm" else torch.float64)
    subject.model.config._experts_implementation = way
    return subject


def near(first, second):
    """Equal up to rounding, relative to the largest number: some routers compute in float32 whatever the model does."""
    bound = 1e-5 if first.dtype == second.dtype == torch.float64 else 2e-4
    return bool((first - second).abs().max() <= bound * max(1.0, float(second.abs().max())))


def by_hand(subject, layer, row):
    """Routing weight times activation (token, expert, neuron) of one row, each expert by itself."""
    module = subject.blocks[layer].get_submodule(subject.experts(layer).module)
    given = []
    handle = module.register_forward_pre_hook(
        lambda _, args, kwargs: given.extend([*args, *kwargs.values()]), with_kwargs=True
    )
    plain_logits(subject, [row])
    handle.remove()
    hidden, index, weights = given
    table = torch.zeros(len(hidden), *subject.experts(layer).shape, dtype=hidden.dtype)
    for token in range(len(hidden)):
        for choice, expert in enumerate(index[token].tolist()):
            table[token, expert] = weights[token, choice] * activation(subject, module, expert, hidden[token])
    return table.detach()


def activation(subject, module, expert, hidden):
    if subject.layout.label == "gpt_oss":
        both = hidden @ module.gate_up_proj[expert] + module.gate_up_proj_bias[expert]
        gate, up = both[::2].clamp(max=module.limit), both[1::2].clamp(-module.limit, module.limit)
        return (up + 1) * gate * torch.sigmoid(1.702 * gate)
    gate, up = (module.gate_up_proj[expert] @ hidden).chunk(2)
    return functional.silu(gate) * up


def routed_circuit(subject, dose=1.0, shift=0):
    """One neuron of every expert."""
    rows = [
        Row(Neuron(layer, expert, (5 * expert + shift) % site.width), 1.0, dose)
        for layer, site in subject.layout.experts
        for expert in range(site.experts)
    ]
    return Circuit.of(rows, name="routed", origin=Origin(model=subject.identity))


def plain_logits(subject, rows):
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[258] * (longest - len(row))] for row in rows])
    mask = (torch.arange(longest) < torch.tensor([len(row) for row in rows])[:, None]).long()
    with torch.no_grad():
        found = subject.model(input_ids=ids, attention_mask=mask).logits
    return [values[: len(row)] for values, row in zip(found, rows, strict=True)]
