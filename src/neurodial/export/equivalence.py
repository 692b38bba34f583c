"""How far exported files are from the hook, measured on real prompts.

1. Log-probabilities of the next token at the last places of each prompt, under the plain model and under the hook,
   at each strength: the reference.
2. The same from the exported files, loaded as an engine loads them.
3. They agree where the largest difference to the hook is at most the tolerance of the coarser of the two dtypes
   (`TOLERANCE`) and at most a quarter of the largest difference between hook and plain model: files that do nothing
   fail, and so does a circuit whose effect drowns in rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neurodial.intervention.base import Intervention
from neurodial.intervention.scale import Scale
from neurodial.intervention.steer import steer
from neurodial.model.subject import Subject
from neurodial.prompts.prompt import Prompt
from neurodial.prompts.render import Tokens

TOLERANCE = {
    "float64": 1e-3, "float32": 1e-3, "float16": 5e-2, "bfloat16": 5e-1, "quantised": 5e-2, "requantised": 3.0,
}  # fmt: skip
"""Largest difference of a log-probability, in nats, that rounding alone explains in each dtype.

`quantised` weights are patched, not rounded anew; `requantised` ones are.
"""

PLACES = 32
"""How many places of each prompt are compared, counted from its end."""

_SHARE = 0.25

LogProbabilities = list[Float[Tensor, "_place vocab"]]


@dataclass(frozen=True)
class Reference:
    """What the files have to do.

    Attributes:
        tokens: the rendered prompts.
        plain: log-probabilities of the unsteered model, for each prompt.
        steered: the same under the hook, for each strength.
    """

    tokens: tuple[Tokens, ...]
    plain: LogProbabilities
    steered: dict[float, LogProbabilities]


@dataclass(frozen=True)
class EquivalenceCheck:
    """One comparison of exported files with the hook. Differences are in nats.

    Attributes:
        engine: what loaded the files.
        strength: the adapter's strength; 1 is the default dial.
        prompts: number of prompts.
        places: number of compared places.
        difference: largest difference of a log-probability, files against hook.
        kl: mean KL(hook || files) per place.
        effect: largest difference of a log-probability, hook against the unsteered model.
        effect_kl: mean KL(unsteered || hook) per place.
        same_top: share of places where files and hook prefer the same token.
        tolerance: the largest difference that is allowed.
        agrees: whether files and hook agree, and differ from the unsteered model.
    """

    engine: str
    strength: float
    prompts: int
    places: int
    difference: float
    kl: float
    effect: float
    effect_kl: float
    same_top: float
    tolerance: float
    agrees: bool


def reference(
    subject: Subject, scales: Sequence[Scale], prompts: Sequence[Prompt], strengths: Sequence[float]
) -> Reference:
    """What the hook does to the prompts at each strength; 0 is the plain model."""
    tokens = tuple(subject.render(prompts))
    plain = log_probabilities(subject.model, tokens)
    steered = {}
    for strength in strengths:
        with steer(subject, *at_strength(scales, strength)):
            steered[strength] = log_probabilities(subject.model, tokens)
    return Reference(tokens, plain, steered)


def at_strength(scales: Sequence[Scale], strength: float) -> tuple[Intervention, ...]:
    """The circuits at their dials times a strength."""
    return tuple(replace(scale, dial=float(scale.dial) * strength) for scale in scales)  # type: ignore[arg-type]


@torch.no_grad()
def log_probabilities(model: Any, tokens: Sequence[Tokens]) -> LogProbabilities:
    """Log-probabilities at the last places of each sequence, float32 on the processor; one sequence a pass."""
    per_sequence = []
    for sequence in tokens:
        output = model(input_ids=torch.tensor([sequence], device=model.device), use_cache=False)
        logits: Tensor = output.logits
        per_sequence.append(torch.log_softmax(logits[0, -PLACES:].float().cpu(), dim=-1))
    return per_sequence


def compare(
    measured: LogProbabilities, expected: Reference, strength: float, *, engine: str, precision: str
) -> EquivalenceCheck:
    """Judge what the files gave at one strength."""
    hook = expected.steered[strength]
    difference, kl, same = _distance(hook, measured)
    effect, effect_kl, _ = _distance(expected.plain, hook)
    tolerance = TOLERANCE[precision]
    shows = effect > 0 and difference <= _SHARE * effect
    return EquivalenceCheck(
        engine=engine,
        strength=strength,
        prompts=len(hook),
        places=sum(len(part) for part in hook),
        difference=difference,
        kl=kl,
        effect=effect,
        effect_kl=effect_kl,
        same_top=same,
        tolerance=tolerance,
        agrees=difference <= tolerance and (shows or strength == 0),
    )


def coarser(*dtypes: str) -> str:
    """The dtype with the larger tolerance."""
    return max(dtypes, key=lambda name: TOLERANCE[name])


def _distance(first: LogProbabilities, second: LogProbabilities) -> tuple[float, float, float]:
    """Largest absolute difference, mean KL(first || second), and share of places with the same top token."""
    a, b = torch.cat(first).double(), torch.cat(second).double()
    gap = (a - b).abs().nan_to_num(nan=float("inf"))  # two -inf make a NaN, and so does any NaN of the files
    kl = (a.exp() * (a - b)).sum(-1).mean()
    return float(gap.max()), float(kl), float((a.argmax(-1) == b.argmax(-1)).double().mean())
