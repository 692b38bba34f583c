"""Which tokens are steered: prompt, generated, all; with and without a cache, with padding on either side."""

import pytest
import torch
from tests import naive
from tests.subjects import (
    SOME_FAMILIES,
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
    sliding,
    tokens_of,
)

import neurodial as nd
from neurodial.intervention.plan import phases_of
from neurodial.intervention.steer import steer_each

VECTOR = torch.linspace(-1, 1, 16)
TEXT, BOUNDARY = "some words, more words", 9


def kinds(subject, when):
    """An intervention of each kind in one phase."""
    circuit = circuit_of(subject)
    return [
        nd.Scale(circuit, dial=-2.0, when=when),
        nd.Pin(dict.fromkeys(circuit.neurons, 2.0), when=when),
        nd.AddVector(VECTOR, layer=0, when=when),
        nd.ProjectOut(VECTOR, when=when),
        nd.ProjectOut(VECTOR, where="blocks", when=when),
    ]


def by_hand(subject, row, kept):
    """Logits with a circuit's neurons zeroed at the tokens where `kept` is false, by a hook written here."""
    circuit = circuit_of(subject)
    handles = []
    for site, rows in circuit.sites.items():

        def zero(module, args, rows=rows):
            neurons = args[0].clone().reshape(1, len(row), -1)
            for entry in rows:
                neurons[0, ~kept, entry.neuron.index] = 0
            return (neurons.reshape(args[0].shape),)

        handles.append(naive.down(subject.model, site.layer).register_forward_pre_hook(zero))
    try:
        return logits(subject, row)
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("family", SOME_FAMILIES)
@pytest.mark.parametrize("when", ["prompt", "generated", "all"])
def test_each_phase_against_a_hook_that_counts_tokens(family, when):
    subject = shared(family)
    [row] = tokens_of(subject, [TEXT])
    place = torch.arange(len(row))
    kept = {"prompt": place >= BOUNDARY, "generated": place < BOUNDARY, "all": place < 0}[when]
    expected = by_hand(subject, row, kept)
    with nd.steer(subject, nd.Scale(circuit_of(subject), when=when)) as steering:
        close(cached_logits(subject, row, start=BOUNDARY), expected)  # the first pass is the prompt
        steering.mark_prompts([BOUNDARY])
        close(logits(subject, row), expected)
        close(cached_logits(subject, row, start=BOUNDARY), expected)
        close(cached_logits(subject, row, start=BOUNDARY - 4), expected)  # a prompt that comes in pieces
        close(cached_logits(subject, row, start=BOUNDARY + 4), expected)  # a first pass that holds some of the answer
    differ(expected, logits(subject, row))


@pytest.mark.parametrize("family", SOME_FAMILIES)
@pytest.mark.parametrize("when", ["prompt", "generated"])
def test_every_kind_keeps_to_its_phase(family, when):
    subject = shared(family)
    [row] = tokens_of(subject, [TEXT])
    plain = logits(subject, row)
    for intervention in kinds(subject, when):
        with nd.steer(subject, intervention) as steering:
            steering.mark_prompts([BOUNDARY])
            whole = logits(subject, row)
            close(cached_logits(subject, row, start=BOUNDARY), whole)
        if when == "generated":
            close(whole[:BOUNDARY], plain[:BOUNDARY])
        else:
            differ(whole[:BOUNDARY], plain[:BOUNDARY])
        differ(whole[BOUNDARY:], plain[BOUNDARY:])


def test_phases_differ_from_one_another():
    subject = shared()
    [row] = tokens_of(subject, [TEXT])
    found = []
    for when in ("prompt", "generated", "all"):
        with nd.steer(subject, nd.Scale(circuit_of(subject), when=when)) as steering:
            steering.mark_prompts([BOUNDARY])
            found.append(logits(subject, row))
    for number, first in enumerate(found):
        for second in found[number + 1 :]:
            differ(first, second)


