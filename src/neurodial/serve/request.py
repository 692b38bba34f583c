"""What the engine takes and gives. Torch-free."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Request:
    """One sequence to go on with.

    Attributes:
        tokens: the prompt.
        dials: the strength of each of the engine's circuits, in its order; empty where it has none.
        max_tokens: the longest answer; 0 only with `echo`.
        temperature: 0 for greedy decoding.
        top_p: keep the smallest set of tokens with this probability when sampling.
        seed: of the sampling, or None for a different answer each time.
        stop: texts that end the answer; they are not part of it.
        top: how many alternatives to give at each token, or None for no log-probabilities at all.
        echo: give the log-probabilities of the prompt's tokens too.
        top_k: keep this many of the likeliest tokens when sampling; 0 for all.
        min_p: keep tokens of at least this share of the likeliest one's probability when sampling.
        starts_inside: the prompt ends inside a block of thinking.

    Example:
        >>> Request(tokens=(1, 2), max_tokens=4).temperature
        0.0
    """

    tokens: tuple[int, ...]
    dials: tuple[float, ...] = ()
    max_tokens: int = 16
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    top: int | None = None
    echo: bool = False
    top_k: int = 0
    min_p: float = 0.0
    starts_inside: bool = False


class Scored(NamedTuple):
    """A token with its log-probability under the steered model (None for a first token), and the likeliest ones."""

    token: int
    log_prob: float | None
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Piece:
    """A part of an answer.

    Attributes:
        text: what became readable; may be empty while a character is incomplete.
        scored: the tokens behind it, where log-probabilities were asked for.
    """

    text: str
    scored: tuple[Scored, ...] = ()


@dataclass(frozen=True)
class Finished:
    """The end of an answer.

    Attributes:
        reason: `stop` where the model or a stop text ended it, `length` where it was cut.
        tokens: how many tokens were made, the end token included.
    """

    reason: FinishReason
    tokens: int


@dataclass(frozen=True)
class Failed:
    """The request came to nothing."""

    message: str


Event = Piece | Finished | Failed
Deliver = Callable[[Event], None]
"""Called from the engine's thread, with pieces and then one `Finished` or `Failed`; must return at once."""
