"""What a neuron reads: the tokens whose embeddings its gate and up rows answer to most.

The row times the gain of the norm before the MLP, times the embedding: what a token of that embedding alone would add
to the row's output, if attention had added nothing. On small models this says little.
"""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurodial.circuit.site import Neuron
from neurodial.model.families import Family
from neurodial.model.subject import Subject, get_module
from neurodial.tracing.neuron import WrittenToken


@torch.no_grad()
def read_tokens(subject: Subject, neuron: Neuron, count: int) -> dict[str, list[WrittenToken]]:
    """The tokens that a neuron's up row, and its gate row where there is one, answer to most, strongest first.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> found = read_tokens(tiny_subject(), Neuron(0, None, 3), 2)
        >>> sorted(found), len(found["gate"])
        (['gate', 'up'], 2)
    """
    embedding = cast(Tensor, subject.model.get_input_embeddings().weight).detach()
    gain = _gain(subject, neuron.layer).to(embedding.device)
    found = {}
    for name, row in _rows(subject, neuron).items():
        added = (embedding.float() @ (row.to(embedding.device) * gain)).cpu()
        added = added - added.mean()
        places = added.argsort(descending=True, stable=True)[:count].tolist()
        found[name] = [WrittenToken(t, subject.tokenizer.decode([t]), float(added[t])) for t in places]
    return found


def norm_before_mlp(family: Family) -> str | None:
    """The norm whose output the MLP reads, or None where it reads the stream itself.

    Example:
        >>> from neurodial.model.families import FAMILIES
        >>> names = {family.name: norm_before_mlp(family) for family in FAMILIES}
        >>> names["llama"], names["gemma2"], names["olmo2"]
        ('post_attention_layernorm', 'pre_feedforward_layernorm', None)
    """
    if family.mlp_write not in family.norms:
        return family.norms[-1]
    before = family.norms[family.norms.index(family.mlp_write) - 1]
    return None if before == family.attention_write else before


def _gain(subject: Subject, layer: int) -> Float[Tensor, "hidden"]:
    path = norm_before_mlp(subject.family)
    norm = None if path is None else get_module(subject.blocks[layer], path)
    weight = getattr(norm, "weight", None)
    if not isinstance(weight, Tensor):
        return torch.ones(subject.hidden_size)
    gain = weight.detach().float()
    return 1 + gain if subject.family.norm == "rms_plus_one" else gain


def _rows(subject: Subject, neuron: Neuron) -> dict[str, Float[Tensor, "hidden"]]:
    family, width = subject.family, subject.widths[neuron.layer]
    paths = {"gate": family.gate, "up": family.up}
    rows = {}
    for name, path in paths.items():
        module = None if path is None else get_module(subject.blocks[neuron.layer], path)
        if module is None:
            continue
        weight = _weight(subject, module)
        first = weight.shape[0] - width
        rows[name] = weight[first + neuron.index]
        if family.fused:
            rows["gate"] = weight[neuron.index]
    return rows


def _weight(subject: Subject, module: nn.Module) -> Float[Tensor, "out hidden"]:
    """A map's weight as (out, in); one that is stored otherwise is read by sending unit vectors through."""
    weight = getattr(module, "weight", None)
    if isinstance(weight, Tensor) and weight.is_floating_point() and not weight.is_meta and weight.dim() == 2:
        return (weight.T if subject.family.transposed else weight).detach().float()
    units = torch.eye(subject.hidden_size, dtype=subject.dtype, device=subject.device)
    answers: Tensor = module(units) - module(torch.zeros_like(units[:1]))
    return answers.float().T
