"""The one interface of everything that says whether an answer shows a behaviour."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from neurodial.text.degeneration import Degeneration

Label = Literal["shown", "partial", "absent", "degenerate", "failed", "unknown"]


class Exchange(NamedTuple):
    """A prompt as text, and its whole answer."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class Verdict:
    """What a detector says of one answer.

    Attributes:
        label: `shown` or `absent`; `partial` where a detector knows answers that show it in part; `degenerate` for
            text that is neither (empty, looping, gibberish); `failed` where a judge gave no usable answer, and
            `unknown` where the detector does not know the answer's language: these rows count for nothing.
        score: the detector's own number, where it has one.
        reason: why, in a few words.
    """

    label: Label
    score: float | None = None
    reason: str = ""


class Detector(ABC):
    """Says of each answer whether it shows the behaviour.

    Attributes:
        name: what it is asked for by.
        description: what it looks at, and its source; shown beside its numbers.
    """

    name: str
    description: str

    @abstractmethod
    def judge(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """A verdict on each exchange, in order."""


@dataclass(frozen=True)
class RuleDetector(Detector):
    """A detector that looks at one exchange at a time.

    Attributes:
        name: what it is asked for by.
        description: what it looks at, and its source.
        decide: the rule.
        degeneration: what is called degenerate before the rule is asked; None to ask it of any text.

    Example:
        >>> shouting = RuleDetector(
        ...     "shouting", "All capitals.", lambda e: Verdict("shown" if e.answer.isupper() else "absent")
        ... )
        >>> [verdict.label for verdict in shouting.judge([Exchange("Hi", "HELLO THERE")])]
        ['shown']
    """

    name: str
    description: str
    decide: Callable[[Exchange], Verdict]
    degeneration: Degeneration | None = None

    def judge(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """Degenerate text first, then the rule."""
        return [degenerate(exchange, self.degeneration) or self.decide(exchange) for exchange in exchanges]


def degenerate(exchange: Exchange, degeneration: Degeneration | None) -> Verdict | None:
    """A verdict where the answer is degenerate; None where it is not."""
    reason = None if degeneration is None else degeneration.find(exchange.prompt, exchange.answer)
    return None if reason is None else Verdict("degenerate", reason=reason)


BARE = "Degenerate text is judged like any other here; it was set apart where the error was measured."
"""What the description of a detector adds that leaves out the check for degenerate text."""

UNCOUNTED: frozenset[str] = frozenset({"failed", "unknown"})
"""Labels of rows that count for nothing."""


def tally(verdicts: Sequence[Verdict]) -> dict[Label, int]:
    """How many verdicts there are of each label.

    Example:
        >>> tally([Verdict("shown"), Verdict("degenerate")])["shown"]
        1
    """
    counts = Counter(verdict.label for verdict in verdicts)
    return {label: counts[label] for label in get_args(Label)}
