"""One neuron: scores against plain gradients, a planted neuron found and pinned, and how fragile a behaviour is."""

import dataclasses
import math

import pytest
import torch
from tests.planting import PLANTED, holding, negative, positive
from tests.tolerance import of_log_probs

from neurodial.circuit.site import Neuron
from neurodial.errors import ActivationError, MarginError, OptionError
from neurodial.evaluation.audit import Audit, audit
from neurodial.intervention.anchor import anchored
from neurodial.intervention.scale import Scale
from neurodial.intervention.steer import steer
from neurodial.margins.beginnings import OpenerSearch
from neurodial.margins.margin import Alternatives, Openers
from neurodial.margins.measure import measure_margins, probability
from neurodial.methods.single.find_neuron import SingleNeuron, single_neuron, sweep
from neurodial.methods.single.scores_of_neurons import CandidateSearch, candidates
from neurodial.model.tiny import tiny_subject
from neurodial.prompts.pairs import Contrast, PairSet

OPENER = 40
TEXTS = Contrast.of(positive(), negative())


def pairs():
    return PairSet.of(positive(), negative())


@pytest.mark.parametrize("family", ["llama", "gpt2", "phi3"])
def test_the_planted_neuron_is_the_one(family):
    subject = holding(family)
    found = single_neuron(subject, pairs())
    assert found.best.candidate.neuron == PLANTED
    assert found.before[0] > 0.9
    assert found.best.positive < 0.1
    with steer(subject, found.best.pin):
        margins = measure_margins(subject, found.margin, pairs().development.positive)
    assert sum(map(probability, margins)) / len(margins) == pytest.approx(
        found.best.positive, abs=of_log_probs(subject)
    )


def test_the_sweep_is_ranked_by_what_is_left_and_against_the_sign():
    found = single_neuron(holding("llama"), pairs(), method=SingleNeuron(steps=(0.0, 1.0, 3.0)))
    assert len(found.sweep) == 15
    left = [row.positive for row in found.sweep]
    assert left == sorted(left)
    for row in found.sweep:
        assert row.value * row.candidate.positive <= 0
        assert any(row.value == pytest.approx(-step * row.candidate.positive) for step in (0, 1, 3))


@pytest.mark.parametrize("chat", [False, True])
def test_scores_equal_plain_gradients(chat):
    """By hand: one prompt per pass, gradients of the log odds by autograd at each token after the instruction."""
    subject = tiny_subject("qwen2", chat=chat)
    contrast = Contrast.of(["harm one", "harm it"], ["help one", "help it now"])
    width = 1
    if chat:
        from neurodial.prompts.render import post_instruction_length

        width = post_instruction_length(subject.tokenizer)
        assert width > 1
    means = []
    for side in (contrast.positive, contrast.negative):
        rows = [by_hand(subject, example, width) for example in side]
        means.append([torch.stack(parts).mean(0) for parts in zip(*rows, strict=True)])
    (active, slope), (other, other_slope) = means
    scores = (-slope - other_slope) * (other - active)  # the loss is minus the log odds
    scores[active.abs() <= other.abs()] = -math.inf
    best, token = scores.max(dim=1)  # layer, token, neuron
    found = candidates(subject, Openers.of([(OPENER,)]), contrast, search=CandidateSearch(layers=1.0, count=3))
    expected = best.flatten().topk(3)
    for one, score, place in zip(found, expected.values.tolist(), expected.indices.tolist(), strict=True):
        layer, index = divmod(place, 24)
        assert one.neuron == Neuron(layer, None, index)
        assert one.score == pytest.approx(score, rel=1e-3)
        assert one.token == int(token[layer, index]) - width
        assert one.gap == pytest.approx(float((active - other)[layer, one.token, index]), rel=1e-3)


