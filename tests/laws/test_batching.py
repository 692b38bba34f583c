"""Law 3: how tokens are fed never changes the result: batches, padding, caches, shared prefixes, sliding windows.

Each comparison allows 64 units in the last place of the largest number (`close` says why); the tests that a wrong
row, token or dial is far outside of that stand beside them.
"""

import pytest
import torch
from tests.subjects import (
    FAMILIES,
    SLIDING,
    SOME_FAMILIES,
    WINDOW,
    batch_logits,
    cached_logits,
    circuit_of,
    close,
    differ,
    logits,
    prompts,
    same_bits,
    shared,
    sliding,
    tokens_of,
)

import neurodial as nd
from neurodial.activations.collect import Reading, collect
from neurodial.activations.position import Index, Last, PostInstruction
from neurodial.intervention.steer import steer_each

VECTOR = torch.linspace(-1, 1, 16)
PREFIX = [256, *range(30, 30 + 3 * WINDOW)]


def several(subject):
    """One intervention of each kind, at different dials."""
    circuit = circuit_of(subject)
    return [
        nd.Scale(circuit, dial=1.0),
        nd.Scale(circuit, dial=0.0),
        nd.Scale(circuit, dial=-2.0) + nd.AddVector(VECTOR, layer=0),
        nd.Pin(dict.fromkeys(circuit.neurons, 2.0)),
        nd.ProjectOut(VECTOR, dial=0.5),
    ]


def read_all(subject, sequences, position, **options):
    """Activations (prompt, neuron) of the whole model, by `collect`."""
    found = {}

    def keep(site, activations, rows):
        for row, values in zip(rows, activations, strict=True):
            found[row, site] = values.clone()

    collect(subject, sequences, Reading(position, **options), keep)
    assert len(found) == len(sequences) * subject.layers
    return torch.stack([torch.cat([found[row, site] for site in subject.sites]) for row in range(len(sequences))])


# ------------------------------------------------------------------------------------------- steering


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("side", ["left", "right"])
def test_one_dial_per_row_of_a_padded_batch_equals_one_by_one(family, side):
    subject = shared(family)
    rows = tokens_of(subject, prompts(5))
    assert len({len(row) for row in rows}) > 2
    with steer_each(subject, several(subject)):
        together = batch_logits(subject, rows, side)
    for row, intervention, found in zip(rows, several(subject), together, strict=True):
        with nd.steer(subject, intervention):
            alone = logits(subject, row)
        close(found, alone)
    differ(together[0], logits(subject, rows[0]))


@pytest.mark.parametrize("family", FAMILIES)
def test_with_a_cache_equals_without(family):
    subject = shared(family)
    [row] = tokens_of(subject, ["a text of some length"])
    for intervention in several(subject):
        with nd.steer(subject, intervention):
            whole = logits(subject, row)
            close(cached_logits(subject, row, start=5), whole)
    differ(whole, logits(subject, row))


@pytest.mark.parametrize("family", SLIDING)
def test_with_a_cache_equals_without_past_a_sliding_window(family):
    subject = sliding(family)
    row = [*PREFIX, 1, 2, 3, 4]
    differ(logits(subject, row)[-1], logits(subject, [PREFIX[0], *row[-WINDOW:]])[-1], by=1e-3)
    with nd.steer(subject, nd.Scale(circuit_of(subject))):
        close(cached_logits(subject, row, start=2 * WINDOW), logits(subject, row))


@pytest.mark.parametrize("family", SLIDING)
def test_the_window_is_one(family):
    """A token further back than the layers' windows reach together changes nothing, where every layer has one."""
    subject = sliding(family)
    kinds = getattr(subject.model.config, "layer_types", None) or ["sliding_attention"] * subject.layers
    [mixed, other] = [[*PREFIX, 1, 2, 3], [PREFIX[0], 77, *PREFIX[2:], 1, 2, 3]]
    moved = float((logits(subject, mixed)[-1] - logits(subject, other)[-1]).abs().max())
    assert (moved == 0) == (set(kinds) == {"sliding_attention"})
    assert "sliding_attention" in kinds


