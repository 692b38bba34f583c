"""Circuits that act only on prompts on which a condition holds, and only on the first tokens that are generated.

Laws: never passing is unsteered, always passing is unconditioned, both bit for bit; a batch is its rows one by one;
what was not decided is an error.
"""

import dataclasses
import math

import pytest
import torch
from tests.subjects import (
    batch_logits,
    cached_logits,
    circuit_of,
    close,
    differ,
    logits,
    pad,
    prompts,
    same_bits,
    shared,
)

import neurodial as nd
from neurodial.activations.collect import Reading, collect
from neurodial.activations.position import Last
from neurodial.circuit.circuit import Row
from neurodial.circuit.prompt_condition import PromptCondition, SideRate
from neurodial.circuit.site import Neuron
from neurodial.errors import OptionError, SteeringError, UnknownNameError
from neurodial.generation.divergence import measure_divergence, own_answers
from neurodial.generation.paired import paired_decoding
from neurodial.intervention.decide import prompt_readings
from neurodial.intervention.steer import steer_each
from neurodial.intervention.when import read_when
from neurodial.margins.margin import Openers
from neurodial.margins.measure import measure_margins
from neurodial.model.tiny import tiny_subject
from neurodial.prompts.prompt import Example

EVER = nd.Decoding(max_new_tokens=6)


def condition_of(subject, threshold=0.0, *, reading="projection"):
    rates = {"positive": SideRate(1, 1), "negative": SideRate(0, 1), "false_positive_rate": 0.01}
    if reading == "direction":
        weights = tuple(math.sin(n) for n in range(subject.hidden_size))
        return PromptCondition("direction", threshold, weights, layer=0, **rates)
    neurons = tuple(sorted(row.neuron for row in circuit_of(subject, 4)))
    return PromptCondition(reading, threshold, (1.0, -0.5, 2.0, 0.25), neurons=neurons, **rates)


def conditioned(subject, threshold, **options):
    """A circuit with a condition."""
    return dataclasses.replace(circuit_of(subject), condition=condition_of(subject, threshold, **options))


def split(subject, texts, **options):
    """A threshold between the readings of some prompts, and on which prompts it holds."""
    values = prompt_readings(subject, [condition_of(subject, **options)], list(texts))[0]
    middle = float(values.sort().values[len(texts) // 2 - 1 : len(texts) // 2 + 1].mean())
    return middle, (values > middle).tolist()


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "opt"])
@pytest.mark.parametrize("when", ["all", "generated", "prompt"])
def test_never_is_unsteered_and_always_is_unconditioned_bit_for_bit(model_type, when):
    subject = shared(model_type)
    [row] = [list(tokens) for tokens in subject.render(["what a day"])]
    plain = cached_logits(subject, row, 5)
    with nd.steer(subject, nd.Scale(circuit_of(subject), 2.0, when)):
        steered = cached_logits(subject, row, 5)
    for threshold, expected in ((math.inf, plain), (-1e30, steered)):
        circuit = conditioned(subject, min(threshold, 1e30))
        with nd.steer(subject, nd.Scale(circuit, 2.0, when)):
            assert same_bits(cached_logits(subject, row, 5), expected)
    differ(plain, steered)


@pytest.mark.parametrize("reading", ["mean", "direction"])
def test_each_row_of_a_batch_is_decided_by_itself(reading):
    subject = shared()
    texts = prompts(6)
    threshold, holds = split(subject, texts, reading=reading)
    assert 0 < sum(holds) < len(holds)
    circuit = conditioned(subject, threshold, reading=reading)
    plain = nd.generate(subject, texts, decoding=EVER)
    always = nd.generate(subject, texts, under=nd.Scale(circuit_of(subject), 3.0), decoding=EVER)
    own = nd.generate(subject, texts, under=nd.Scale(circuit, 3.0), decoding=EVER)
    alone = [nd.generate(subject, [text], under=nd.Scale(circuit, 3.0), decoding=EVER)[0] for text in texts]
    assert own == alone == [a if held else p for a, p, held in zip(always, plain, holds, strict=True)]
    assert always != plain


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_reading_is_at_the_end_of_the_prompt_wherever_the_padding_is(side):
    subject = shared()
    rows = [list(tokens) for tokens in subject.render(prompts(6))]
    threshold, holds = split(subject, prompts(6))
    with nd.steer(subject, nd.Scale(conditioned(subject, threshold), 2.0)) as steering:
        found = batch_logits(subject, rows, side)
        assert [any(outcome.values()) for outcome in steering.outcomes] == holds
    with nd.steer(subject, nd.Scale(circuit_of(subject), 2.0)):
        steered = batch_logits(subject, rows, side)
    plain = batch_logits(subject, rows, side)
    for own, on, off, held in zip(found, steered, plain, holds, strict=True):
        assert same_bits(own, on if held else off)