def by_hand(subject, example, width):
    from neurodial.prompts.render import render

    kept = []
    handles = [
        block.mlp.down_proj.register_forward_pre_hook(lambda module, args: kept.append(args[0]))
        for block in subject.blocks
    ]
    tokens = torch.tensor(render(subject.tokenizer, [example.prompt]))
    shares = subject.model(tokens).logits[0, -1].double().softmax(-1)
    odds = shares[OPENER].log() - (1 - shares[OPENER]).log()
    slopes = torch.autograd.grad(odds, kept)
    for handle in handles:
        handle.remove()
    return (
        torch.stack([part[0, -width:].detach() for part in kept]),
        torch.stack([slope[0, -width:] for slope in slopes]),
    )


def test_the_search_stays_within_its_layers_and_count():
    subject, openers = holding("llama"), Openers.of([(OPENER,)])
    everywhere = candidates(subject, openers, TEXTS, search=CandidateSearch(layers=1.0, count=30))
    early = candidates(subject, openers, TEXTS, search=CandidateSearch(layers=0.5, count=30))
    assert {one.neuron.layer for one in everywhere} == {0, 1}
    assert {one.neuron.layer for one in early} == {0}
    assert all(abs(one.positive) > abs(one.negative) for one in everywhere)
    few = candidates(subject, openers, TEXTS, search=CandidateSearch(layers=1.0, count=4))
    assert [one.neuron for one in few] == [one.neuron for one in everywhere[:4]]
    small = candidates(subject, openers, TEXTS, search=CandidateSearch(layers=1.0, count=4, budget=8))
    assert [one.neuron for one in small] == [one.neuron for one in few]


def test_the_model_is_given_back():
    subject = holding("llama")
    weights = {name: tensor.clone() for name, tensor in subject.model.state_dict().items()}
    single_neuron(subject, pairs())
    assert all(torch.equal(tensor, weights[name]) for name, tensor in subject.model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in subject.model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in subject.model.modules())


def test_a_sweep_of_chosen_candidates():
    subject, openers = holding("llama"), Openers.of([(OPENER,)])
    one = candidates(subject, openers, TEXTS)[0]
    found = sweep(subject, openers, [one], TEXTS, method=SingleNeuron(steps=(0.0,)))
    assert len(found.sweep) == 1
    assert found.sweep[0].value == 0


def test_anchored_pins_remove_the_behaviour_too_and_are_measured_as_they_act():
    subject = holding("llama")
    method = SingleNeuron(pin="anchored", steps=(0.0, 1.0), candidates=CandidateSearch(count=2))
    found = single_neuron(subject, pairs(), method=method)
    assert len(found.sweep) == 2  # step 0 has no direction
    best = found.best
    assert best.candidate.neuron == PLANTED
    assert best.positive < 0.1
    assert found.before[0] > 0.9
    assert best.anchor.limit == best.value
    with anchored(subject, best.anchor):
        [margin] = measure_margins(subject, found.margin, pairs().development.positive[:1])
    assert probability(margin) < 0.1
    far = dataclasses.replace(method, steps=(4.0,))
    weak = dataclasses.replace(far, strength=1e-9)
    strong, faint = (single_neuron(subject, pairs(), method=one) for one in (far, weak))
    assert {row.positive for row in strong.sweep} != {row.positive for row in faint.sweep}


def test_bad_options_are_refused():
    for bad in (
        lambda: SingleNeuron(steps=()),
        lambda: SingleNeuron(steps=(-1.0,)),
        lambda: SingleNeuron(steps=(0.0,), pin="anchored"),
        lambda: SingleNeuron(pin="anchored", openers=OpenerSearch(length=2)),
        lambda: CandidateSearch(layers=0.0),
        lambda: CandidateSearch(count=0),
        lambda: Audit(counts=()),
        lambda: Audit(counts=(0,)),
        lambda: Audit(passages=0),
    ):
        with pytest.raises(OptionError):
            bad()


def test_sides_that_the_model_does_not_tell_apart_are_refused():
    mute = tiny_subject()
    with torch.no_grad():
        for parameter in mute.model.parameters():
            parameter.zero_()  # every prompt gets the same answer
    with pytest.raises(MarginError):
        single_neuron(mute, PairSet.of([f"a {n}" for n in range(9)], [f"a {n}." for n in range(9)]))
    subject = tiny_subject()
    with torch.no_grad():
        for block in subject.blocks:
            block.mlp.up_proj.weight.zero_()
    with pytest.raises(ActivationError, match="No neuron"):
        candidates(subject, Openers.of([(OPENER,)]), TEXTS)


