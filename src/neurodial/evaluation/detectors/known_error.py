"""How often a detector errs, as far as it was measured: agreement with people, and on which answers.

The numbers are in `data/detector_errors.json`, which `scripts/detector_errors.py` makes of the figures in
`docs/results/detectors`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import NamedTuple

_WAYS = {"shown": "with those in part counted as shown", "absent": "as not shown", "left out": "left out"}


class Agreed(NamedTuple):
    """Cohen's kappa with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class KnownError:
    """Agreement of a detector with labels.

    Attributes:
        answers: which answers were labelled, and by whom.
        n: how many.
        kappa: by what answers are counted as that show the behaviour in part: `left out`, `shown`, `absent`; the first
            alone where there are none of them.
        calibration_error: mean distance of score and share, where scores are probabilities.
    """

    answers: str
    n: int
    kappa: Mapping[str, Agreed]
    calibration_error: float | None = None

    def __str__(self) -> str:
        """As a sentence.

        Example:
            >>> str(known_error("formality"))[-45:]
            '(our own test answers), kappa is 0.95 [0.90, 0.99].'
        """
        values = [f"{self.kappa[way]} {words}" for way, words in _WAYS.items() if way in self.kappa]
        kappa = str(self.kappa["left out"]) if len(self.kappa) == 1 else ", ".join(values)
        distance = self.calibration_error
        also = "" if distance is None else f"; mean distance of score and share {distance:.2f}"
        return f"On {self.n:,} {self.answers}, kappa is {kappa}{also}."

    @property
    def briefly(self) -> str:
        """Kappa and n, for where a detector is only named; partial answers left out.

        Example:
            >>> known_error("hedging").briefly
            'kappa 1.00 [1.00, 1.00] on 200 labelled answers'
        """
        return f"kappa {self.kappa['left out']} on {self.n:,} labelled answers"


UNMEASURED = "How often it errs is not known: `neurodial detectors check FILE` measures it on labelled answers."


def known_error(name: str) -> KnownError | None:
    """How often a detector errs; None where nobody has measured it.

    Example:
        >>> known_error("regex:tea") is None
        True
    """
    return _errors().get(name)


def with_error(name: str, description: str) -> str:
    """A detector's description with how often it errs, or that this is not known.

    Example:
        >>> with_error("regex:tea", "The answer holds tea.").split(":")[0]
        'The answer holds tea. How often it errs is not known'
    """
    return f"{description} {known_error(name) or UNMEASURED}"


@cache
def _errors() -> dict[str, KnownError]:
    path = resources.files("neurodial.evaluation") / "data" / "detector_errors.json"
    return {
        name: KnownError(
            value["answers"],
            value["n"],
            {way: Agreed(**kappa) for way, kappa in value["kappa"].items()},
            value.get("calibration_error"),
        )
        for name, value in json.loads(path.read_text("utf-8")).items()
    }
