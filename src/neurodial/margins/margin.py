"""Behaviour margins: one number per prompt that says how strongly the answer will show a behaviour, with a slope.

1. A margin names the rows of tokens to run for a prompt, and computes its value from their final hidden states.
2. `Openers`: the log odds that the answer begins as the behaviour's answers begin. Openers are prefix-free token
   sequences; `log p` is the logsumexp of their log-probabilities, `B = log p - log(1 - p)` with
   `log(1 - p) = log(-expm1(log p))`, all in float64. `openers.py` finds them in the model's own answers.
3. `Alternatives`: the log odds that the answer does not begin as answers without the behaviour begin. This is
   the margin to lower in order to remove a behaviour: `Openers` also falls when an answer begins with nonsense, or with
   a paraphrase that is no opener; this one falls only when answers begin as those without the behaviour do.
4. `AnswerMargin`: the log-likelihood of an answer that shows the behaviour against one that does not.
5. `ClassifierLogit`: any differentiable function of a prompt's hidden states.

Positive margins mean the behaviour; they are in nats. `measure_margins.py` measures them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from neurodial.errors import MarginError
from neurodial.generation.running_engine import reads_more
from neurodial.model.head import logits, to_float64
from neurodial.model.subject import Subject
from neurodial.prompts.answered import written_answers
from neurodial.prompts.pairs import Direction
from neurodial.prompts.prompt import Example
from neurodial.prompts.render import Tokens

_LARGEST_LOG_PROB = -1e-15  # log(1 - p) is finite, whatever rounding did to a probability of one

CEILING = -math.log(-_LARGEST_LOG_PROB) - 1e-6
"""Log odds that the probability of an opening is clamped at: there the slope is 0."""


class Margin(ABC):
    """How strongly the answer to a prompt shows a behaviour: positive where it does.

    Attributes:
        reads_answers_alone: whether `value` reads hidden states from the prompt's last token on alone, and rows from
            there: then several rows of a prompt are measured without running it again for each.
    """

    reads_answers_alone: ClassVar[bool] = False

    @abstractmethod
    def rows(self, subject: Subject, prompt: Tokens, example: Example) -> tuple[Tokens, ...]:
        """The rows of tokens to run for a prompt; each begins with the rendered prompt.

        Raises:
            MarginError: the example lacks what this margin reads.
        """

    @abstractmethod
    def value(
        self, subject: Subject, rows: Sequence[Tokens], hidden: Sequence[Float[Tensor, "_ hidden"]], start: int
    ) -> Float[Tensor, ""]:
        """The margin in float64, from the final hidden states of each row; differentiable.

        Args:
            subject: the model.
            rows: what `rows` gave.
            hidden: the decoder's output for each row.
            start: the prompt's length in tokens.
        """

    def continuations(self, subject: Subject, example: Example) -> tuple[Tokens, ...] | None:
        """The continuations of a prompt whose log-probabilities tell the value; None where it reads hidden states.

        Raises:
            MarginError: the example lacks what this margin reads.
        """
        del subject, example
        return None

    def combined(self, continuations: Sequence[Tokens], log_probs: Sequence[Tensor]) -> Float[Tensor, ""]:
        """The margin from the log-probabilities of its continuations.

        Raises:
            MarginError: it reads hidden states.
        """
        del continuations, log_probs
        raise reads_more(type(self).__name__)

    def reference(self, direction: Direction) -> Margin | None:
        """The likelihood of the answers that removing (or inducing) the behaviour should lead to, or None.

        An intervention found by pushing the margin must not lower it below the unsteered model's.
        """
        del direction
        return None


@dataclass(frozen=True)
class Openers(Margin):
    """The log odds that the answer begins with one of several openers.

    Attributes:
        tokens: the openers; none is the beginning of another.
        texts: the same as text.
        positive: share of the answers to P+ that begin with one, where they were found.
        negative: the same share of the answers to P-.

    Raises:
        MarginError: no openers, an empty one, or one that begins another, which would count it twice.

    Example:
        >>> Openers.of(((40, 41), (50,))).tokens
        ((40, 41), (50,))
    """

    reads_answers_alone: ClassVar[bool] = True

    tokens: tuple[Tokens, ...]
    texts: tuple[str, ...] = ()
    positive: float | None = None
    negative: float | None = None

    def __post_init__(self) -> None:
        if not self.tokens or not all(self.tokens):
            raise MarginError("An opener is empty, or there is none.", wanted="openers of at least one token")
        for number, first in enumerate(self.tokens):
            for second in self.tokens[number + 1 :]:
                if begins(first, second) or begins(second, first):
                    raise MarginError(
                        f"The opener {min(first, second, key=len)} begins {max(first, second, key=len)}.",
                        wanted="prefix-free openers; an answer would count twice",
                        fix="Keep the shorter one.",
                    )

    @classmethod
    def of(cls, tokens: Sequence[Tokens]) -> Openers:
        """Openers from their token ids alone."""
        return cls(tuple(tuple(opener) for opener in tokens))

    def matches(self, answer: Sequence[int]) -> bool:
        """Whether an answer's tokens begin with one of the openers."""
        return any(begins(opener, answer) for opener in self.tokens)

    def rows(self, subject: Subject, prompt: Tokens, example: Example) -> tuple[Tokens, ...]:
        """The prompt with each opener but its last token; a row that begins another row is not run separately."""
        del subject, example
        return rows_of(prompt, self.tokens)

    def value(
        self, subject: Subject, rows: Sequence[Tokens], hidden: Sequence[Float[Tensor, "_ hidden"]], start: int
    ) -> Float[Tensor, ""]:
        """`log p - log(1 - p)`, p the probability that the answer begins with an opener."""
        return self.combined(self.tokens, log_probs_of(subject, rows, hidden, start, self.tokens))

    def continuations(self, subject: Subject, example: Example) -> tuple[Tokens, ...]:
        """The openers."""
        del subject, example
        return self.tokens

    def combined(self, continuations: Sequence[Tokens], log_probs: Sequence[Tensor]) -> Float[Tensor, ""]:
        """The log odds."""
        del continuations
        log_prob = torch.stack(list(log_probs)).logsumexp(dim=0)
        log_prob = log_prob.clamp(max=_LARGEST_LOG_PROB)
        return log_prob - torch.log(-torch.expm1(log_prob))


