"""Law 2: after a block ends, normally or by an error at any step, the model is what it was, bit for bit."""

import contextlib

import pytest
import torch
from tests.subjects import (
    FAMILIES,
    SOME_FAMILIES,
    circuit_of,
    differ,
    differences,
    fresh,
    logits,
    same_bits,
    shared,
    snapshot,
    tokens_of,
)
from transformers import LogitsProcessor, LogitsProcessorList

import neurodial as nd
from neurodial.activations.collect import Reading, collect
from neurodial.activations.position import Last
from neurodial.errors import ActivationError, ModelMismatchError, SteeringError
from neurodial.intervention.steer import steer_each

VECTOR = torch.linspace(-1, 1, 16)


class Stopped(BaseException):
    """Stands for Ctrl-C: not an Exception, so nothing may swallow it."""


def everything(subject):
    """An intervention at every kind of hook point."""
    return (
        nd.Scale(circuit_of(subject))
        + nd.Pin(dict.fromkeys(circuit_of(subject, 3).neurons, 1.0))
        + nd.AddVector(VECTOR, layer=0)
        + nd.ProjectOut(VECTOR)
        + nd.ProjectOut(VECTOR, where="blocks")
    )


def test_a_snapshot_sees_a_change():
    subject = fresh()
    before = snapshot(subject.model)
    assert differences(before, snapshot(subject.model)) == []
    handle = subject.blocks[0].register_forward_hook(lambda *_: None)
    assert any("_forward_hooks" in name for name in differences(before, snapshot(subject.model)))
    handle.remove()
    assert differences(before, snapshot(subject.model)) == []
    subject.blocks[1].train()
    assert any(name.startswith("mode") for name in differences(before, snapshot(subject.model)))
    subject.blocks[1].eval()
    subject.model.config.use_cache = not subject.model.config.use_cache
    assert differences(before, snapshot(subject.model)) == ["config"]
    subject.model.config.use_cache = not subject.model.config.use_cache
    with torch.no_grad():
        subject.down(subject.sites[0]).weight[0, 0] *= -1
    assert differences(before, snapshot(subject.model)) == ["tensor model.layers.0.mlp.down_proj.weight"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_after_a_block(family, training):
    subject = fresh(family) if training else shared(family)
    subject.model.train(training)
    before = snapshot(subject.model)
    [row] = tokens_of(subject)
    with nd.steer(subject, everything(subject)):
        assert differences(before, snapshot(subject.model)), "steering installs something"
        logits(subject, row)
    assert differences(before, snapshot(subject.model)) == []


@pytest.mark.parametrize("family", SOME_FAMILIES)
def test_after_nested_and_composed_blocks(family):
    subject = shared(family)
    [row] = tokens_of(subject)
    plain, before = logits(subject, row), snapshot(subject.model)
    with nd.steer(subject, everything(subject), nd.Scale(circuit_of(subject, 2), dial=-1.0)):
        outer, between = logits(subject, row), snapshot(subject.model)
        with nd.steer(subject, nd.AddVector(VECTOR, layer=1)):
            differ(logits(subject, row), outer)
        assert differences(between, snapshot(subject.model)) == []
        assert same_bits(logits(subject, row), outer)
    assert differences(before, snapshot(subject.model)) == []
    assert same_bits(logits(subject, row), plain)


def test_blocks_may_end_in_any_order():
    subject = shared()
    before = snapshot(subject.model)
    first = nd.steer(subject, nd.Scale(circuit_of(subject)))
    second = nd.steer(subject, nd.AddVector(VECTOR, layer=0))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert differences(before, snapshot(subject.model)) == []


@pytest.mark.parametrize("family", SOME_FAMILIES)
def test_after_an_error_in_the_block(family):
    subject = shared(family)
    before = snapshot(subject.model)
    for error in (ValueError, Stopped):
        with pytest.raises(error), nd.steer(subject, everything(subject)):
            raise error
        assert differences(before, snapshot(subject.model)) == []


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "opt"])
def test_after_an_error_at_any_module(family, monkeypatch):
    """Each module of a block fails in turn, and each module around the blocks."""
    subject = shared(family)
    [row] = tokens_of(subject)
    before = snapshot(subject.model)
    inner = [module for block in subject.blocks[:-1] for module in block.modules()]
    leaves = [m for m in subject.decoder.modules() if not list(m.children()) and not any(m is other for other in inner)]
    assert len(leaves) > 8
    for leaf in leaves:
        with monkeypatch.context() as patch:
            patch.setattr(leaf, "forward", stop)
            with contextlib.suppress(Stopped), nd.steer(subject, everything(subject)):
                logits(subject, row)
        assert differences(before, snapshot(subject.model)) == []