def test_the_decision_does_not_depend_on_the_dial_or_on_what_follows_the_prompt():
    subject = shared()
    row = [*subject.render([prompts(2)[0]])[0], 65, 66, 67]
    circuit = conditioned(subject, 0.0)
    decided = []
    for dial, tail in ((0.5, row), (9.0, [*row[:-3], 90, 91])):
        with nd.steer(subject, nd.Scale(circuit, dial)) as steering:
            steering.mark_prompts([len(row) - 3])
            logits(subject, tail)
            decided.append(steering.outcomes)
    assert decided[0] == decided[1]


def test_a_condition_reads_neurons_of_experts_where_the_token_went():
    """Routing weight times activation, as circuits are found with; decided row by row, whatever is beside it."""
    subject = tiny_subject("qwen2_moe")
    subject.model.config._experts_implementation = "batched_mm"
    neurons = tuple(Neuron(layer, expert, 3) for layer in (0, 1) for expert in (None, 0, 1, 2, 3))
    weights = tuple(math.cos(n) for n in range(len(neurons)))
    rates = {"positive": SideRate(1, 1), "negative": SideRate(0, 1), "false_positive_rate": 0.01}
    condition = PromptCondition("projection", 0.0, weights, neurons=neurons, **rates)
    texts = ["sun", "old river!", "a", "the way home?"]
    found, expected = prompt_readings(subject, [condition], texts)[0], torch.zeros(4, dtype=torch.float64)

    def add(site, activations, rows):
        for neuron, weight in zip(neurons, weights, strict=True):
            if neuron.site == site:
                expected[list(rows)] += weight * activations[(slice(None), *neuron.place)].double()

    collect(subject, subject.render(texts), Reading(Last()), add)
    assert torch.allclose(found, expected, atol=1e-6)
    middle = float(found.sort().values[1:3].mean())
    circuit = nd.Circuit.of([Row(neuron, 1.0, 6.0) for neuron in neurons])
    held = nd.Scale(dataclasses.replace(circuit, condition=dataclasses.replace(condition, threshold=middle)))
    answers = [
        [answer.tokens for answer in nd.generate(subject, texts, under=under, decoding=EVER)]
        for under in (None, nd.Scale(circuit), held)
    ]
    for row, holds in enumerate((found > middle).tolist()):
        assert answers[2][row] == answers[1 if holds else 0][row]
    assert sum(one != other for one, other in zip(*answers[:2], strict=True)) > 1


def test_circuits_with_conditions_of_their_own_act_together():
    subject = shared()
    texts = prompts(6)
    first, second = conditioned(subject, split(subject, texts)[0]), circuit_of(subject, 9)
    third = dataclasses.replace(
        circuit_of(subject, 5),
        condition=condition_of(subject, split(subject, texts, reading="mean")[0] + 1e-3, reading="mean"),
    )
    scales = [nd.Scale(first, 1.5), nd.Scale(second, -0.5), nd.Scale(third, 2.0)]
    for text in texts:
        [row] = [list(tokens) for tokens in subject.render([text])]
        held = [
            circuit.condition is None
            or float(prompt_readings(subject, [circuit.condition], [text])) > circuit.condition.threshold
            for circuit in (first, second, third)
        ]
        expected = [
            nd.Scale(dataclasses.replace(scale.circuit, condition=None), scale.dial)
            for scale, held_one in zip(scales, held, strict=True)
            if held_one
        ]
        with nd.steer(subject, *scales):
            found = logits(subject, row)
        with nd.steer(subject, *expected):
            close(found, logits(subject, row))


def test_measures_that_share_beginnings_decide_by_whole_prompts():
    subject = shared()
    examples = [Example(f"a rather long beginning that all share, and {text}") for text in prompts(6)]
    texts = [example.prompt for example in examples]
    threshold, holds = split(subject, texts)
    scale = nd.Scale(conditioned(subject, threshold), 3.0)
    always = nd.Scale(circuit_of(subject), 3.0)
    openers = Openers.of([(40, 41), (50,)])
    together = measure_margins(subject, openers, examples, under=scale)
    for own, example, held in zip(together, examples, holds, strict=True):
        [alone] = measure_margins(subject, openers, [example], under=always if held else None)
        assert own == pytest.approx(alone, abs=1e-4)
    found = measure_divergence(subject, own_answers(subject, texts, decoding=EVER), [scale, always])
    assert [kl > 1e-6 for kl in found[0].by_passage] == holds
    assert all(kl > 1e-6 for kl in found[1].by_passage)


