"""Rows, slots and batches; exchanging settings while hooks stay; models that can't be steered."""

import pytest
import torch
from tests.subjects import (
    SOME_FAMILIES,
    circuit_of,
    close,
    differ,
    fresh,
    logits,
    same_bits,
    shared,
    tokens_of,
)

import neurodial as nd
from neurodial.errors import SteeringError
from neurodial.intervention.base import Together, at_dial
from neurodial.intervention.steer import steer_each, steered

VECTOR = torch.linspace(-1, 1, 16)


@torch.no_grad()
def repeated(subject, row, times):
    return subject.model(torch.tensor([list(row)] * times)).logits


@pytest.mark.parametrize("family", SOME_FAMILIES)
def test_a_dial_for_each_row_equals_one_by_one(family):
    subject = shared(family)
    [row] = tokens_of(subject)
    dials = [0.0, 1.0, -1.0, 0.25]
    for make in (
        lambda dial: nd.Scale(circuit_of(subject), dial=dial),
        lambda dial: nd.Pin(dict.fromkeys(circuit_of(subject).neurons, 1.0), dial=dial),
        lambda dial: nd.AddVector(VECTOR, layer=0, dial=dial),
        lambda dial: nd.ProjectOut(VECTOR, dial=dial),
        lambda dial: nd.Scale(circuit_of(subject), dial=dial) + nd.AddVector(VECTOR, layer=0, dial=-0.5),
    ):
        with nd.steer(subject, make(dials)):
            together = repeated(subject, row, len(dials))
        for dial, found in zip(dials, together, strict=True):
            with nd.steer(subject, make(dial)):
                close(found, logits(subject, row))
        differ(together[0], together[1])


def test_two_lists_of_dials_compose_row_by_row():
    subject = shared()
    [row] = tokens_of(subject)
    first, second = circuit_of(subject, 4), circuit_of(subject, 6)
    with nd.steer(subject, nd.Scale(first, dial=[0.0, 1.0]), nd.Scale(second, dial=[0.5, -0.5])):
        together = repeated(subject, row, 2)
    for number, (one, two) in enumerate([(0.0, 0.5), (1.0, -0.5)]):
        with nd.steer(subject, nd.Scale(first, dial=one), nd.Scale(second, dial=two)):
            close(together[number], logits(subject, row))


def test_lists_of_different_lengths_are_refused():
    parts = nd.Scale(circuit_of(shared()), dial=[0.0, 1.0]), nd.AddVector(VECTOR, layer=0, dial=[1.0, 0.0, 1.0])
    with pytest.raises(SteeringError, match="dials for 2 and 3 rows"), nd.steer(shared(), *parts):
        pass


def test_a_list_of_dials_among_several_interventions_is_refused():
    with (
        pytest.raises(SteeringError, match="One of several interventions has a list of dials"),
        steer_each(shared(), [nd.Scale(circuit_of(shared()), dial=[0.0, 1.0])]),
    ):
        pass


@pytest.mark.parametrize("rows", [1, 2, 4, 5])
def test_a_batch_of_another_size_is_refused(rows):
    subject = shared()
    [row] = tokens_of(subject)
    with (
        nd.steer(subject, nd.Scale(circuit_of(subject), dial=[0.0, 0.5, 1.0])),
        pytest.raises(SteeringError, match=rf"batch of {rows} rows came to tiny-llama, but the dials are for 3"),
    ):
        repeated(subject, row, rows)


def test_several_answers_to_each_prompt_share_its_dial():
    """Beams and several samples repeat each prompt, one group after another."""
    subject = shared()
    [row] = tokens_of(subject)
    with nd.steer(subject, nd.Scale(circuit_of(subject), dial=[0.0, 1.0])):
        four = repeated(subject, row, 4)
    close(four[0], four[1])
    close(four[2], four[3])
    differ(four[1], four[2])