# ------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize("family", FAMILIES)
def test_batched_reading_equals_one_by_one(family):
    subject = shared(family)
    sequences = [tuple(row) for row in tokens_of(subject, prompts(7))]
    alone = torch.cat([read_all(subject, [row], Last()) for row in sequences])
    close(read_all(subject, sequences, Last()), alone)
    close(read_all(subject, sequences, Last(), budget=1), alone)
    differ(alone[0], alone[1])


@pytest.mark.parametrize("position", [Last(), PostInstruction(3), Index(-2), Index(2)], ids=str)
@pytest.mark.parametrize("family", SOME_FAMILIES)
def test_a_shared_prefix_equals_none(family, position):
    subject = shared(family)
    sequences = [(*PREFIX[:9], *row) for row in tokens_of(subject, prompts(5))]
    with_prefix = read_all(subject, sequences, position, share_prefix=True)
    close(with_prefix, read_all(subject, sequences, position, share_prefix=False))


@pytest.mark.parametrize("family", SLIDING)
@pytest.mark.parametrize("length", [WINDOW - 1, WINDOW, WINDOW + 1, len(PREFIX)])
def test_a_shared_prefix_longer_than_the_window_equals_none(family, length):
    subject = sliding(family)
    sequences = [(*PREFIX[:length], *row) for row in tokens_of(subject, prompts(4))]
    with_prefix = read_all(subject, sequences, Last(), share_prefix=True)
    without = read_all(subject, sequences, Last(), share_prefix=False)
    close(with_prefix, without)
    close(with_prefix, torch.cat([read_all(subject, [row], Last()) for row in sequences]))


def test_the_shared_prefix_is_really_computed_once(monkeypatch):
    subject = shared()
    sequences = [(*PREFIX, *row) for row in tokens_of(subject, prompts(4))]
    seen = []
    handle = subject.decoder.register_forward_hook(
        lambda module, args, kwargs, output: seen.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    try:
        read_all(subject, sequences, Last(), budget=1)
    finally:
        handle.remove()
    longest = max(len(row) for row in sequences) - len(PREFIX) - 1  # each text begins with the same token too
    assert seen[0] == (1, len(PREFIX) + 1)
    assert len(seen) == 1 + len(sequences)
    assert max(tokens for _, tokens in seen[1:]) == longest


def test_steering_acts_while_activations_are_read():
    subject = shared()
    sequences = [tuple(row) for row in tokens_of(subject, prompts(3))]
    plain = read_all(subject, sequences, Last())
    with nd.steer(subject, nd.AddVector(VECTOR, layer=0)):
        differ(read_all(subject, sequences, Last()), plain)
    assert same_bits(read_all(subject, sequences, Last()), plain)


# ------------------------------------------------------------------------------------------- generation


@pytest.mark.parametrize("family", FAMILIES)
def test_generation_in_one_batch_equals_one_by_one(family):
    subject = shared(family)
    texts, under = list(prompts(6)), [None, *several(subject)]
    decoding = nd.Decoding(max_new_tokens=4)
    together = nd.generate(subject, texts, under=under, decoding=decoding)
    for text, intervention, answer in zip(texts, under, together, strict=True):
        [alone] = nd.generate(subject, [text], under=intervention, decoding=decoding)
        assert alone == answer
    assert together != nd.generate(subject, texts, decoding=decoding)


@pytest.mark.parametrize("family", SOME_FAMILIES)
def test_generation_with_a_cache_equals_without(family):
    subject = shared(family)
    tokens = torch.tensor(tokens_of(subject, ["some text"]))
    options = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}
    for intervention in several(subject):
        with nd.steer(subject, intervention):
            with_cache = subject.model.generate(tokens, use_cache=True, **options)
            assert torch.equal(with_cache, subject.model.generate(tokens, use_cache=False, **options))
