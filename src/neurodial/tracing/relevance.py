"""Relevance of every (layer, token, neuron) and of every hidden state for a prediction (RelP, arXiv 2508.21258).

1. Batches of similar length, padded on the right; the target of each row is read at its last token.
2. `F = logit(target)`, or `logit(target) - logit(foil)`.
3. One backward pass of the rows' sum of F, linearised by `linearize.py`; rows do not touch each other.
4. Relevance = activation x gradient: of neurons, and of the residual stream summed over its coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from neurodial.activations.batches import Batch, batches
from neurodial.activations.collect import pad_id
from neurodial.circuit.site import Site
from neurodial.errors import ActivationError
from neurodial.methods.scores import Scores
from neurodial.model.gradients import Tape, gradient_tokens, gradients
from neurodial.model.head import raw_logits, soft_cap
from neurodial.model.hooks import installed
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.render import check_context
from neurodial.tracing.linearize import linearized, ratio
from neurodial.tracing.question import Question
from neurodial.tracing.rules import Rules


@dataclass(frozen=True, eq=False)
class Relevance:
    """What a prediction rests on.

    Attributes:
        question: what was asked.
        value: F, the logit or logit difference.
        neurons: relevance of each layer's neurons.
        activations: their activations.
        hidden: relevance of the residual stream: of the input tokens first, then after each block.
    """

    question: Question
    value: float
    neurons: tuple[Float[Tensor, "token neuron"], ...]
    activations: tuple[Float[Tensor, "token neuron"], ...]
    hidden: tuple[Float[Tensor, "token"], ...]

    @property
    def inputs(self) -> Float[Tensor, "token"]:
        """Relevance of the input tokens."""
        return self.hidden[0]


def relevance(
    subject: Subject,
    questions: Sequence[Question],
    *,
    rules: Rules | None = None,
    budget: int | None = None,
    device: torch.device | str = "cpu",
    progress: Progress = silent,
) -> list[Relevance]:
    """Relevance for each question, in order; many questions share a backward pass.

    Args:
        subject: the model.
        questions: tokens, target and foil of each.
        rules: of the backward pass; all on by default.
        budget: tokens of one batch; by default what the device has room for.
        device: where the results are kept; those of many questions would fill an accelerator.
        progress: shown while it runs.

    Raises:
        ContextLengthError: a prompt is longer than the context.
        GradientError: a part of the model gives no gradient, as quantised kernels may.
        ActivationError: a relevance is not finite.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> [result] = relevance(tiny_subject(), [Question((256, 72, 105), target=10, foil=11)])
        >>> len(result.neurons), result.neurons[0].shape, len(result.hidden)
        (2, torch.Size([3, 24]), 3)
    """
    chosen = rules or Rules()
    check_context([len(question.tokens) for question in questions], subject.context_length)
    of_row: dict[int, Relevance] = {}
    sequences = [question.tokens for question in questions]
    with linearized(subject, chosen), progress("tracing", len(questions)) as advance:
        for batch in batches(sequences, pad=pad_id(subject), budget=budget or gradient_tokens(subject)):
            rows = [questions[row] for row in batch.rows]
            of_row.update(zip(batch.rows, _batch(subject, batch, rows, chosen, torch.device(device)), strict=True))
            advance(len(rows))
    return [of_row[row] for row in range(len(questions))]


def target_values(
    subject: Subject, hidden: Float[Tensor, "row token hidden"], questions: Sequence[Question], rules: Rules
) -> Float[Tensor, "row"]:
    """F of each row, from the final hidden states."""
    last = torch.tensor([len(question.tokens) - 1 for question in questions], device=hidden.device)
    logits = target_logits(subject, hidden[torch.arange(len(questions), device=hidden.device), last], rules)
    rows = torch.arange(len(questions), device=logits.device)
    values = logits[rows, torch.tensor([question.target for question in questions], device=logits.device)]
    foils = torch.tensor([-1 if q.foil is None else q.foil for q in questions], device=logits.device)
    return values - torch.where(foils < 0, torch.zeros_like(values), logits[rows, foils.clamp(min=0)])


def target_logits(subject: Subject, hidden: Float[Tensor, "row hidden"], rules: Rules) -> Float[Tensor, "row vocab"]:
    """Logits, float32 or wider, with the soft-cap's ratio a constant where the rules say so."""
    raw = raw_logits(subject, hidden)
    raw = raw.to(torch.promote_types(raw.dtype, torch.float32))
    cap = soft_cap(subject)
    if cap is None:
        return raw
    capped = cap * torch.tanh(raw / cap)
    return raw * ratio(raw.detach(), capped.detach(), 1.0) if rules.soft_cap else capped


def neuron_scores(relevances: Sequence[Relevance]) -> Scores:
    """Relevance of each neuron summed over tokens, mean over prompts: scores that a circuit can be chosen from."""
    layers = range(len(relevances[0].neurons))
    totals = {
        Site(layer): torch.stack([item.neurons[layer].double().sum(dim=0) for item in relevances]).mean(dim=0)
        for layer in layers
    }
    return Scores(totals)


def _batch(
    subject: Subject, batch: Batch, questions: Sequence[Question], rules: Rules, device: torch.device
) -> list[Relevance]:
    tape = Tape()
    with installed(lambda handles: tape.install(subject, handles)), torch.enable_grad():
        output = subject.decoder(input_ids=batch.tokens.to(subject.device), use_cache=False).last_hidden_state  # 1
        values = target_values(subject, output, questions, rules)  # 2
        leaves = [*tape.neurons, *tape.hidden]
        slopes = gradients(subject, values.sum(), leaves)  # 3
    products = [_product(leaf, slope).to(device) for leaf, slope in zip(leaves, slopes, strict=True)]  # 4
    layers = len(tape.neurons)
    if not bool(torch.stack([torch.isfinite(product).all() for product in products]).all()):
        raise ActivationError(
            f"{subject.label} gives relevance that is NaN or infinite.",
            wanted="finite numbers",
            fix="float16 overflows in many models: load with dtype bfloat16 or float32.",
        )
    activations = [tensor.detach().to(device) for tensor in tape.neurons]
    streams = [product.sum(dim=-1) for product in products[layers:]]
    return [
        Relevance(
            question,
            float(values[row].detach()),
            tuple(product[row, :length] for product in products[:layers]),
            tuple(tensor[row, :length] for tensor in activations),
            tuple(stream[row, :length] for stream in streams),
        )
        for row, (question, length) in enumerate(zip(questions, batch.lengths, strict=True))
    ]


def _product(tensor: Tensor, slope: Tensor) -> Tensor:
    wide = torch.promote_types(tensor.dtype, torch.float32)
    return tensor.detach().to(wide) * slope.to(wide)
