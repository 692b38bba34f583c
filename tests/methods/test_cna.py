"""CNA end to end against a naive version: one prompt per pass, numpy, sorting in Python."""

import hashlib
import json
import math

import numpy as np
import pytest
import torch
from tests import naive
from tests.planting import PLANTED, planted
from tests.subjects import SOME_FAMILIES, fresh, prompts, shared
from tests.tolerance import of_activations

import neurodial as nd
from neurodial.circuit.site import Neuron
from neurodial.errors import OptionError, PromptError, UnknownNameError
from neurodial.methods.cna.attribute import attribute
from neurodial.methods.registry import METHODS, method

POSITIVE, NEGATIVE = list(prompts(7)), [f"other words {n}" for n in range(5)]
CONTRAST = nd.Contrast.of(POSITIVE, NEGATIVE)
K = 6


def templated(subject, texts, **options):
    """Token ids by the tokenizer alone."""
    return [
        subject.tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False, **options
        )
        for text in texts
    ]


def naive_activations(subject, texts, read=lambda length: [length - 1]):
    sequences = templated(subject, texts)
    return naive.means(subject.model, sequences, [read(len(tokens)) for tokens in sequences]).numpy()


def naive_choice(subject, delta, count, excluded=()):
    width = subject.widths[0]
    order = sorted(range(len(delta)), key=lambda place: (-abs(delta[place]), place))
    neurons = [Neuron(place // width, None, place % width) for place in order]
    return [neuron for neuron in neurons if neuron not in excluded][:count]


def options(**given):
    return nd.CNA(**{"universal": None, "select": nd.Count(K), **given})


@pytest.mark.parametrize("family", SOME_FAMILIES)
def test_delta_is_the_papers(family):
    subject = shared(family)
    delta = naive_activations(subject, POSITIVE).mean(axis=0) - naive_activations(subject, NEGATIVE).mean(axis=0)
    found = attribute(subject, CONTRAST, options())
    size = naive_activations(subject, [*POSITIVE, *NEGATIVE])
    np.testing.assert_allclose(found.scores.flat().numpy(), delta, atol=of_activations(subject, size))
    assert [row.neuron for row in found.rows] == naive_choice(subject, delta, K)


@pytest.mark.parametrize(
    ("position", "read"),
    [
        (nd.PostInstruction(), lambda length: list(range(length - 12, length))),
        (nd.Index(-3), lambda length: [length - 3]),
        (nd.Index(8), lambda length: [8]),
    ],
    ids=["post-instruction", "minus three", "eight"],
)
def test_each_position_is_read(position, read):
    """The template ends each prompt with `<eos><assistant>`: one token and eleven letters and signs."""
    subject = shared()
    delta = naive_activations(subject, POSITIVE, read).mean(axis=0)
    delta -= naive_activations(subject, NEGATIVE, read).mean(axis=0)
    found = attribute(subject, CONTRAST, options(position=position)).scores.flat().numpy()
    size = naive_activations(subject, [*POSITIVE, *NEGATIVE], read)
    np.testing.assert_allclose(found, delta, atol=of_activations(subject, size))
    assert not np.allclose(found, attribute(subject, CONTRAST, options()).scores.flat().numpy(), atol=1e-2)


def test_post_instruction_needs_a_template():
    with pytest.raises(PromptError, match="no chat template"):
        attribute(planted("llama"), CONTRAST, options(position=nd.PostInstruction()))


# ------------------------------------------------------------------------------------------- options


def test_skipped_layers_are_skipped_and_named():
    subject = shared()
    rows = attribute(subject, CONTRAST, options(skip_layers=(0,))).rows
    assert {row.neuron.layer for row in rows} == {1}
    assert {row.neuron.layer for row in attribute(subject, CONTRAST, options()).rows} == {0, 1}
    with pytest.raises(OptionError, match="no layer 7"):
        attribute(subject, CONTRAST, options(skip_layers=(7,)))


def test_the_sign_is_that_of_the_scores():
    subject = shared()
    for sign, kept in (("positive", 1), ("negative", -1)):
        rows = attribute(subject, CONTRAST, options(sign=sign)).rows
        assert {int(math.copysign(1, row.score)) for row in rows} == {kept}
    assert {row.score > 0 for row in attribute(subject, CONTRAST, options()).rows} == {True, False}


def test_a_system_message_changes_what_is_read():
    subject = shared()
    plain, told = (attribute(subject, CONTRAST, options(system=s)).scores.flat() for s in (None, "Be kind."))
    assert float((plain - told).abs().max()) > 0.1


def test_as_published_the_first_token_is_doubled_and_means_are_rounded():
    subject, seen = shared(), []
    handle = subject.decoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"][0, :2].tolist()), with_kwargs=True
    )
    try:
        plain = attribute(subject, CONTRAST, options()).scores.flat()
        found = attribute(subject, CONTRAST, options(as_published=True)).scores.flat()
    finally:
        handle.remove()
    firsts = [start for start in seen if start[0] == 256]
    assert firsts[0][1] != 256
    assert firsts[-1] == [256, 256]
    doubled = [[[256, *tokens] for tokens in templated(subject, texts)] for texts in (POSITIVE, NEGATIVE)]
    sides = [naive.means(subject.model, side, [[len(tokens) - 1] for tokens in side]).float() for side in doubled]
    means = [side.to(torch.bfloat16).mean(dim=0, dtype=torch.bfloat16) for side in sides]
    expected = (means[0] - means[1]).double()
    assert torch.equal(found.to(torch.bfloat16).double(), found), "every score is a bfloat16 number"
    assert not torch.equal(plain.to(torch.bfloat16).double(), plain)
    # An activation on the border between two bfloat16 numbers may fall either way: one unit in the last place
    # (2**-8) of the means involved.
    torch.testing.assert_close(found, expected, rtol=0, atol=float(max(m.abs().max() for m in means)) * 2**-8)
    assert float((found == expected).double().mean()) > 0.9
    assert float((found - plain).abs().max()) > 0.1


def test_the_reference_preset_has_every_difference_of_the_public_code():
    reference = method("cna-reference")
    assert reference == METHODS["cna-reference"]()
    assert reference.skip_layers == (0, 1)
    assert reference.universal is None
    assert reference.select == nd.Count(1600)
    assert reference.as_published
    paper = method("cna")
    assert (paper.skip_layers, paper.as_published, paper.sign) == ((), False, "both")
    assert paper.select == nd.Fraction(0.001)
    assert paper.universal == nd.UniversalFilter("diverse", 0.001, 0.8)
    subject = fresh(num_hidden_layers=4)
    found = attribute(subject, CONTRAST, reference)
    assert {row.neuron.layer for row in found.rows} == {2, 3}
    assert len(found.rows) == 48  # 1600 of 96, two layers of 24 left
    assert found.universal == frozenset()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"score": "detla"}, "Did you mean delta"),
        ({"sign": "up"}, "Known: both, negative, positive"),
        ({"folds": 1}, "0 for none, or 2"),
        ({"folds": -1}, "0 for none"),
        ({"as_published": True, "score": "auroc"}, "score delta"),
    ],
)
def test_options_that_make_no_sense(wrong, message):
    made = nd.CNA()
    for name, value in wrong.items():
        object.__setattr__(made, name, value)  # the tests' own type check would refuse a wrong word before we do
    with pytest.raises((OptionError, UnknownNameError), match=message):
        made.__post_init__()