@dataclass(frozen=True)
class Alternatives(Margin):
    """The log odds that the answer begins with none of the openings that answers without the behaviour have.

    Attributes:
        openings: how the answers to P- begin and those to P+ rarely do; their shares are those of `Openers`, of P-
            first.
        behaviour: the openers of P+, where any tell the sides apart.

    Example:
        >>> Alternatives(Openers.of(((40, 41), (50,)))).openings.tokens
        ((40, 41), (50,))
    """

    reads_answers_alone: ClassVar[bool] = True

    openings: Openers
    behaviour: Openers | None = None

    def rows(self, subject: Subject, prompt: Tokens, example: Example) -> tuple[Tokens, ...]:
        """The prompt with each opening but its last token."""
        return self.openings.rows(subject, prompt, example)

    def value(
        self, subject: Subject, rows: Sequence[Tokens], hidden: Sequence[Float[Tensor, "_ hidden"]], start: int
    ) -> Float[Tensor, ""]:
        """`log(1 - p) - log p`, p the probability that the answer begins with one of the openings."""
        return -self.openings.value(subject, rows, hidden, start)

    def continuations(self, subject: Subject, example: Example) -> tuple[Tokens, ...]:
        """The openings."""
        return self.openings.continuations(subject, example)

    def combined(self, continuations: Sequence[Tokens], log_probs: Sequence[Tensor]) -> Float[Tensor, ""]:
        """The log odds against them."""
        return -self.openings.combined(continuations, log_probs)