@pytest.mark.parametrize("family", SOME_FAMILIES)
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_boundary_for_each_row_counts_the_padding(family, side):
    subject = shared(family)
    rows = tokens_of(subject, prompts(4))
    own = [3, 1, 4, 2]  # where each row's answer begins
    ids, mask = pad(rows, side)
    offsets = (mask == 0).sum(-1).tolist() if side == "left" else [0] * len(rows)
    interventions = [
        nd.Scale(circuit_of(subject), dial=d, when=w) for d, w in zip([1.0, -1.0, 2.0, 1.0], WHENS, strict=True)
    ]
    with steer_each(subject, interventions) as steering:
        steering.mark_prompts([start + offset for start, offset in zip(own, offsets, strict=True)])
        together = batch_logits(subject, rows, side)
    for row, start, intervention, found in zip(rows, own, interventions, together, strict=True):
        with nd.steer(subject, intervention) as steering:
            steering.mark_prompts([start])
            close(found, logits(subject, row))
    assert ids.shape[1] > min(len(row) for row in rows)


WHENS = ["generated", "prompt", "all", "generated"]


def test_phases_past_a_sliding_window():
    subject = sliding("gemma3_text")
    row = [256, *range(30, 75)]
    with nd.steer(subject, nd.Scale(circuit_of(subject), when="generated")) as steering:
        cached = cached_logits(subject, row, start=30)
        steering.mark_prompts([30])
        close(cached, logits(subject, row))


# ------------------------------------------------------------------------------------------- generation


def generated(subject, row, **options):
    ids = torch.tensor([row])
    return subject.model.generate(ids, max_new_tokens=5, min_new_tokens=5, do_sample=False, **options)[0].tolist()


@pytest.mark.parametrize("family", SOME_FAMILIES)
@pytest.mark.parametrize("when", ["prompt", "generated"])
def test_generation_without_a_cache_needs_the_mark_and_then_equals_the_one_with(family, when):
    """A marked prompt is the same whatever the passes; a greedy step by hand says which tokens are right."""
    subject = shared(family)
    [row] = tokens_of(subject, [TEXT])
    with nd.steer(subject, nd.Scale(circuit_of(subject), dial=-3.0, when=when)) as steering:
        cached = generated(subject, row, use_cache=True)
        steering.mark_prompts([len(row)])
        assert generated(subject, row, use_cache=False) == cached
        assert generated(subject, row, use_cache=True) == cached
        stops = subject.model.generation_config.eos_token_id
        by_steps = list(row)
        for _ in range(5):
            scores = logits(subject, by_steps)[-1]
            scores[stops] = -torch.inf
            by_steps.append(int(scores.argmax()))
    assert by_steps == cached


@pytest.mark.parametrize("when", ["prompt", "generated"])
def test_generate_marks_prompts_itself_also_for_models_without_a_cache(when):
    """Some checkpoints switch the cache off in their configuration; which tokens are steered must not depend on it."""
    from tests.subjects import fresh

    with_cache, without = fresh(), fresh()
    without.model.generation_config.use_cache = False
    without.model.config.use_cache = False
    passes = []
    without.decoder.register_forward_pre_hook(
        lambda module, args, kwargs: passes.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    texts, decoding = list(prompts(4)), nd.Decoding(max_new_tokens=6)
    under = [nd.Scale(circuit_of(with_cache), dial=dial, when=when) for dial in (-3.0, 1.0, 0.0, 3.0)]
    expected = nd.generate(with_cache, texts, under=under, decoding=decoding)
    assert nd.generate(without, texts, under=under, decoding=decoding) == expected
    assert passes[1] == passes[0] + 1, "or there was a cache after all"
    assert expected != nd.generate(with_cache, texts, decoding=decoding)


# ------------------------------------------------------------------------------------------- the phases themselves


def test_a_phase_is_one_number_where_all_cells_agree():
    device = torch.device("cpu")
    assert phases_of(0, 5, None, device) == 0
    assert phases_of(5, 1, None, device) == 1
    assert phases_of(0, 5, [5, 7], device) == 0
    assert phases_of(7, 1, [5, 7], device) == 1
    assert phases_of(3, 3, [5, 4], device).tolist() == [[0, 0, 1], [0, 1, 1]]
    assert phases_of(6, 1, [5, 7], device).tolist() == [[1], [0]]  # one row still reads its prompt


def test_marks_are_taken_back():
    subject = shared()
    [row] = tokens_of(subject, [TEXT])
    with nd.steer(subject, nd.Scale(circuit_of(subject), when="generated")) as steering:
        plain = logits(subject, row)
        steering.mark_prompts([4])
        differ(logits(subject, row), plain)
        steering.mark_prompts(None)
        assert same_bits(logits(subject, row), plain)
