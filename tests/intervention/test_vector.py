"""Adding vectors and taking directions out, against hand-written hooks and orthogonalised weights."""

import copy
import dataclasses

import pytest
import torch
from tests.records import record_of
from tests.subjects import FAMILIES, SOME_FAMILIES, close, differ, fresh, logits, same_bits, shared, tokens_of
from tests.tolerance import rounding

import neurodial as nd
from neurodial.errors import OptionError, SteeringError, UnknownNameError
from neurodial.intervention.combine import compose, stack
from neurodial.intervention.steer import steer_each, steered

VECTOR = torch.sin(torch.arange(16.0))
UNIT = (VECTOR / VECTOR.norm()).double()


def streams(subject, row):
    """The residual stream (token, hidden) before the first block and after each, by hooks of the test's own."""
    seen = []

    def before(module, args, kwargs):
        seen.append(args[0] if args else kwargs["hidden_states"])

    def after(module, args, output):
        seen.append(output[0] if isinstance(output, tuple) else output)

    handles = [subject.blocks[0].register_forward_pre_hook(before, with_kwargs=True)]
    handles += [block.register_forward_hook(after) for block in subject.blocks]
    try:
        logits(subject, row)
    finally:
        for handle in handles:
            handle.remove()
    return [hidden.reshape(len(row), -1) for hidden in seen]


# ------------------------------------------------------------------------------------------- adding


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("family", FAMILIES)
def test_adding_is_an_addition_after_one_block(family, layer):
    subject = shared(family)
    [row] = tokens_of(subject)

    def add(module, args, output):
        moved = (output[0] if isinstance(output, tuple) else output) + 0.5 * -2.0 * VECTOR
        return (moved, *output[1:]) if isinstance(output, tuple) else moved

    handle = subject.blocks[layer].register_forward_hook(add)
    expected = logits(subject, row)
    handle.remove()
    with nd.steer(subject, nd.AddVector(VECTOR, layer=layer, alpha=-2.0, dial=0.5)):
        assert same_bits(logits(subject, row), expected)
    differ(logits(subject, row), expected)


def test_adding_moves_the_stream_by_the_vector_and_no_earlier():
    subject = shared()
    [row] = tokens_of(subject)
    plain = streams(subject, row)
    with nd.steer(subject, nd.AddVector(VECTOR, layer=0, alpha=3.0)):
        steered_streams = streams(subject, row)
    assert same_bits(steered_streams[0], plain[0])
    close(steered_streams[1] - plain[1], (3 * VECTOR).expand(len(row), -1))


# ------------------------------------------------------------------------------------------- projecting


@pytest.mark.parametrize("where", ["writes", "blocks"])
@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_of_the_direction_is_left_in_the_stream(family, where):
    subject = shared(family)
    [row] = tokens_of(subject)
    with nd.steer(subject, nd.ProjectOut(VECTOR, where=where)):
        along = [stream.double() @ UNIT for stream in streams(subject, row)]
    plain = [stream.double() @ UNIT for stream in streams(subject, row)]
    checked = slice(0 if where == "writes" else 1, None)
    for left, before in zip(along[checked], plain[checked], strict=True):
        # A projection takes out what it meets up to its rounding, after each of the stream's writes.
        size = max(float(stream.abs().max()) for stream in streams(subject, row)) * subject.hidden_size**0.5
        assert float(left.abs().max()) <= rounding(size, subject.hidden_size * (2 * subject.layers + 1))
        assert float(before.abs().max()) > 0.1
    if where == "blocks":
        assert float(along[0].abs().max()) > 0.1, "the weaker form leaves the embedding alone"


def orthogonalised(subject):
    """A copy of a Llama-like or GPT model whose embedding and writing weights have no component along UNIT."""
    model = copy.deepcopy(subject.model)
    twin = dataclasses.replace(subject, model=model)
    keep = (torch.eye(16, dtype=torch.float64) - torch.outer(UNIT, UNIT)).float()
    with torch.no_grad():
        embedding = model.get_input_embeddings()
        embedding.weight.copy_(embedding.weight @ keep)
        if hasattr(twin.decoder, "wpe"):
            twin.decoder.wpe.weight.copy_(twin.decoder.wpe.weight @ keep)
        for block in twin.blocks:
            for path in (record_of(subject).attention_write, record_of(subject).mlp_write):
                linear = block.get_submodule(path)
                if record_of(subject).transposed:
                    linear.weight.copy_(linear.weight @ keep)
                else:
                    linear.weight.copy_(keep @ linear.weight)
                if linear.bias is not None:
                    linear.bias.copy_(keep @ linear.bias)
    return twin


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3", "phi3", "gpt_neox", "gpt2"])
def test_projecting_every_write_is_orthogonalising_the_weights(family):
    """Exact where writes are linear maps; not where a norm stands between (Gemma 2 and 3, OLMo 2).

    The output embedding stays its own: tied ones are untied first, since only what is read in is projected.
    """
    subject = fresh(family, tie_word_embeddings=False)
    [row] = tokens_of(subject)
    with nd.steer(subject, nd.ProjectOut(VECTOR)):
        close(logits(subject, row), logits(orthogonalised(subject), row), steps=256)
    differ(logits(subject, row), logits(orthogonalised(subject), row))