@pytest.mark.parametrize("value", [0.0, -0.1, 1.5, math.nan])
def test_fractions_that_make_no_sense(value):
    with pytest.raises(OptionError, match="more than 0 and at most 1"):
        nd.Fraction(value)
    with pytest.raises(OptionError, match="more than 0 and at most 1"):
        nd.UniversalFilter(fraction=value)
    with pytest.raises(OptionError, match="more than 0 and at most 1"):
        nd.UniversalFilter(share=value)


# ------------------------------------------------------------------------------------------- universal neurons


@pytest.fixture
def diverse(tmp_path):
    path = tmp_path / "diverse.txt"
    path.write_text("\n".join(f"{text} and so on" for text in prompts(10)), encoding="utf-8")
    return path


def naive_universal(subject, path, fraction, share):
    texts = path.read_text(encoding="utf-8").splitlines()
    top = max(1, round(fraction * subject.neurons))
    counts = np.zeros(subject.neurons, dtype=int)
    for row in np.abs(naive_activations(subject, texts)):
        for place in sorted(range(len(row)), key=lambda place: -row[place])[:top]:
            counts[place] += 1
    width = subject.widths[0]
    return {
        Neuron(place // width, None, place % width)
        for place in range(subject.neurons)
        if counts[place] >= share * len(texts)
    }


@pytest.mark.parametrize("family", SOME_FAMILIES)
@pytest.mark.parametrize(("fraction", "share"), [(0.1, 0.8), (0.2, 0.5), (0.05, 1.0)])
def test_universal_neurons_are_those_of_a_count_by_hand(family, fraction, share, diverse):
    subject = shared(family)
    rule = nd.UniversalFilter(str(diverse), fraction, share)
    found = attribute(subject, CONTRAST, options(universal=rule))
    expected = naive_universal(subject, diverse, fraction, share)
    assert found.universal == expected
    unfiltered = [row.neuron for row in attribute(subject, CONTRAST, options()).rows]
    assert list(found.removed) == [neuron for neuron in unfiltered if neuron in expected]
    assert len(found.rows) == K, "the filter comes first, so the circuit keeps its k"
    assert not {row.neuron for row in found.rows} & expected
    delta = found.scores.flat().numpy()
    assert [row.neuron for row in found.rows] == naive_choice(subject, delta, K, expected)


def test_a_circuit_says_what_the_filter_did(diverse):
    subject = shared()
    rule = nd.UniversalFilter(str(diverse), 0.3, 0.5)
    circuit = nd.discover(subject, CONTRAST, method=options(universal=rule))
    found = attribute(subject, CONTRAST, options(universal=rule))
    assert found.removed, "or this test shows nothing"
    assert circuit.origin.universal == {
        "flagged": len(found.universal),
        "would_have_been_chosen": [[n.layer, n.expert, n.index] for n in found.removed],
    }
    assert nd.discover(subject, CONTRAST, method=options()).origin.universal is None


def test_a_neuron_planted_as_universal_is_filtered(diverse):
    """A neuron that shouts on every prompt differs a little between any two sides, and would lead the circuit."""
    subject = fresh("gpt2")
    up = subject.blocks[PLANTED.layer].mlp.c_fc
    with torch.no_grad():
        up.weight[:, PLANTED.index] *= 20
        up.bias[PLANTED.index] = 100
    rule = nd.UniversalFilter(str(diverse), 0.02, 0.8)
    kept = attribute(subject, CONTRAST, options(universal=None))
    filtered = attribute(subject, CONTRAST, options(universal=rule))
    assert kept.rows[0].neuron == PLANTED
    assert filtered.removed == (PLANTED,)
    assert PLANTED not in {row.neuron for row in filtered.rows}


# ------------------------------------------------------------------------------------------- stability


def naive_folds(texts, count):
    keys = [hashlib.sha256(json.dumps(repr(text), ensure_ascii=False).encode()).hexdigest() for text in texts]
    order = sorted(range(len(texts)), key=keys.__getitem__)
    return {texts[place]: rank % count for rank, place in enumerate(order)}


@pytest.mark.parametrize("score", ["delta", "standardised", "auroc"])
@pytest.mark.parametrize("folds", [2, 4])
def test_stability_is_a_refit_without_each_fold(score, folds):
    subject = shared()
    found = attribute(subject, CONTRAST, options(folds=folds, score=score))
    chosen = {row.neuron for row in found.rows}
    sides = [naive_folds(texts, folds) for texts in (POSITIVE, NEGATIVE)]
    again = []
    for fold in range(folds):
        rest = [[text for text, own in side.items() if own != fold] for side in sides]
        part = attribute(subject, nd.Contrast.of(*rest), options(folds=0, score=score))
        assert part.stability is None
        again.append({row.neuron for row in part.rows})
    assert found.stability.overlaps == tuple(len(part & chosen) / K for part in again)
    ordered = sorted(chosen, key=lambda neuron: (neuron.layer, neuron.index))
    assert found.stability.kept == tuple(sum(n in part for part in again) / folds for n in ordered)


def test_stability_of_random_prompts_is_below_one_and_of_a_planted_neuron_is_one():
    loose = attribute(shared(), CONTRAST, options(folds=5)).stability
    assert loose.mean < 1
    from tests.planting import negative, positive

    firm = attribute(planted("llama"), nd.Contrast.of(positive(), negative()), options(folds=5, select=nd.Count(1)))
    assert firm.stability.overlaps == (1.0,) * 5
    assert firm.stability.kept == (1.0,)


def test_there_are_no_more_folds_than_prompts_of_a_side():
    assert len(attribute(shared(), CONTRAST, options(folds=10)).stability.overlaps) == len(NEGATIVE)
    alone = nd.Contrast.of(POSITIVE, NEGATIVE[:1])
    assert attribute(shared(), alone, options(folds=10)).stability is None


def test_stability_costs_no_further_pass():
    subject, passes = shared(), []
    handle = subject.decoder.register_forward_pre_hook(lambda *_: passes.append(1))
    try:
        attribute(subject, CONTRAST, options(folds=0))
        without = len(passes)
        attribute(subject, CONTRAST, options(folds=5))
    finally:
        handle.remove()
    assert len(passes) == 2 * without