def stop(*_, **__):
    raise Stopped


@pytest.mark.parametrize("failing", range(4))
def test_after_an_error_while_hooks_are_put_in(failing, monkeypatch):
    subject = shared()
    before = snapshot(subject.model)
    real, calls = nd.intervention.steer.on_neurons, []

    def sometimes(*arguments):
        calls.append(arguments)
        if len(calls) > failing:
            raise Stopped
        return real(*arguments)

    monkeypatch.setattr(nd.intervention.steer, "on_neurons", sometimes)
    plans = [nd.Scale(circuit_of(subject)), nd.Pin(dict.fromkeys(circuit_of(subject).neurons, 0.0))]
    with pytest.raises(Stopped), nd.steer(subject, *plans):
        pass
    assert differences(before, snapshot(subject.model)) == []


def test_after_a_refusal_nothing_was_put_in():
    subject, other = shared("llama"), fresh("llama", seed=1)
    before = snapshot(subject.model)
    with (
        pytest.raises(ModelMismatchError),
        nd.steer(subject, nd.AddVector(VECTOR, layer=0), nd.Scale(circuit_of(other))),
    ):
        pass
    assert differences(before, snapshot(subject.model)) == []


@pytest.mark.parametrize("family", SOME_FAMILIES)
@pytest.mark.parametrize("at", [1, 3])
def test_after_an_interrupted_generation(family, at):
    subject = shared(family)
    before = snapshot(subject.model)

    class Interrupt(LogitsProcessor):
        calls = 0

        def __call__(self, input_ids, scores):
            self.calls += 1
            if self.calls == at:
                raise Stopped
            return scores

    tokens = torch.tensor(tokens_of(subject))
    with pytest.raises(Stopped), nd.steer(subject, everything(subject)):
        subject.model.generate(
            tokens,
            max_new_tokens=5,
            min_new_tokens=5,
            do_sample=False,
            logits_processor=LogitsProcessorList([Interrupt()]),
        )
    assert differences(before, snapshot(subject.model)) == []


def test_generate_gives_back_model_and_random_state(monkeypatch):
    subject = shared()
    before, state = snapshot(subject.model), torch.random.get_rng_state()
    decoding = nd.Decoding(max_new_tokens=3, temperature=1.0)
    nd.generate(subject, ["one", "two"], under=everything(subject), decoding=decoding)
    assert differences(before, snapshot(subject.model)) == []
    assert torch.equal(state, torch.random.get_rng_state())
    with pytest.raises(Stopped):
        nd.generate(subject, ["one", "two"], under=everything(subject), decoding=decoding, progress=stopping)
    assert differences(before, snapshot(subject.model)) == []
    assert torch.equal(state, torch.random.get_rng_state())


def stopping(description, total):
    raise Stopped


@pytest.mark.parametrize("family", SOME_FAMILIES)
def test_collect_gives_back_also_when_the_sink_fails(family):
    subject = shared(family)
    before = snapshot(subject.model)
    rows = [tuple(row) for row in tokens_of(subject, ["abc", "abd", "efg"])]
    with pytest.raises(Stopped):
        collect(subject, rows, Reading(Last()), stop)
    assert differences(before, snapshot(subject.model)) == []


def test_collect_gives_back_after_activations_that_are_not_finite():
    subject = fresh()
    with torch.no_grad():
        subject.blocks[1].mlp.up_proj.weight[0] = torch.nan
    before = snapshot(subject.model)
    with pytest.raises(ActivationError, match="Layer 1"):
        collect(subject, [(256, 1, 2)], Reading(Last()), lambda *_: None)
    assert differences(before, snapshot(subject.model)) == []


def test_a_wrong_batch_gives_back_too():
    subject = shared()
    [row] = tokens_of(subject)
    before = snapshot(subject.model)
    with (
        pytest.raises(SteeringError, match="3 rows"),
        steer_each(subject, [nd.Scale(circuit_of(subject)), nd.AddVector(VECTOR, layer=0)]),
    ):
        subject.model(torch.tensor([row] * 3))
    assert differences(before, snapshot(subject.model)) == []
