"""Effect: which neurons hold a behaviour up (first step of effect and cost).

1. For each prompt x, a behaviour margin B(x), differentiable in the activations.
2. `e_j(x) = sum over tokens of a_j(x, t) * dB(x) / da_j(x, t)`: the slope of the margin in neuron j's multiplier, which
   is minus its slope in the dose. One forward and one backward pass of the prompts, parameters frozen.
3. `e_j = mean over prompts of e_j(x)`. Positive: the neuron holds the behaviour up.

Inside a `with steer(...)` block the slopes are those at the steered multipliers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from neurodial.activations.collect import Sink, pad_id
from neurodial.activations.groups import GroupBatch, group_batches
from neurodial.activations.statistics import GroupedMoments
from neurodial.circuit.site import Site
from neurodial.errors import PromptError
from neurodial.kept import KeptForm, kept
from neurodial.margins.margin import Margin
from neurodial.methods.scores import Scores
from neurodial.model.gradients import backward, gradient_tokens, multiplier_slopes, without_gradients
from neurodial.model.head import hidden_states
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.prompt import Example
from neurodial.prompts.render import check_context


def _packed(moments: GroupedMoments) -> tuple[None, dict[str, Tensor]]:
    return None, moments.tensors()


def _unpacked(_: None, tensors: Mapping[str, Tensor], arguments: Mapping[str, Any]) -> GroupedMoments:
    folds = arguments["folds"] or [0] * len(arguments["examples"])
    moments = GroupedMoments(folds, 1 + max(folds))
    moments.take(tensors, arguments["subject"].device)
    return moments


@kept("effects", KeptForm(_packed, _unpacked))
def effect(
    subject: Subject,
    margin: Margin,
    examples: Sequence[Example],
    *,
    folds: Sequence[int] | None = None,
    system: str | None = None,
    budget: int | None = None,
    progress: Progress = silent,
) -> GroupedMoments:
    """Statistics over prompts of every neuron's effect, by fold.

    Args:
        subject: the model.
        margin: of the behaviour.
        examples: the prompts; their mean is the effect.
        folds: the fold of each prompt, from 0; all in fold 0 by default.
        system: a system message before every prompt.
        budget: tokens of one micro-batch; by default as many as fit the device's memory.
        progress: shown while it runs.

    Raises:
        ContextLengthError: a prompt is longer than the context.
        GradientError: the model gives no gradients.
        MarginError: a prompt lacks what the margin reads.
    """
    if not examples:
        raise PromptError("There are no prompts to take the effect on.", wanted="at least one")
    folds = folds or [0] * len(examples)
    moments = GroupedMoments(folds, 1 + max(folds))
    margin_slopes(subject, margin, examples, moments.add, system=system, budget=budget, progress=progress)
    return moments


def margin_slopes(
    subject: Subject,
    margin: Margin,
    examples: Sequence[Example],
    sink: Sink,
    *,
    system: str | None = None,
    budget: int | None = None,
    progress: Progress = silent,
) -> list[float]:
    """The margin of each prompt; `sink` gets its slope in every neuron's multiplier, under the steering that acts.

    Raises:
        ContextLengthError: a prompt is longer than the context.
        GradientError: the model gives no gradients.
        MarginError: a prompt lacks what the margin reads.
    """
    prompts = subject.render([example.prompt for example in examples], system=system)
    groups = [margin.rows(subject, *pair) for pair in zip(prompts, examples, strict=True)]
    check_context([len(row) for group in groups for row in group], subject.context_length)
    current: list[GroupBatch] = []
    reached: set[Site] = set()
    found = [0.0] * len(examples)

    owners = torch.zeros(0, dtype=torch.long)

    def take(site: Site, slopes: Tensor) -> None:
        by_prompt = slopes.new_zeros(len(current[0].groups), *slopes.shape[1:])
        sink(site, by_prompt.index_add_(0, owners.to(slopes.device), slopes), current[0].groups)
        reached.add(site)

    with multiplier_slopes(subject, take), progress("measuring effects", len(groups)) as advance:
        for batch in group_batches(groups, pad=pad_id(subject), budget=budget or gradient_tokens(subject)):
            current[:] = [batch]
            owners = torch.tensor(batch.owners, device=subject.device)
            hidden = hidden_states(subject, batch.tokens)
            values = []
            for place, number in enumerate(batch.groups):
                states = [hidden[row, : batch.lengths[row]] for row in batch.rows_of(place)]
                values.append(margin.value(subject, groups[number], states, len(prompts[number])))
                found[number] = float(values[-1].detach())
            backward(subject, [torch.stack(values).sum()])
            advance(len(batch.groups))
    check_reached(subject, reached)
    return found


def effect_scores(moments: GroupedMoments, sites: Sequence[Site], folds: Sequence[int] = (0,)) -> Scores:
    """Mean effects of the prompts in the given folds."""
    return Scores({site: moments.moments(site, folds).mean for site in sites})


def check_reached(subject: Subject, reached: set[Site]) -> None:
    """Refuse a backward pass that did not reach every MLP.

    Raises:
        GradientError: names the first layer that no gradient reached.
    """
    missing = [site for site in subject.sites if site not in reached]
    if missing:
        raise without_gradients(subject, f"none came to the MLP of layer {missing[0].layer}")
