"""What one neuron writes.

It writes its column of the down projection to the residual stream. Times the gain of the final norm and through the
unembedding, less the mean over the vocabulary, that is what it adds to each logit per unit of activation, if nothing
came after it: the norm's scale, later blocks and norms after the MLP are left out.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from neurodial.circuit.site import Neuron
from neurodial.model.head import logits
from neurodial.model.parts import final_gain
from neurodial.model.subject import Subject


class WrittenToken(NamedTuple):
    """A token and what a unit of the neuron's activation adds to its logit."""

    token: int
    text: str
    weight: float


@torch.no_grad()
def written_tokens(subject: Subject, neuron: Neuron, count: int = 10) -> tuple[list[WrittenToken], list[WrittenToken]]:
    """The tokens that a neuron promotes most, and those that it holds down most, strongest first.

    Raises:
        ModelError: the neuron's column can't be read.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> up, down = written_tokens(tiny_subject(), Neuron(0, None, 3), count=2)
        >>> up[0].weight >= up[1].weight > down[1].weight >= down[0].weight
        True
    """
    place = neuron.number(subject.shape(neuron.site))
    return tokens_of_write(subject, subject.down_columns(neuron.site, [place])[:, 0], count)


@torch.no_grad()
def tokens_of_write(
    subject: Subject, column: Float[Tensor, "hidden"], count: int = 10
) -> tuple[list[WrittenToken], list[WrittenToken]]:
    """The tokens that a vector added to the residual stream promotes most, and holds down most, strongest first.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> up, down = tokens_of_write(tiny_subject(), torch.ones(16), count=2)
        >>> up[0].weight >= up[1].weight
        True
    """
    parameter = next(subject.head.parameters())
    given = (column * _gain(subject)).to(parameter.device, subject.dtype)
    plain = torch.stack([given, torch.zeros_like(given)])
    raw = logits(subject, plain).float().cpu()
    added = raw[0] - raw[1]
    added = added - added.mean()
    order = added.argsort(descending=True, stable=True)
    size = min(count, added.numel())
    return tuple(  # type: ignore[return-value]
        [WrittenToken(int(t), subject.tokenizer.decode([int(t)]), float(added[t])) for t in places]
        for places in (order[:size], order.flip(0)[:size])
    )


def _gain(subject: Subject) -> Float[Tensor, "hidden"] | Tensor:
    gain = final_gain(subject)
    return torch.ones(subject.hidden_size) if gain is None else gain.float().cpu()