@pytest.mark.parametrize("family", SOME_FAMILIES)
@pytest.mark.parametrize(
    "options",
    [{"num_beams": 3}, {"num_beams": 3, "num_return_sequences": 2}, {"do_sample": True, "num_return_sequences": 2}],
    ids=["beams", "beams and several", "samples"],
)
def test_generation_of_several_answers_per_prompt(family, options):
    subject = shared(family)
    [first, second] = tokens_of(subject, ["sunny", "rainy"])
    assert len(first) == len(second)
    dials = [-2.0, 1.0]
    settings = {"max_new_tokens": 4, "min_new_tokens": 4, **options}

    def run(rows):
        with torch.random.fork_rng():
            torch.manual_seed(3)
            return subject.model.generate(torch.tensor(rows), **settings)

    each = options.get("num_return_sequences", 1)
    with nd.steer(subject, nd.Scale(circuit_of(subject), dial=dials)):
        together = run([first, second])
    assert together.shape[0] == 2 * each
    if "do_sample" in options:
        return  # samples of a batch draw from one stream of random numbers: only the shape can be compared
    for number, (row, dial) in enumerate(zip([first, second], dials, strict=True)):
        with nd.steer(subject, nd.Scale(circuit_of(subject), dial=dial)):
            alone = run([row])
        assert torch.equal(together[number * each : (number + 1) * each], alone)
    assert not torch.equal(together, run([first, second]))


def test_assign_says_which_row_uses_which():
    subject = shared()
    [row] = tokens_of(subject)
    interventions = [nd.Scale(circuit_of(subject), dial=dial) for dial in (0.0, 1.0, -1.0)]
    with steer_each(subject, interventions) as steering:
        steering.assign([2, 0])
        found = repeated(subject, row, 2)
        steering.assign([1])
        alone = repeated(subject, row, 1)
        steering.assign(None)
        every = repeated(subject, row, 3)
        for wrong in ([3], [-1]):
            with pytest.raises(SteeringError, match="0 to 2"):
                steering.assign(wrong)
    for result, dial in ((found[0], -1.0), (found[1], 0.0), (alone[0], 1.0), (every[2], -1.0)):
        with nd.steer(subject, nd.Scale(circuit_of(subject), dial=dial)):
            close(result, logits(subject, row))


def test_settings_are_exchanged_without_touching_hooks():
    subject = shared()
    [row] = tokens_of(subject)
    circuit = circuit_of(subject)
    plans = {dial: nd.Scale(circuit, dial=dial).compile(subject) for dial in (0.0, 1.0, -2.0)}
    with steered(subject, plans[0.0]) as steering:
        before = [list(block.mlp.down_proj._forward_pre_hooks) for block in subject.blocks]
        for dial in (1.0, -2.0, 0.0):
            steering.replace(plans[dial])
            found = logits(subject, row)
            assert [list(block.mlp.down_proj._forward_pre_hooks) for block in subject.blocks] == before
            with torch.no_grad():
                expected = expected_at(subject, circuit, dial, row)
            close(found, expected)
        with pytest.raises(SteeringError, match="same hook points"):
            steering.replace(nd.AddVector(VECTOR, layer=0).compile(subject))


def expected_at(subject, circuit, dial, row):
    """In a twin with the same weights, so that the steering under test stays where it is."""
    twin = fresh()
    with nd.steer(twin, nd.Scale(circuit, dial=dial)):
        return logits(twin, row)


def test_a_smaller_plan_takes_assigned_slots_with_it():
    subject = shared()
    [row] = tokens_of(subject)
    circuit = circuit_of(subject)
    with steered(subject, nd.Scale(circuit, dial=[0.0, 1.0, 2.0]).compile(subject)) as steering:
        steering.assign([2])
        with pytest.raises(SteeringError, match=r"slots are \[2\].*0 to 0"):
            steering.replace(nd.Scale(circuit, dial=1.0).compile(subject))
        steering.assign(None)
        steering.replace(nd.Scale(circuit, dial=1.0).compile(subject))
        differ(logits(subject, row), logits(fresh(), row))


def test_at_dial_sets_every_part():
    circuit = circuit_of(shared())
    parts = at_dial(nd.Scale(circuit, dial=0.5) + nd.AddVector(VECTOR, layer=0, dial=[1.0, 2.0]), 0.25)
    assert isinstance(parts, Together)
    assert [part.dial for part in parts.parts] == [0.25, 0.25]
    assert at_dial(nd.Pin({}, dial=1.0, when="prompt"), 0.0) == nd.Pin({}, dial=0.0, when="prompt")


def test_plus_flattens():
    a, b, c = (nd.AddVector(VECTOR, layer=0, dial=dial) for dial in (1.0, 2.0, 3.0))
    assert ((a + b) + c).parts == (a + (b + c)).parts == (a, b, c)


