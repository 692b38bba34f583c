"""A detector derived from the prompts, for behaviours that name none: which side's answers does an answer look like?

1. The model, unsteered, answers the discovery prompts of both sides and those of development, greedily.
2. A logistic regression on the words, word pairs, shape and length of the discovery answers, L2-penalised, both sides
   weighing the same.
3. How well it tells the development answers apart is measured, and stands in the detector's description. One that
   can't tell them apart beyond chance is refused: then a detector has to be named.

It sees what sets the two sides' answers apart, whatever that is: where the sides also differ in subject, it may have
learnt the subject. A named detector is better; this one is better than a detector of something else.
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

from neurodial.errors import OptionError
from neurodial.evaluation.detectors.base import Detector, Exchange, RuleDetector, Verdict
from neurodial.evaluation.intervals import wilson
from neurodial.generation.decoding import Decoding
from neurodial.generation.generate import generate
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.pairs import Behaviour, Contrast, PairSet
from neurodial.text.degeneration import Degeneration
from neurodial.text.words import words_of

NAME = "derived"
_MOST = 60  # answers of each side
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


def derived_detector(
    subject: Subject, pairs: PairSet, *, decoding: Decoding | None = None, progress: Progress = silent
) -> Detector:
    """A detector of what sets the model's own answers to the two sides apart.

    Args:
        subject: the model, unsteered.
        pairs: discovery prompts to learn from, development prompts to check on.
        decoding: of the answers; greedy in any case.
        progress: shown while it runs.

    Raises:
        OptionError: it can't tell the development answers apart, or there are no development prompts.
    """
    decoding = decoding or Decoding()
    greedy = Decoding(decoding.max_new_tokens, batch_size=decoding.batch_size, system=decoding.system)
    learnt, held_out = (
        _answers(subject, contrast, greedy, progress) for contrast in (pairs.discovery, pairs.development)
    )
    classifier = AnswerClassifier.fit(*learnt)
    right = [classifier.probability(answer) > 0.5 for answer in held_out[0]]
    right += [classifier.probability(answer) <= 0.5 for answer in held_out[1]]
    accuracy = wilson(sum(right), len(right))
    told = f"{accuracy.value:.0%} [{accuracy.low:.0%}, {accuracy.high:.0%}, n = {accuracy.n}]"
    if accuracy.low <= 0.5:
        raise _undetected(
            pairs.behaviour, f"a classifier of the model's own answers tells {told} of held-out answers apart"
        )

    def decide(exchange: Exchange) -> Verdict:
        probability = classifier.probability(exchange.answer)
        return Verdict("shown" if probability > 0.5 else "absent", probability)

    description = (
        "Derived from the prompts, as no detector is named: a classifier of the model's own answers to both sides; "
        f"it tells {told} of held-out answers apart."
    )
    return RuleDetector(NAME, description, decide, Degeneration(wrong_language=False))


def undetected(behaviour: Behaviour) -> OptionError:
    """The error where nothing says how a behaviour is recognised."""
    return _undetected(behaviour, "it names no detector, and has no discovery and development prompts to learn one")


def _undetected(behaviour: Behaviour, reason: str) -> OptionError:
    return OptionError(
        f"Nothing says how the behaviour {behaviour.name!r} is recognised in an answer: {reason}.",
        wanted="a detector, such as regex:PATTERN, language:fr, length:50 or python:MODULE:FUNCTION",
        fix="Name one (--detectors, Evaluation(detectors=...), or `detector = ...` in the behaviour's TOML file); "
        "`neurodial detectors` lists them. A bare contrast needs behaviour=... or detectors.",
    )


def _answers(
    subject: Subject, contrast: Contrast, decoding: Decoding, progress: Progress
) -> tuple[list[str], list[str]]:
    few = contrast.first(_MOST)
    prompts = [example.prompt for example in (*few.positive, *few.negative)]
    texts = [answer.text for answer in generate(subject, prompts, decoding=decoding, progress=progress)]
    return texts[: len(few.positive)], texts[len(few.positive) :]


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
