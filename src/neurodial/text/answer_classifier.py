"""A classifier of answers: a logistic regression on their words, word pairs, shape and length. Torch-free.

L2-penalised, both sides weighing the same. It sees what sets two lists of answers apart, whatever that is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize
from scipy.special import expit

from neurodial.text.words import words_of

_LEAST_SEEN = 2  # answers that a feature must be in
_PENALTY = 1.0


@dataclass(frozen=True, eq=False)
class AnswerClassifier:
    r"""A logistic regression on features of an answer.

    Attributes:
        weights: of each feature, by its name.
        bias: added to their sum.

    Example:
        >>> classifier = AnswerClassifier.fit(["- a\n- b", "- c\n- d"], ["a and b", "c and d"])
        >>> classifier.probability("- e\n- f") > 0.5
        True
    """

    weights: dict[str, float]
    bias: float

    @classmethod
    def fit(cls, positive: Sequence[str], negative: Sequence[str], *, penalty: float = _PENALTY) -> AnswerClassifier:
        """The classifier that tells two lists of answers apart."""
        rows = [features(text) for text in (*positive, *negative)]
        seen = Counter(name for row in rows for name in row)
        names = sorted(name for name, count in seen.items() if count >= min(_LEAST_SEEN, len(positive)))
        table = np.array([[row.get(name, 0.0) for name in names] for row in rows])
        sides = np.array([1.0] * len(positive) + [0.0] * len(negative))
        share = np.where(sides > 0, 0.5 / len(positive), 0.5 / len(negative)) * len(rows)
        return cls(*_solved(names, table, sides, share, penalty))

    def probability(self, answer: str) -> float:
        """The probability that an answer is of the positive side."""
        score = sum(self.weights.get(name, 0.0) * value for name, value in features(answer).items())
        return float(expit(score + self.bias))


def features(answer: str) -> dict[str, float]:
    """What is told of an answer: words and pairs of words in it, how it begins and ends, its lines, marks and length.

    Example:
        >>> features("No, no.")["begins no"]
        1.0
    """
    words = words_of(answer)
    present = {f"word {word}" for word in words} | {f"pair {a} {b}" for a, b in pairwise(words)}
    present |= {f"begins {words[0]}", f"ends {words[-1]}"} if words else {"empty"}
    lines = [line.strip() for line in answer.splitlines() if line.strip()]
    present |= {f"mark {mark}" for mark in set(re.findall(r"[^\w\s]", answer))}
    present |= {"listed" for line in lines if re.match(r"([-*•]|\d+[.)])\s", line)}
    values = dict.fromkeys(present, 1.0)
    return {**values, "log words": float(np.log1p(len(words))), "log lines": float(np.log1p(len(lines)))}


def _solved(
    names: list[str],
    table: Float[np.ndarray, "answer feature"],
    sides: Float[np.ndarray, "answer"],
    share: Float[np.ndarray, "answer"],
    penalty: float,
) -> tuple[dict[str, float], float]:
    """The weights of least penalised logistic loss."""
    centre = table.mean(axis=0)

    def loss(point: Float[np.ndarray, "_"]) -> tuple[float, Float[np.ndarray, "_"]]:
        weights, bias = point[:-1], point[-1]
        scores = (table - centre) @ weights + bias
        gap = share * (expit(scores) - sides)
        value = float(share @ (np.logaddexp(0.0, scores) - sides * scores) + penalty / 2 * weights @ weights)
        return value, np.append((table - centre).T @ gap + penalty * weights, gap.sum())

    optimum = minimize(loss, np.zeros(len(names) + 1), jac=True, method="L-BFGS-B").x
    weights = dict(zip(names, optimum[:-1].tolist(), strict=True))
    return weights, float(optimum[-1] - centre @ optimum[:-1])