# ------------------------------------------------------------------------------------------- compiled models


def compiled_whole(subject):
    subject.model.compile(backend="eager")


def compiled_block(subject):
    subject.blocks[1].compile(backend="eager")


def compiled_mlp(subject):
    subject.blocks[1].mlp = torch.compile(subject.blocks[1].mlp, backend="eager")


def compiled_forward(subject):
    subject.model.forward = torch.compile(subject.model.forward, backend="eager")


def compiled_by_generate(subject):
    from transformers import CompileConfig

    subject.model.get_compiled_call(CompileConfig(backend="eager"))


@pytest.mark.parametrize(
    "compile_it", [compiled_whole, compiled_block, compiled_mlp, compiled_forward, compiled_by_generate]
)
def test_a_compiled_model_is_refused_in_words(compile_it):
    subject = fresh()
    compile_it(subject)
    with (
        pytest.raises(SteeringError, match=r"tiny-llama is compiled.*without torch.compile"),
        nd.steer(subject, nd.Scale(circuit_of(subject, known=False))),
    ):
        pass
    with nd.steer(subject):  # nothing to install: nothing to refuse
        pass


def test_a_compiled_wrapper_is_refused():
    from neurodial.model.subject import Subject

    subject = fresh()
    wrapped = Subject.of(torch.compile(subject.model, backend="eager"), subject.tokenizer, label="wrapped")
    with pytest.raises(SteeringError, match="wrapped is compiled"), nd.steer(wrapped, nd.AddVector(VECTOR, layer=0)):
        pass


def test_gradients_pass_through_steering():
    """Out of place: nothing that autograd needs is overwritten."""
    subject = fresh()
    [row] = tokens_of(subject)
    interventions = nd.Scale(circuit_of(subject)), nd.ProjectOut(VECTOR), nd.AddVector(VECTOR, layer=0)
    with nd.steer(subject, *interventions):
        subject.model(torch.tensor([row])).logits.sum().backward()
    gradient = subject.down(subject.sites[0]).weight.grad
    zeroed = circuit_of(subject).rows[0].neuron
    assert float(gradient.abs().max()) > 0
    assert float(gradient[:, zeroed.index].abs().max()) == 0, "a column whose neuron is zero gets no gradient"


def test_a_pass_without_gradients_does_not_spoil_a_later_one_with_them():
    subject = fresh()
    [row] = tokens_of(subject)
    with nd.steer(subject, nd.Scale(circuit_of(subject)), nd.ProjectOut(VECTOR)):
        with torch.inference_mode():
            subject.model(torch.tensor([row]))
        subject.model(torch.tensor([row])).logits.sum().backward()
    assert subject.down(subject.sites[0]).weight.grad is not None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_steered_in_half_precision(dtype):
    subject, twin = fresh(), fresh()
    subject.model.to(dtype)
    [row] = tokens_of(subject)
    with nd.steer(subject, nd.Scale(circuit_of(subject), dial=-1.0)):
        found = logits(subject, row)
    with nd.steer(twin, nd.Scale(circuit_of(twin), dial=-1.0)):
        exact = logits(twin, row)
    assert found.dtype == dtype
    plain = logits(subject, row)
    noise = float((plain.float() - logits(twin, row)).abs().max())
    effect = float((exact - logits(twin, row)).abs().max())
    # Steering adds no more error than half precision itself has; a factor three for another draw of the rounding.
    assert float((found.float() - exact).abs().max()) < 3 * noise < effect
    assert not same_bits(found, plain)


@pytest.mark.slow
@pytest.mark.timeout(400)  # the first compilation imports half of torch
def test_a_model_compiled_inside_the_block_follows_the_dial_and_is_plain_afterwards():
    subject = fresh()
    [row] = tokens_of(subject)
    circuit = circuit_of(subject)
    plain = logits(subject, row)
    with nd.steer(subject, nd.Scale(circuit)) as steering:
        steered_logits = logits(subject, row)
        subject.model.compile(backend="eager")
        close(logits(subject, row), steered_logits)
        steering.replace(nd.Scale(circuit, dial=0.0).compile(subject))
        close(logits(subject, row), plain)
    close(logits(subject, row), plain)
    differ(steered_logits, plain)