@pytest.mark.parametrize("family", SOME_FAMILIES)
def test_half_the_dial_takes_half_the_component(family):
    subject = shared(family)
    [row] = tokens_of(subject)
    plain = streams(subject, row)[0]
    with nd.steer(subject, nd.ProjectOut(VECTOR, dial=0.5)):
        half = streams(subject, row)[0]
    expected = plain.double() - 0.5 * torch.outer(plain.double() @ UNIT, UNIT)
    close(half, expected.float())


def test_the_length_of_the_direction_does_not_matter():
    subject = shared()
    [row] = tokens_of(subject)
    found = []
    for scale in (1.0, 1e-3, 1e4):
        with nd.steer(subject, nd.ProjectOut(VECTOR * scale)):
            found.append(logits(subject, row))
    close(found[0], found[1])
    close(found[0], found[2])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_in_half_precision_only_rounding_is_left(dtype):
    """The projection is computed in float32: a unit vector rounded to bfloat16 is off by up to half a percent."""
    subject = fresh()
    subject.model.to(dtype)
    [row] = tokens_of(subject)
    pushed = nd.AddVector(VECTOR, layer=1, alpha=50.0)
    with nd.steer(subject, pushed, nd.ProjectOut(VECTOR, where="blocks")):
        found = streams(subject, row)[-1]
    assert found.dtype == dtype
    # Each coordinate is rounded once, by at most half a unit in the last place; |u|_1 of them add up at worst.
    bound = torch.finfo(dtype).eps / 2 * float(found.abs().max()) * float(UNIT.abs().sum())
    assert float((found.double() @ UNIT).abs().max()) <= bound
    with nd.steer(subject, pushed):
        assert float((streams(subject, row)[-1].double() @ UNIT).abs().max()) > 50


# ------------------------------------------------------------------------------------------- order


def test_order_matters_between_adding_and_projecting_and_is_kept():
    subject = shared()
    [row] = tokens_of(subject)
    add, project = nd.AddVector(VECTOR, layer=1, alpha=5.0), nd.ProjectOut(VECTOR, where="blocks")
    with nd.steer(subject, add, project):
        last = streams(subject, row)[-1].double() @ UNIT
    with nd.steer(subject, project, add):
        first = streams(subject, row)[-1].double() @ UNIT
    size = float(streams(subject, row)[-1].abs().max() + 5 * VECTOR.abs().max()) * subject.hidden_size**0.5
    bound = rounding(size, 2 * subject.hidden_size)
    assert float(last.abs().max()) <= bound
    torch.testing.assert_close(first, (5 * VECTOR.double() @ UNIT).expand(len(row)), rtol=0, atol=bound)


def test_each_slot_of_a_batch_keeps_its_own_order():
    subject = shared()
    [row] = tokens_of(subject)
    add, project = nd.AddVector(VECTOR, layer=1, alpha=5.0), nd.ProjectOut(VECTOR, where="blocks")
    kinds = [add + project, project + add, add, project + add + project, project, add + add]
    with steer_each(subject, kinds), torch.no_grad():
        together = subject.model(torch.tensor([row] * len(kinds))).logits
    for intervention, found in zip(kinds, together, strict=True):
        with nd.steer(subject, intervention):
            close(found, logits(subject, row))
    differ(together[0], together[1])


def test_a_stack_shares_hooks_between_dials_of_one_circuit():
    """As many dials as you like cost one multiply for each layer."""
    from tests.subjects import circuit_of

    subject = shared()
    scales = [nd.Scale(circuit_of(subject), dial=dial).compile(subject) for dial in (0.0, 0.5, 1.0)]
    merged = stack(scales)
    assert len(merged.edits) == subject.layers
    assert merged.slots == 3
    assert len(compose(scales).edits) == subject.layers
    with steered(subject, merged) as steering:
        assert steering.plan.slots == 3


# ------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("make", [lambda v: nd.AddVector(v, layer=0), nd.ProjectOut], ids=["add", "project"])
def test_vectors_that_do_not_fit(make):
    with pytest.raises(SteeringError, match=r"15 numbers.*16, the width of tiny-llama"):
        make(torch.ones(15)).compile(shared())
    with pytest.raises(OptionError, match="finite"):
        make(torch.full((16,), torch.nan))


def test_layers_and_directions_that_do_not_exist():
    for layer in (-1, 2):
        with pytest.raises(SteeringError, match=f"no layer {layer}"):
            nd.AddVector(VECTOR, layer=layer).compile(shared())
    with pytest.raises(OptionError, match="direction is zero"):
        nd.ProjectOut(torch.zeros(16))
    project = nd.ProjectOut(VECTOR)
    object.__setattr__(project, "where", "write")  # the tests' own type check would refuse it before we do
    with pytest.raises(UnknownNameError, match="Did you mean writes"):
        project.__post_init__()


@pytest.mark.parametrize("alpha", [float("nan"), float("inf")])
def test_an_alpha_that_is_not_finite(alpha):
    with pytest.raises(OptionError, match="alpha"):
        nd.AddVector(VECTOR, layer=0, alpha=alpha)
