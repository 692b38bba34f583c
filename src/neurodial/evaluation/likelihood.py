"""Log-likelihood of given texts under steering: what multiple choice and perplexity are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from neurodial.activations.batches import TOKEN_BUDGET, batches
from neurodial.activations.collect import pad_id
from neurodial.errors import PromptError
from neurodial.generation.per_row import Under, one_each, row_slots
from neurodial.generation.running_engine import Continued, engine_of
from neurodial.generation.states import Rows, row_states
from neurodial.model.head import log_probs, to_float64
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.passage import Passage
from neurodial.prompts.render import check_context


class Likelihood(NamedTuple):
    """Log-probability in nats of a passage's answer, and the number of its tokens."""

    total: float
    tokens: int

    @property
    def mean(self) -> float:
        """Nats per token."""
        return self.total / self.tokens


@torch.no_grad()
def log_likelihoods(
    subject: Subject,
    passages: Sequence[Passage],
    *,
    under: Under = None,
    budget: int = TOKEN_BUDGET,
    progress: Progress = silent,
) -> list[Likelihood]:
    """Log-likelihood of the answer of each passage, given its prompt.

    Inside a `with steer(...)` block that steering acts too.

    Args:
        subject: the model.
        passages: prompt and answer tokens.
        under: an intervention for all, or one (or None) for each.
        budget: tokens of one batch.
        progress: shown while it runs.

    Raises:
        ContextLengthError: a passage is longer than the context.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> [likelihood] = log_likelihoods(tiny_subject(), [Passage((1, 2, 3), prompt_length=1, scored=2)])
        >>> likelihood.tokens, likelihood.total < 0
        (2, True)
    """
    each = one_each(under, len(passages))
    sequences = [passage.tokens for passage in passages]
    check_context([len(sequence) for sequence in sequences], subject.context_length)
    engine = engine_of(subject)
    if engine is not None:
        rows_given = [Continued(passage.tokens, passage.prompt_length) for passage in passages]
        totals = engine.log_likelihoods(rows_given, each, progress)
        return [Likelihood(total, len(row.tokens) - row.given) for total, row in zip(totals, rows_given, strict=True)]
    likelihoods: dict[int, Likelihood] = {}
    with row_slots(subject, each) as (steering, slots), progress("scoring texts", len(passages)) as advance:
        for batch in batches(sequences, pad=pad_id(subject), budget=budget):
            prompts = [passages[row].prompt_length for row in batch.rows]
            rows = Rows(batch.tokens, [slots[row] for row in batch.rows], prompts)
            hidden = row_states(subject, steering, rows)
            for place, row in enumerate(batch.rows):
                passage = passages[row]
                answer = torch.tensor(passage.tokens[passage.prompt_length :], device=hidden.device)
                states = hidden[place, passage.prompt_length - 1 : len(passage.tokens) - 1]
                picked = log_probs(subject, states).gather(1, answer[:, None])
                likelihoods[row] = Likelihood(float(to_float64(picked).sum()), len(answer))
            advance(len(batch.rows))
    return [likelihoods[row] for row in range(len(passages))]


def continuation(subject: Subject, prompt: str, answer: str) -> Passage:
    """Plain text followed by plain text, as a passage; the tokenizer sees the two in one piece.

    Raises:
        PromptError: nothing is left of the answer after tokenising.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> continuation(tiny_subject(), "Q:", " yes").scored
        4
    """
    start = subject.encode(prompt)
    whole = subject.encode(prompt + answer)
    shared = next(
        (n for n, (a, b) in enumerate(zip(start, whole, strict=False)) if a != b), min(len(start), len(whole))
    )
    if shared < 1 or shared >= len(whole):
        raise PromptError(f"Nothing is scored of {answer!r} after {prompt!r}.", wanted="a prompt and an answer")
    return Passage(whole, shared, len(whole) - shared)


def perplexity(likelihoods: Sequence[Likelihood]) -> float:
    """`exp` of the mean negative log-likelihood per token, over all texts together.

    Example:
        >>> round(perplexity([Likelihood(-2.0, 2), Likelihood(-4.0, 1)]), 4)
        7.3891
    """
    total = sum(likelihood.total for likelihood in likelihoods)
    return math.exp(-total / sum(likelihood.tokens for likelihood in likelihoods))