@dataclass(frozen=True)
class AnswerMargin(Margin):
    """The log-likelihood of the example's positive answer less that of its negative answer.

    Attributes:
        per_token: divide each by the number of its tokens, so that a long answer does not outweigh a short one.
        fallback: the two answers for examples without any.

    Example:
        >>> AnswerMargin(per_token=True).per_token
        True
    """

    reads_answers_alone: ClassVar[bool] = True

    per_token: bool = False
    fallback: tuple[str, str] | None = None

    def rows(self, subject: Subject, prompt: Tokens, example: Example) -> tuple[Tokens, ...]:
        """The prompt with each of the two answers."""
        return tuple((*prompt, *answer) for answer in self.continuations(subject, example))

    def value(
        self, subject: Subject, rows: Sequence[Tokens], hidden: Sequence[Float[Tensor, "_ hidden"]], start: int
    ) -> Float[Tensor, ""]:
        """The difference of the two log-likelihoods."""
        answers = [row[start:] for row in rows]
        log_probs = [
            log_probs_of(subject, [row], [states], start, [answer])[0]
            for row, states, answer in zip(rows, hidden, answers, strict=True)
        ]
        return self.combined(answers, log_probs)

    def continuations(self, subject: Subject, example: Example) -> tuple[Tokens, ...]:
        """The two answers."""
        answers = written_answers(example, self.fallback)
        tokens = tuple(subject.encode(text, special=False) for text in answers)
        if tokens[0] == tokens[1] or not all(tokens):
            raise MarginError(f"The answers {answers} are the same or empty.", wanted="two different answers")
        return tokens

    def combined(self, continuations: Sequence[Tokens], log_probs: Sequence[Tensor]) -> Float[Tensor, ""]:
        """The difference of the two."""
        if self.per_token:
            log_probs = [value / len(answer) for value, answer in zip(log_probs, continuations, strict=True)]
        return log_probs[0] - log_probs[1]


@dataclass(frozen=True)
class ClassifierLogit(Margin):
    """A classifier's logit, read off the prompt's final hidden states.

    Attributes:
        logit: a differentiable function of the hidden states (token, hidden) of one prompt; gives one number.

    Example:
        >>> ClassifierLogit(lambda hidden: hidden[-1].sum()).logit(torch.ones(2, 3))
        tensor(3.)
    """

    logit: Callable[[Tensor], Tensor]

    def rows(self, subject: Subject, prompt: Tokens, example: Example) -> tuple[Tokens, ...]:
        """The prompt alone."""
        del subject, example
        return (prompt,)

    def value(
        self, subject: Subject, rows: Sequence[Tokens], hidden: Sequence[Float[Tensor, "_ hidden"]], start: int
    ) -> Float[Tensor, ""]:
        """The function's value.

        Raises:
            MarginError: it is not one number.
        """
        del subject, rows, start
        logit = self.logit(hidden[0])
        if logit.numel() != 1:
            raise MarginError(f"The classifier gave {tuple(logit.shape)} numbers for a prompt.", wanted="one")
        return to_float64(logit.reshape(()))


def rows_of(prompt: Tokens, continuations: Sequence[Tokens]) -> tuple[Tokens, ...]:
    """The rows to run so that each continuation's log-probability can be read: each but its last token.

    Example:
        >>> rows_of((1,), ((2, 3), (2, 4, 5), (6,)))
        ((1, 2, 4),)
    """
    beginnings = sorted({continuation[:-1] for continuation in continuations})
    longest = [row for row in beginnings if not any(row != other and begins(row, other) for other in beginnings)]
    return tuple((*prompt, *row) for row in longest)


def log_probs_of(
    subject: Subject,
    rows: Sequence[Tokens],
    hidden: Sequence[Tensor],
    start: int,
    continuations: Sequence[Tokens],
) -> list[Float[Tensor, ""]]:
    """Log-probability of each continuation of the prompt, each read from the first row that contains its beginning."""
    cells: dict[tuple[int, int], int] = {}
    cells_of = []
    for continuation in continuations:
        row = next(number for number, tokens in enumerate(rows) if begins(continuation[:-1], tokens[start:]))
        places = [(row, start - 1 + step) for step in range(len(continuation))]
        cells_of.append([(cells.setdefault(place, len(cells)), token) for place, token in _pairs(places, continuation)])
    states = torch.stack([hidden[row][token] for row, token in cells])
    table = to_float64(logits(subject, states)).log_softmax(dim=-1)
    return [torch.stack([table[cell, token] for cell, token in pairs]).sum() for pairs in cells_of]


def _pairs(places: Sequence[tuple[int, int]], tokens: Tokens) -> Iterator[tuple[tuple[int, int], int]]:
    return zip(places, tokens, strict=True)


def begins(prefix: Sequence[int], whole: Sequence[int]) -> bool:
    """Whether `whole` begins with `prefix`."""
    return len(prefix) <= len(whole) and tuple(whole[: len(prefix)]) == tuple(prefix)
