"""What `collect` reads, against a loop of one prompt per pass; and what it refuses."""

import pytest
import torch
from tests import naive
from tests.subjects import FAMILIES, close, fresh, prompts, shared, tokens_of
from tests.tolerance import of_activations

from neurodial.activations.collect import Reading, collect
from neurodial.activations.position import Index, Last, PostInstruction
from neurodial.circuit.site import Site
from neurodial.errors import ActivationError, ContextLengthError, OptionError

POSITIONS = {
    Last(): lambda length: [length - 1],
    PostInstruction(3): lambda length: [length - 3, length - 2, length - 1],
    Index(-2): lambda length: [length - 2],
    Index(1): lambda length: [1],
}


def gather(subject, sequences, position, **options):
    """Activations (prompt, neuron), and how often each prompt came."""
    found = torch.zeros(len(sequences), subject.neurons, dtype=torch.float64)
    times = torch.zeros(len(sequences), subject.layers)
    starts = [sum(subject.widths[:layer]) for layer in range(subject.layers)]

    def keep(site, activations, rows):
        for row, values in zip(rows, activations, strict=True):
            found[row, starts[site.layer] : starts[site.layer] + len(values)] = values.double()
            times[row, site.layer] += 1

    collect(subject, sequences, Reading(position, **options), keep)
    assert bool((times == 1).all())
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_it_reads_what_a_loop_over_prompts_reads(family):
    subject = shared(family)
    sequences = [tuple(row) for row in tokens_of(subject, prompts(5))]
    for position, places in POSITIONS.items():
        expected = naive.means(subject.model, sequences, [places(len(row)) for row in sequences])
        found = gather(subject, sequences, position)
        torch.testing.assert_close(found, expected, rtol=0, atol=of_activations(subject, expected))


def test_positions_really_differ():
    subject = shared()
    sequences = [tuple(row) for row in tokens_of(subject, prompts(5))]
    found = [gather(subject, sequences, position) for position in POSITIONS]
    for number, first in enumerate(found):
        for second in found[number + 1 :]:
            assert float((first - second).abs().max()) > 0.1


def test_the_budget_bounds_each_batch():
    subject = shared()
    sequences = [tuple(row) for row in tokens_of(subject, prompts(9))]
    shapes = []
    handle = subject.decoder.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    try:
        gather(subject, sequences, Last(), budget=30, share_prefix=False)
    finally:
        handle.remove()
    assert len(shapes) > 1
    assert all(rows * tokens <= 30 or rows == 1 for rows, tokens in shapes)


def test_one_prompt_and_equal_prompts():
    subject = shared()
    row = tuple(tokens_of(subject)[0])
    alone = gather(subject, [row], Last())
    twice = gather(subject, [row, row, row], Last())
    close(twice.float(), alone.expand(3, -1).float())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64], ids=str)
def test_activations_come_in_single_precision_or_better(dtype):
    subject = fresh()
    subject.model.to(dtype)
    kinds = set()
    rows = [tuple(row) for row in tokens_of(subject, prompts(3))]
    for position in (Last(), PostInstruction(2)):
        collect(subject, rows, Reading(position), lambda site, values, rows: kinds.add(values.dtype))
    assert kinds == {torch.float64 if dtype == torch.float64 else torch.float32}


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_activations_that_are_not_finite_name_the_layer(family, value):
    subject = fresh(family)

    def spoil(neurons):
        neurons = neurons.clone()
        neurons[..., 4] = value
        return neurons

    with (
        naive.hooked(naive.down(subject.model, 1), spoil),
        pytest.raises(ActivationError, match=r"Layer 1 .*NaN or infinite.*bfloat16 or float32"),
    ):
        collect(subject, [(256, 1, 2)], Reading(Last()), lambda *_: None)


def test_a_prompt_longer_than_the_context_is_refused_before_any_pass():
    subject = fresh(max_position_embeddings=16)
    calls = []
    subject.decoder.register_forward_pre_hook(lambda *_: calls.append(1))
    with pytest.raises(ContextLengthError, match="Prompt 2 has 17 tokens"):
        collect(subject, [(1,) * 16, (1,) * 17], Reading(Last()), lambda *_: None)
    assert calls == []


def test_a_prompt_too_short_for_the_position_is_refused():
    with pytest.raises(ActivationError, match=r"2 tokens has no token 2.*-2 to 1"):
        collect(shared(), [(1, 2, 3), (1, 2)], Reading(Index(2)), lambda *_: None)
    with pytest.raises(OptionError, match="not known"):
        collect(shared(), [(1, 2)], Reading(PostInstruction()), lambda *_: None)


def test_a_post_instruction_longer_than_the_prompt_reads_all_of_it():
    subject = shared()
    expected = naive.means(subject.model, [(256, 1)], [[0, 1]])
    found = gather(subject, [(256, 1)], PostInstruction(5))
    torch.testing.assert_close(found, expected, rtol=0, atol=of_activations(subject, expected))


def test_progress_counts_every_prompt():
    from contextlib import contextmanager

    told = []

    @contextmanager
    def progress(description, total):
        told.append(total)
        yield told.append

    rows = [tuple(row) for row in tokens_of(shared(), prompts(5))]
    collect(shared(), rows, Reading(Last(), budget=25), lambda *_: None, progress=progress)
    assert told[0] == 5 == sum(told[1:])


def test_sites_come_in_their_order():
    seen = []
    collect(shared(), [(256, 1, 2)], Reading(Last()), lambda site, *_: seen.append(site))
    assert seen == [Site(0), Site(1)]
