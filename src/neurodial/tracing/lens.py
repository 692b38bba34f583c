"""What a neuron reads: the tokens whose embeddings its gate and up rows answer to most.

The row times the gain of the norm before the MLP, times the embedding: what a token of that embedding alone would add
to the row's output, if attention had added nothing. On small models this says little. Of a routed expert the up row
alone is read, where one is found that scales the neuron.
"""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurodial.circuit.site import Neuron
from neurodial.model.expert_rows import up_row
from neurodial.model.named_modules import get_module
from neurodial.model.parts import gain_before_mlp
from neurodial.model.plain_weight import is_plain
from neurodial.model.subject import Subject
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


def _gain(subject: Subject, layer: int) -> Float[Tensor, "hidden"]:
    gain = gain_before_mlp(subject, layer)
    return torch.ones(subject.hidden_size) if gain is None else gain.detach().float()


def _rows(subject: Subject, neuron: Neuron) -> dict[str, Float[Tensor, "hidden"]]:
    if neuron.expert is not None:
        row = up_row(subject, neuron)
        return {} if row is None else {"up": row.detach().float()}
    site = subject.mlp(neuron.site)
    rows = {}
    for name, feeding in (("gate", site.gate), ("up", site.up)):
        if feeding is not None:
            module = get_module(subject.blocks[neuron.layer], feeding.path)
            if module is not None:
                rows[name] = _weight(subject, module)[feeding.features(site.width)][neuron.index]
    return rows


def _weight(subject: Subject, module: nn.Module) -> Float[Tensor, "out hidden"]:
    """A map's weight as (out, in); one that is stored otherwise is read by sending unit vectors through."""
    weight = getattr(module, "weight", None)
    if type(module) is nn.Linear and is_plain(weight):
        return weight.detach().float()
    units = torch.eye(subject.hidden_size, dtype=subject.dtype, device=subject.device)
    answers: Tensor = module(units) - module(torch.zeros_like(units[:1]))
    return answers.float().T