def test_streams_that_split_keep_their_decision():
    subject = shared()
    texts = prompts(6)
    threshold, holds = split(subject, texts)
    scale = nd.Scale(conditioned(subject, threshold), 4.0)
    for text, held in zip(texts, holds, strict=True):
        tokens = list(paired_decoding(subject, (text, text), scale, decoding=EVER))
        assert any(token.kl > 1e-6 for token in tokens) is held
        [wanted] = nd.generate(subject, [text], under=scale, decoding=EVER)
        steered = [token.token for token in tokens if token.side == "steered" and not token.is_end]
        assert steered == list(wanted.tokens)


def test_what_was_not_decided_is_an_error():
    subject = shared()
    rows = torch.tensor([list(tokens) for tokens in subject.render(["ab", "cd"])])
    with nd.steer(subject, nd.Scale(conditioned(subject, 0.0), 2.0)) as steering, torch.no_grad():
        begun = subject.model(rows, use_cache=True)
        with pytest.raises(SteeringError, match="goes on after its first pass"):
            subject.model(rows[:, :2], past_key_values=begun.past_key_values, use_cache=True)
        one = subject.model(rows[:1], use_cache=True)
        one.past_key_values.batch_repeat_interleave(3)
        with pytest.raises(SteeringError, match="3 rows go on"):
            subject.model(torch.tensor([[65]] * 3), past_key_values=one.past_key_values, use_cache=True)
        steering.mark_prompts([rows.shape[1] + 4] * 2)
        with pytest.raises(SteeringError, match="was not decided"):
            subject.model(rows, use_cache=True)


def test_a_condition_on_what_the_model_lacks_is_refused():
    subject = shared()
    wrong = dataclasses.replace(
        circuit_of(subject), condition=dataclasses.replace(condition_of(subject, reading="direction"), layer=99)
    )
    with pytest.raises(SteeringError, match="after block 99"), nd.steer(subject, nd.Scale(wrong)):
        pass


# ------------------------------------------------------------------------------------------- the first tokens


@pytest.mark.parametrize("when", ["generated:2", "answer:2", "all:2"])
def test_only_the_first_tokens_are_steered(when):
    subject = shared()
    [row] = [list(tokens) for tokens in subject.render(["what a day"])]
    start = len(row)
    row += [65, 66, 67, 68]
    scale = nd.Scale(circuit_of(subject), 2.0, when)
    with nd.steer(subject, scale) as steering:
        steering.mark_prompts([start])
        whole = logits(subject, row)
        steering.mark_prompts(None)
        close(cached_logits(subject, row, start), whole)
    handles = []
    for site, rows in circuit_of(subject).sites.items():
        keep = torch.ones(len(row), subject.widths[site.layer])
        begin = 0 if when.startswith("all") else start
        for own in rows:
            keep[begin : start + 2, own.neuron.index] = 1 - 2.0 * own.dose
        handles.append(subject.down(site).register_forward_pre_hook(lambda m, args, k=keep: (args[0] * k,)))
    try:
        close(whole, logits(subject, row))
    finally:
        for handle in handles:
            handle.remove()


def test_first_tokens_in_a_batch_and_with_other_interventions():
    subject = shared()
    texts = prompts(4)
    under = [nd.Scale(circuit_of(subject), dial, "generated:3") for dial in (4.0, -4.0, 3.0, 0.0)]
    together = nd.generate(subject, texts, under=under, decoding=EVER)
    assert together == [
        nd.generate(subject, [text], under=one, decoding=EVER)[0] for text, one in zip(texts, under, strict=True)
    ]
    others = [nd.Scale(circuit_of(subject), 1.0, "generated:3"), nd.Scale(circuit_of(subject), 1.0, "generated:4")]
    with pytest.raises(SteeringError, match="first 3 and 4 tokens"), steer_each(subject, others):
        pass


@pytest.mark.parametrize(("when", "error"), [("promt", UnknownNameError), ("prompt:3", OptionError)])
def test_a_when_that_names_nothing_is_refused(when, error):
    with pytest.raises(error):
        nd.Scale(circuit_of(shared()), when=when)
    for count in ("0", "-1", "x", ""):
        with pytest.raises(OptionError, match="number of generated tokens"):
            read_when(f"generated:{count}")


def test_padding_counts_for_nothing():
    subject = shared()
    rows = [list(tokens) for tokens in subject.render(prompts(4))]
    _, mask = pad(rows, "left")
    with nd.steer(subject, nd.Scale(conditioned(subject, -1e30), 1.0, "generated:1")) as steering:
        steering.mark_prompts([mask.shape[1]] * len(rows))
        found = batch_logits(subject, rows, "left")
    for own, plain in zip(found, batch_logits(subject, rows, "left"), strict=True):
        assert same_bits(own, plain)  # nothing is generated yet
