"""Faithfulness and completeness, against one intervention per pass."""

import pytest
import torch

from neurodial.circuit.selection import Count, Fraction
from neurodial.errors import OptionError, PromptError
from neurodial.model.tiny import TINY_FAMILIES, tiny_subject
from neurodial.tracing.faithfulness import MeanAblation, ResampleAblation, ZeroAblation, faithfulness_curve
from neurodial.tracing.nodes import select_nodes
from neurodial.tracing.question import Question
from neurodial.tracing.relevance import relevance

QUESTION = Question((256, 72, 105, 106, 33), target=10, foil=11)
REFERENCE = ((256, 50, 51, 52, 53, 54), (256, 60, 61, 62, 63), (256, 70, 71, 72, 73, 74, 75))
ABLATIONS = [ZeroAblation(), MeanAblation(REFERENCE), ResampleAblation(REFERENCE, seed=1)]


def ranking(subject):
    [found] = relevance(subject, [QUESTION])
    return select_nodes(found, Fraction(1.0))


@pytest.mark.parametrize("family", TINY_FAMILIES)
@pytest.mark.parametrize("ablation", ABLATIONS, ids=lambda one: type(one).__name__)
def test_everything_is_faithful_and_complete_and_nothing_is_neither(family, ablation):
    subject = tiny_subject(family)
    ranked = ranking(subject)
    curve = faithfulness_curve(subject, QUESTION, ranked, [0, len(ranked)], ablation)
    nothing, everything = curve.points
    assert nothing == (0, 0.0, 1.0)
    assert everything == (len(ranked), 1.0, 0.0)
    assert curve.whole == pytest.approx(relevance(subject, [QUESTION])[0].value, rel=1e-4)


@torch.no_grad()
def plain(subject, change):
    """F with one pass of the model in which `change(layer, neurons)` replaces each layer's neurons."""
    handles = [
        block.mlp.down_proj.register_forward_pre_hook(lambda module, args, layer=layer: (change(layer, args[0]),))
        for layer, block in enumerate(subject.blocks)
    ]
    logits = subject.model(torch.tensor([QUESTION.tokens])).logits[0, -1]
    for handle in handles:
        handle.remove()
    return float(logits[10] - logits[11])


@torch.no_grad()
def activations(subject, tokens):
    kept = []
    handles = [
        b.mlp.down_proj.register_forward_pre_hook(lambda m, args: kept.append(args[0][0])) for b in subject.blocks
    ]
    subject.model(torch.tensor([tokens]))
    for handle in handles:
        handle.remove()
    return kept


def rest(subject, ablation):
    """What ablated neurons are held at, by hand."""
    if isinstance(ablation, ZeroAblation):
        return [torch.zeros(5, 24)] * 2
    read = [activations(subject, tokens) for tokens in REFERENCE]
    if isinstance(ablation, MeanAblation):
        return [torch.cat([one[layer] for one in read]).mean(0).expand(5, -1) for layer in range(2)]
    import random

    chosen = random.Random(1).choice(range(3))
    return [read[chosen][layer][-5:] for layer in range(2)]


@pytest.mark.parametrize("ablation", ABLATIONS, ids=lambda one: type(one).__name__)
def test_a_curve_equals_single_interventions(ablation):
    subject = tiny_subject()
    ranked = ranking(subject)
    held = rest(subject, ablation)
    inside = torch.zeros(2, 5, 24, dtype=torch.bool)
    for score in ranked[:30]:
        inside[score.node] = True
    whole = plain(subject, lambda layer, neurons: neurons)
    empty = plain(subject, lambda layer, neurons: held[layer][None])
    alone = plain(subject, lambda layer, neurons: torch.where(inside[layer], neurons, held[layer]))
    without = plain(subject, lambda layer, neurons: torch.where(inside[layer], held[layer], neurons))
    [point] = faithfulness_curve(subject, QUESTION, ranked, [30], ablation).points
    assert point.faithfulness == pytest.approx((alone - empty) / (whole - empty), rel=1e-3, abs=1e-4)
    assert point.completeness == pytest.approx((without - empty) / (whole - empty), rel=1e-3, abs=1e-4)
    assert abs(point.faithfulness - 1) > 0.01


def test_the_most_relevant_nodes_carry_more_than_the_least():
    subject = tiny_subject("qwen2")
    ranked = ranking(subject)
    best, worst = (
        faithfulness_curve(subject, QUESTION, order, [60], ZeroAblation()).points[0] for order in (ranked, ranked[::-1])
    )
    assert abs(1 - best.faithfulness) < abs(1 - worst.faithfulness)


def test_bad_input_is_refused():
    subject = tiny_subject()
    [found] = relevance(subject, [QUESTION])
    few = select_nodes(found, Count(3))
    with pytest.raises(OptionError, match="from 0 to 3"):
        faithfulness_curve(subject, QUESTION, few, [4], ZeroAblation())
    with pytest.raises(PromptError, match="no reference"):
        faithfulness_curve(subject, QUESTION, few, [1], MeanAblation(()))
    with pytest.raises(PromptError, match="3 tokens"):
        faithfulness_curve(subject, QUESTION, few, [1], ResampleAblation(((256, 1, 2),)))
    with torch.no_grad():
        for block in subject.blocks:
            block.mlp.down_proj.weight.zero_()
    with pytest.raises(OptionError, match="rests on MLP"):
        faithfulness_curve(subject, QUESTION, few, [1], ZeroAblation())
