"""How well a pair does on texts that nothing was learned from, against controls.

| words | what the activation is rebuilt from |
|---|---|
| said | what the verbaliser says of it: the round trip |
| said, shuffled | what it says of another activation |
| text | the text around the token itself: what words could reach |
| text, near | the text around a token some way off |
| text, shuffled | the text around another activation's token |
| mean | nothing: the mean of the activations that were learned from, 0 by definition |
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from neurodial.nla.activation_texts import SplitTexts
from neurodial.nla.options import Verbalising
from neurodial.nla.pair import NlaPair
from neurodial.nla.rebuilt import directions
from neurodial.nla.train_options import Training
from neurodial.progress import Progress, silent

_SHOWN = 4
"""Best, middle and worst samples that are kept."""
TITLES = {
    "said": "what the verbaliser says",
    "said_shuffled": "what it says of another activation",
    "text": "the text around the token",
    "text_near": "the text around a token near by",
    "text_shuffled": "the text around another activation's token",
}


@dataclass(frozen=True)
class ExplainedVariance:
    """Variance explained over many activations.

    Attributes:
        explained: the share; 0 is what the mean reaches.
        error: its standard error over activations.
        cosine: the mean cosine.
        n: how many activations; those of which nothing was said are rebuilt as the mean.
    """

    explained: float
    error: float
    cosine: float
    n: int


class JudgedText(NamedTuple):
    """What was said of one activation.

    Attributes:
        text: the text up to its token, or around it.
        said: what the verbaliser says.
        explained: the share of variance that this explains.
    """

    text: str
    said: str
    explained: float


@dataclass(frozen=True)
class PairReport:
    """How well a pair does on held-out texts.

    Attributes:
        scores: by what was rebuilt from.
        mean_error: squared error of predicting the mean.
        silent: activations of which nothing was said.
        samples: the best, the middle and the worst of what was said, in that order.
    """

    scores: dict[str, ExplainedVariance]
    mean_error: float
    silent: int
    samples: tuple[JudgedText, ...]

    def as_json(self) -> dict[str, Any]:
        """All of it, for programs."""
        return {**asdict(self), "samples": [sample._asdict() for sample in self.samples]}


def judge_pair(pair: NlaPair, split: SplitTexts, options: Training, *, progress: Progress = silent) -> PairReport:
    """Score a pair on the held-out activations.

    Args:
        pair: verbaliser and reconstructor; loaded one after the other.
        split: what was learned from, for the mean, and what was held out.
        options: how many activations, and how long the words are.
        progress: shown while it runs.
    """
    held = split.held_out
    step = max(1, len(held) // options.judged)
    rows = list(range(0, len(held), step))[: options.judged]
    vectors = held.vectors[rows]
    said = pair.verbaliser().texts(vectors, Verbalising(1, options.answer_tokens, seed=options.seed), progress=progress)
    words = {
        "said": [row[0].text for row in said],
        "text": [held.around[row] for row in rows],
        "text_near": [held.near[row] for row in rows],
    }
    words |= {f"{name}_shuffled": [*words[name][1:], words[name][0]] for name in ("said", "text")}
    mean = directions(split.train.vectors).mean(dim=0)
    baseline = float((directions(vectors) - mean).square().sum(dim=1).mean())
    reconstructor = pair.reconstructor()
    unique = list(dict.fromkeys(text for texts in words.values() for text in texts if text))
    rebuilt = dict(zip(unique, reconstructor.vectors(unique), strict=True))
    each = {
        name: _explained(vectors, torch.stack([rebuilt.get(text, mean) for text in words[name]]), baseline)
        for name in TITLES
    }
    said_of = zip(words["text"], words["said"], each["said"][0].tolist(), strict=True)
    samples = sorted((JudgedText(*sample) for sample in said_of), key=lambda sample: -sample.explained)
    scores = {name: _mean(*values) for name, values in each.items()}
    return PairReport(scores, baseline, sum(not text for text in words["said"]), _some(samples))


def _explained(
    vectors: Float[Tensor, "vector hidden"], rebuilt: Float[Tensor, "vector hidden"], baseline: float
) -> tuple[Float[Tensor, "vector"], Float[Tensor, "vector"]]:
    """Of each activation the variance explained, and the cosine."""
    cosines = (directions(vectors) * directions(rebuilt)).sum(dim=1)
    return 1 - (2 - 2 * cosines) / baseline, cosines


def _mean(explained: Float[Tensor, "vector"], cosines: Float[Tensor, "vector"]) -> ExplainedVariance:
    count = len(explained)
    return ExplainedVariance(
        float(explained.mean()), float(explained.std()) / math.sqrt(count), float(cosines.mean()), count
    )


def _some(samples: Sequence[JudgedText]) -> tuple[JudgedText, ...]:
    """The first, the middle and the last few."""
    if len(samples) <= 3 * _SHOWN:
        return tuple(samples)
    middle = (len(samples) - _SHOWN) // 2
    return (*samples[:_SHOWN], *samples[middle : middle + _SHOWN], *samples[-_SHOWN:])


def score_rows(report: PairReport) -> Sequence[tuple[str, str, str]]:
    """Title, variance explained and cosine of every score, and of the mean, for a table."""
    rows = [
        (TITLES[name], f"{score.explained:.3f} ± {score.error:.3f}", f"{score.cosine:.3f}")
        for name, score in report.scores.items()
    ]
    return [*rows, ("the mean", "0 by definition", f"error {report.mean_error:.3f}")]
