"""What steering costs elsewhere: KL(unsteered || steered) per token, on the unsteered model's own answers.

1. The unsteered model answers neutral prompts; prompt and answer become a `Passage`.
2. Every passage is run unsteered and under each intervention (teacher-forced, in batches).
3. At each prediction of the answer, `KL = sum_y p(y) (log p(y) - log q(y))`, p unsteered and q steered, over the whole
   vocabulary; log-probabilities in float32 or better, sums in float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neurodial.activations.batches import TOKEN_BUDGET, batches
from neurodial.activations.collect import pad_id
from neurodial.errors import PromptError
from neurodial.generation.decoding import Decoding
from neurodial.generation.generate import Answer, generate, stop_tokens
from neurodial.generation.per_row import row_slots
from neurodial.generation.running_engine import engine_of
from neurodial.generation.states import Rows, row_states
from neurodial.intervention.base import Intervention
from neurodial.kept import KeptForm, kept
from neurodial.model.head import log_probs
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.passage import Passage
from neurodial.prompts.prompt import Prompt
from neurodial.prompts.render import check_context

_CELLS = 512  # predictions whose distributions over the vocabulary are held at once


@dataclass(frozen=True)
class Divergence:
    """KL(unsteered || steered) of one intervention.

    Attributes:
        by_passage: mean KL in nats per prediction, for each passage.
        scored: number of predictions of each passage.

    Example:
        >>> found = Divergence((0.1, 0.4), (30, 10))
        >>> round(found.mean, 3), found.tokens
        (0.175, 40)
    """

    by_passage: tuple[float, ...]
    scored: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Number of predictions over all passages."""
        return sum(self.scored)

    @property
    def mean(self) -> float:
        """Nats per prediction over all passages."""
        return sum(kl * count for kl, count in zip(self.by_passage, self.scored, strict=True)) / self.tokens

    @property
    def standard_error(self) -> float:
        """Standard error of the mean with passages as independent units (a ratio estimate); NaN for one passage."""
        number = len(self.scored)
        if number < 2:
            return math.nan
        mean = self.mean
        residuals = [count * (kl - mean) for kl, count in zip(self.by_passage, self.scored, strict=True)]
        return math.sqrt(number / (number - 1) * sum(r * r for r in residuals)) / self.tokens


def own_answers(
    subject: Subject, prompts: Sequence[Prompt], *, decoding: Decoding | None = None, progress: Progress = silent
) -> tuple[Passage, ...]:
    """The model's own answers to prompts, as passages to score; greedy and up to 48 tokens by default.

    Prompts whose answer is empty are left out.

    Raises:
        ContextLengthError: a prompt and its answer don't fit the context.
        PromptError: no prompt got an answer.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> [passage] = own_answers(tiny_subject(), ["Hello"], decoding=Decoding(max_new_tokens=4))
        >>> passage.scored <= 4
        True
    """
    decoding = decoding or Decoding(max_new_tokens=48)
    answers = generate(subject, prompts, decoding=decoding, progress=progress)
    return passages_of(subject, answers, system=decoding.system)


def passages_of(subject: Subject, answers: Sequence[Answer], *, system: str | None = None) -> tuple[Passage, ...]:
    """Answers as passages to score; empty ones are left out.

    Args:
        subject: the model that gave them.
        answers: to neutral prompts.
        system: the system message that stood before every prompt.

    Raises:
        PromptError: all are empty.
    """
    prompts = [answer.prompt for answer in answers]
    rendered = subject.render(prompts, system=system)
    passages = []
    for tokens, answer in zip(rendered, answers, strict=True):
        if answer.tokens:
            scored = len(answer.tokens) + (1 if answer.is_finished else 0)
            passages.append(Passage((*tokens, *answer.tokens), len(tokens), scored))
    if not passages:
        raise PromptError(
            f"{subject.label} answered none of the {len(prompts)} neutral prompts with a token.",
            wanted="prompts that the model answers",
            fix=f"Its end tokens are {sorted(stop_tokens(subject))}: is the chat template the model's own?",
        )
    return tuple(passages)


def _packed(found: Sequence[Divergence]) -> tuple[list[list[Any]], dict[str, Any]]:
    return [[divergence.by_passage, divergence.scored] for divergence in found], {}


def _unpacked(rows: list[list[Any]], _: object, __: object) -> list[Divergence]:
    return [Divergence(tuple(by_passage), tuple(scored)) for by_passage, scored in rows]