# ------------------------------------------------------------------------------------------- audit


def test_one_neuron_undoes_what_one_neuron_holds_up():
    method = Audit(counts=(1, 3), pushes=(0.01, 1.0), margin="openers", passages=2)
    report = audit(holding("llama"), pairs(), method=method)
    assert report.ranking.top(1).rows[0].neuron == PLANTED
    assert report.shown > 0.99
    assert report.spilled < 0.01
    plain = measure_margins(holding("llama"), report.margin, pairs().test.positive)
    assert report.shown == pytest.approx(sum(map(probability, plain)) / len(plain))
    assert [(point.neurons, point.push) for point in report.points] == [(1, 0.01), (1, 1.0), (3, 0.01), (3, 1.0)]
    small, full = report.points[:2]
    assert small.shown > 0.99
    assert full.shown < 0.1
    assert abs(small.divergence) < full.divergence  # a hundredth of one neuron: rounding may leave less than 0
    assert small.left > 0.99
    assert full.left == pytest.approx((full.shown - report.spilled) / (report.shown - report.spilled))
    assert report.undone() == full
    assert report.undone(share=full.left / 2) is None
    assert report.prompts == (len(pairs().test.positive), len(pairs().test.negative))


def test_an_audit_that_cannot_be_made_is_refused():
    search = OpenerSearch(length=1, rarity=0.99, share=0.0, coverage=0.0)
    with pytest.raises(OptionError, match="hold the behaviour up"):
        audit(holding("llama"), pairs(), method=Audit(counts=(48,), margin="openers", passages=1))
    with pytest.raises(MarginError):
        audit(tiny_subject(seed=3), pairs(), method=Audit(counts=(1,), margin="openers", openers=search, passages=1))
    with pytest.raises(MarginError, match="not likely on the positive"):
        audit(tiny_subject(seed=3), pairs(), method=Audit(counts=(1,), passages=1))


# ----------------------------------------------------------------------------------- towards the other side


def turning():
    """The planted neuron holds one answer up, and where it is silent all answers begin with another token."""
    subject = holding("llama")
    head = subject.model.get_output_embeddings().weight
    with torch.no_grad():
        head[33] = 8 * _common(subject)
    return subject


def _common(subject):
    """The direction that the final states of all prompts without the behaviour share."""
    rows = [torch.tensor([subject.tokenizer(text)["input_ids"]]) for text in negative()]
    states = [subject.model(row, output_hidden_states=True).hidden_states[-1][0, -1] for row in rows]
    mean = torch.stack(states).mean(dim=0)
    return mean / mean.norm()


@pytest.mark.parametrize("measure", ["audit", "single"])
def test_a_behaviour_is_undone_where_answers_begin_as_those_without_it(measure):
    subject = turning()
    if measure == "audit":
        report = audit(subject, pairs(), method=Audit(counts=(4,), pushes=(1.0,), passages=1))
        assert isinstance(report.margin, Alternatives)
        alone = measure_margins(subject, report.margin, pairs().test.positive)
        assert report.shown == pytest.approx(sum(map(probability, alone)) / len(alone))
        steered = measure_margins(subject, report.margin, pairs().test.positive, under=Scale(report.ranking))
        left = sum(map(probability, steered)) / len(steered)
        assert report.points[0].left == pytest.approx((left - report.spilled) / (report.shown - report.spilled))
        assert report.points[0].left < 1
    else:
        found = single_neuron(subject, pairs(), method=SingleNeuron(margin="alternatives"))
        assert isinstance(found.margin, Alternatives)
        assert all(len(opening) == 1 for opening in found.margin.openings.tokens)
        assert found.best.candidate.neuron == PLANTED
        assert found.best.positive < 0.5 < found.before[0]