@kept("divergence", KeptForm(_packed, _unpacked))
@torch.no_grad()
def measure_divergence(
    subject: Subject,
    passages: Sequence[Passage],
    interventions: Sequence[Intervention],
    *,
    unsteered: Sequence[Float[Tensor, "_ hidden"]] | None = None,
    budget: int = TOKEN_BUDGET,
    progress: Progress = silent,
) -> list[Divergence]:
    """KL(unsteered || steered) of each intervention on the same passages.

    The unsteered pass is made once for all of them. Call it outside other steering: steering that
    is already on the model acts in both distributions.

    Args:
        subject: the model.
        passages: prompts with answers.
        interventions: each is measured alone.
        unsteered: what `unsteered_states` gave for these passages, where they are measured more than once.
        budget: tokens of one batch.
        progress: shown while it runs.

    Raises:
        PromptError: there are no passages.
        ContextLengthError: a passage is longer than the context.

    Example:
        >>> from neurodial.circuit.circuit import Circuit, Row
        >>> from neurodial.circuit.site import Neuron
        >>> from neurodial.intervention.scale import Scale
        >>> from neurodial.model.tiny import tiny_subject
        >>> circuit = Circuit.of([Row(Neuron(0, None, 3), 1.0, 1.0)])
        >>> passage = Passage((1, 2, 3, 4), prompt_length=2, scored=2)
        >>> [zero, one] = measure_divergence(tiny_subject(), [passage], [Scale(circuit, 0.0), Scale(circuit, 1.0)])
        >>> zero.mean, one.mean > 0
        (0.0, True)
    """
    if not passages:
        raise PromptError("There are no passages to measure divergence on.", wanted="at least one")
    sequences = [passage.tokens for passage in passages]
    check_context([len(sequence) for sequence in sequences], subject.context_length)
    engine = engine_of(subject)
    if engine is not None:
        return _divergences(engine.divergences(passages, interventions, progress), passages)
    sums = torch.zeros(len(interventions), len(passages), dtype=torch.float64)
    if unsteered is None:
        unsteered = unsteered_states(subject, passages, budget=budget)
    with (
        row_slots(subject, interventions) as (steering, slots),
        progress("measuring divergence", len(passages)) as advance,
    ):
        for batch in batches(sequences, pad=pad_id(subject), budget=budget):
            chosen = [passages[row] for row in batch.rows]
            states = [torch.cat([unsteered[row] for row in batch.rows])]
            for slot in slots:
                prompts = [passage.prompt_length for passage in chosen]
                rows = Rows(batch.tokens, [slot] * len(chosen), prompts)
                states.append(_scored(row_states(subject, steering, rows), chosen))
            sums[:, list(batch.rows)] = _kl_sums(subject, states, chosen)
            advance(len(batch.rows))
    return _divergences(sums.tolist(), passages)


def _divergences(sums: Sequence[Sequence[float]], passages: Sequence[Passage]) -> list[Divergence]:
    """From the sums over each passage, for each intervention."""
    scored = tuple(passage.scored for passage in passages)
    return [Divergence(tuple(kl / count for kl, count in zip(row, scored, strict=True)), scored) for row in sums]


@torch.no_grad()
def unsteered_states(
    subject: Subject, passages: Sequence[Passage], *, budget: int = TOKEN_BUDGET
) -> list[Float[Tensor, "_ hidden"]]:
    """The decoder's outputs at the scored places of each passage, without steering."""
    states: dict[int, Tensor] = {}
    for batch in batches([passage.tokens for passage in passages], pad=pad_id(subject), budget=budget):
        chosen = [passages[row] for row in batch.rows]
        rows = Rows(batch.tokens, [0] * len(chosen), [passage.prompt_length for passage in chosen])
        scored = _scored(row_states(subject, None, rows), chosen)
        states.update(zip(batch.rows, scored.split([passage.scored for passage in chosen]), strict=True))
    return [states[row] for row in range(len(passages))]


def _scored(hidden: Float[Tensor, "row token hidden"], passages: Sequence[Passage]) -> Float[Tensor, "cell hidden"]:
    """The decoder's outputs at the scored places of a batch, one passage after the other."""
    return torch.cat([hidden[row, list(passage.places)] for row, passage in enumerate(passages)])


def _kl_sums(
    subject: Subject, states: Sequence[Float[Tensor, "cell hidden"]], passages: Sequence[Passage]
) -> Float[Tensor, "intervention passage"]:
    """Sums of KL over the scored places of each passage; the first states are the unsteered ones."""
    divergences = []
    for cells in zip(*(state.split(_CELLS) for state in states), strict=True):
        p = log_probs(subject, cells[0])
        steered = (log_probs(subject, cell) for cell in cells[1:])
        divergences.append(torch.stack([(p.exp() * (p - q)).sum(dim=-1) for q in steered]).cpu().double())
    by_passage = torch.cat(divergences, dim=1).split([passage.scored for passage in passages], dim=1)
    return torch.stack([of_passage.sum(dim=1) for of_passage in by_passage], dim=1)
