"""Comparators: vectors against a plain forward pass, tuning against measuring by hand, published forms as published."""

from dataclasses import replace

import pytest
import torch
from tests.tolerance import of_activations

from neurodial.circuit.circuit import Circuit, Origin, Row
from neurodial.circuit.site import Neuron
from neurodial.errors import ActivationError, OptionError, PromptError, UnknownNameError
from neurodial.evaluation.baselines import ALPHAS, Comparison, check_names, comparators
from neurodial.evaluation.tuning import Bench, choose
from neurodial.generation.decoding import Decoding
from neurodial.generation.divergence import measure_divergence, own_answers
from neurodial.intervention.base import at_dial
from neurodial.intervention.scale import Scale
from neurodial.intervention.steer import steer
from neurodial.intervention.vector import AddVector, ProjectOut
from neurodial.margins.margin import Openers
from neurodial.margins.measure import measure_margins
from neurodial.methods.vectors import differences as found_vectors
from neurodial.methods.vectors.differences import (
    REFUSAL_ANSWERS,
    AddEverywhere,
    answer_vectors,
    direction_vectors,
    last_token_vectors,
    mlp_vectors,
)
from neurodial.methods.vectors.residual import residual_means
from neurodial.model.tiny import tiny_subject
from neurodial.prompts.pairs import Behaviour, Contrast
from neurodial.prompts.prompt import Example
from neurodial.prompts.render import render

CONTRAST = Contrast.of(["How do I rob it?", "Write a mean note.", "Steal"], ["How do I bake?", "Write a nice note"])
FAMILIES = ["llama", "gpt2", "gemma2", "opt"]


def hidden_of(subject, tokens):
    with torch.no_grad():
        output = subject.model(torch.tensor([tokens]), output_hidden_states=True)
    return output.hidden_states


@pytest.mark.parametrize("family", FAMILIES)
def test_residual_means_are_those_of_a_plain_forward_pass(family):
    subject = tiny_subject(family)
    sequences = render(subject.tokenizer, ["a", "a longer one", "middle"])
    found = residual_means(subject, sequences, (-1, -3), budget=64)
    for number, offset in enumerate((-1, -3)):
        # transformers applies the final norm to the last entry, so only blocks before the last can be compared there.
        expected = torch.stack([hidden_of(subject, tokens)[1][0, offset] for tokens in sequences]).double().mean(dim=0)
        assert torch.allclose(found[number, 0], expected, rtol=0, atol=of_activations(subject, expected))


@pytest.mark.parametrize("family", FAMILIES)
def test_batches_do_not_matter(family):
    subject = tiny_subject(family)
    sequences = render(subject.tokenizer, ["a", "a longer one", "middle"])
    together = residual_means(subject, sequences, (-1,), budget=4096)
    alone = torch.stack([residual_means(subject, [tokens]) for tokens in sequences]).mean(dim=0)
    assert torch.allclose(together, alone, rtol=0, atol=of_activations(subject, alone))


def test_too_far_from_the_end_is_refused():
    with pytest.raises(ActivationError, match="3 tokens"):
        residual_means(tiny_subject(), [(1, 2, 3)], (-4,))


@pytest.mark.parametrize("build", [lambda s, c: last_token_vectors(s, c)[0], mlp_vectors])
def test_swapped_sides_negate_the_vector(build):
    subject = tiny_subject()
    assert torch.allclose(build(subject, CONTRAST), -build(subject, CONTRAST.swapped()), atol=1e-9)
    assert float(build(subject, CONTRAST).abs().max()) > 0.01


def test_mlp_vectors_are_what_the_mlps_write():
    subject = tiny_subject()
    written = []
    for side in (CONTRAST.positive, CONTRAST.negative):
        seen = []
        for tokens in render(subject.tokenizer, [example.prompt for example in side]):
            handle = subject.blocks[1].mlp.register_forward_hook(
                lambda m, a, out, seen=seen: seen.append(out[0, -1].double())
            )
            hidden_of(subject, tokens)
            handle.remove()
        written.append(torch.stack(seen).mean(dim=0))
    bound = of_activations(subject, torch.stack(written))
    assert torch.allclose(mlp_vectors(subject, CONTRAST)[1], written[0] - written[1], rtol=0, atol=bound)


def test_answer_vectors_alternate_the_letter():
    """One prompt twice over, with the order of its answers turned: what the letter itself adds cancels."""
    subject = tiny_subject()
    answers = ("No.", "Yes.")
    one = answer_vectors(subject, Contrast.of(["Rob it?"], ["x"]), answers=answers)
    two = answer_vectors(subject, Contrast.of(["Rob it?", "Rob it ?"], ["x"]), answers=answers)
    assert not torch.allclose(one, two)
    turned = answer_vectors(subject, Contrast.of(["Rob it?"], ["x"]), answers=answers[::-1])
    assert not torch.allclose(one, -turned)  # the letter still speaks in a single pair


def test_answers_of_the_prompts_come_before_the_fallback():
    subject = tiny_subject()
    own = Contrast((Example("Rob it?", "", "Own yes.", "Own no."),), (Example("x"),))
    bare = Contrast.of(["Rob it?"], ["x"])
    assert not torch.allclose(answer_vectors(subject, own), answer_vectors(subject, bare, answers=REFUSAL_ANSWERS))
    with pytest.raises(PromptError, match="no pair of answers"):
        answer_vectors(subject, bare)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_published_form_adds_to_every_mlp_with_a_plus(family):
    subject = tiny_subject(family)
    tokens = render(subject.tokenizer, ["Hello"])[0]
    vectors = torch.randn(subject.layers, subject.hidden_size, generator=torch.Generator().manual_seed(0))
    plain = hidden_of(subject, tokens)[-1]
    with steer(subject, AddEverywhere(vectors, dial=0.7)):
        steered = hidden_of(subject, tokens)[-1]
    handles = []
    for layer, block in enumerate(subject.blocks):
        module = block.get_submodule(subject.family.mlp_write)
        handles.append(module.register_forward_hook(lambda m, a, out, layer=layer: out + 0.7 * vectors[layer]))
    by_hand = hidden_of(subject, tokens)[-1]
    for handle in handles:
        handle.remove()
    assert torch.allclose(steered, by_hand, rtol=0, atol=of_activations(subject, by_hand))
    assert not torch.allclose(steered, plain, atol=1e-2)
    with steer(subject, AddEverywhere(vectors, dial=0.0)):
        assert torch.equal(hidden_of(subject, tokens)[-1], plain)


def test_vectors_of_another_model_are_refused():
    with pytest.raises(OptionError, match="shape"):
        AddEverywhere(torch.ones(3, 16)).compile(tiny_subject())


# ------------------------------------------------------------------------------------------- tuning


@pytest.fixture(scope="module")
def bench():
    subject = tiny_subject(seed=3)
    examples = tuple(Example(text) for text in ("Rob a shop", "Break a door"))
    passages = own_answers(subject, ["Hello", "What is tea?"], decoding=Decoding(max_new_tokens=6))
    return Bench(subject, Openers.of([(72,), (73,)]), examples, passages, limit=0.05, finalists=2)


def candidates(bench):
    generator = torch.Generator().manual_seed(1)
    vectors = torch.randn(bench.subject.layers, bench.subject.hidden_size, generator=generator)
    return lambda c: AddVector(vectors[c[0]], c[0], c[1])


def test_the_choice_is_the_strongest_within_the_limit(bench):
    build = candidates(bench)
    alphas = (-0.02, -0.1, 0.1, 1.0, 4.0)
    coarse = [(0, 1.0), (1, 1.0)]
    found = choose(bench, coarse, lambda c: [(c[0], alpha) for alpha in alphas], build)
    # By hand: every candidate measured, the lowest margin among those within the limit.
    table = {}
    for layer, alpha in [(layer, alpha) for layer, _ in coarse for alpha in alphas]:
        effect = sum(measure_margins(bench.subject, bench.margin, bench.examples, under=build((layer, alpha)))) / 2
        cost = measure_divergence(bench.subject, bench.passages, [build((layer, alpha))])[0].mean
        table[layer, alpha] = (effect, cost)
    allowed = {key: value for key, value in table.items() if value[1] <= bench.limit}
    assert 0 < len(allowed) < len(table)
    assert found.best.settings == min(allowed, key=lambda key: allowed[key][0])
    assert found.within_limit
    assert found.best.effect < found.unsteered
    loose = choose(replace(bench, limit=100.0), coarse, lambda c: [(c[0], alpha) for alpha in alphas], build)
    assert loose.best.effect < found.best.effect
    assert loose.best.settings != found.best.settings


def test_nothing_within_the_limit_takes_the_least_costly_and_says_so(bench):
    found = choose(replace(bench, limit=1e-9), [(0, 1.0)], lambda c: [(0, 1.0), (0, 4.0)], candidates(bench))
    assert not found.within_limit
    assert found.best.settings == (0, 1.0)


def test_fewer_finalists_measure_less_and_the_sign_turns_the_goal(bench):
    build = candidates(bench)
    coarse = [(0, 1.0), (1, 1.0)]
    one = choose(replace(bench, finalists=1), coarse, lambda c: [c], build)
    two = choose(bench, coarse, lambda c: [c], build)
    assert sum(trial.cost < float("inf") for trial in one.trials) == 1
    assert sum(trial.cost < float("inf") for trial in two.trials) == 2
    wide = replace(bench, limit=100.0)
    assert choose(wide, coarse, lambda c: [c], build).best.settings != (
        choose(replace(wide, sign=-1), coarse, lambda c: [c], build).best.settings
    )


def test_nonsense_is_refused(bench):
    with pytest.raises(OptionError):
        choose(bench, [], lambda c: [c], candidates(bench))
    with pytest.raises(OptionError):
        replace(bench, limit=0.0)


# ------------------------------------------------------------------------------------------- by name


def comparison_of(bench, /, **changes):
    rows = [Row(Neuron(0, None, 1), 1.0, 1.0), Row(Neuron(1, None, 5), -1.0, 1.0)]
    circuit = Circuit.of(rows, origin=Origin(bench.subject.identity))
    behaviour = Behaviour("refusal", "Refusal")
    return replace(Comparison(bench.subject, CONTRAST, behaviour, bench, circuit), **changes)


def test_caa_is_one_layer_with_its_raw_alpha_told(bench):
    [found] = comparators("caa", comparison_of(bench))
    assert isinstance(found.intervention, AddVector)
    assert found.intervention.layer == found.details["layer"]
    assert found.intervention.alpha == found.details["alpha"] in ALPHAS
    expected = last_token_vectors(bench.subject, CONTRAST)[0][found.details["layer"]]
    assert torch.equal(found.intervention.vector, expected)
    assert f"{found.details['alpha']:g}" in found.label
    assert {"development_margin", "development_margin_unsteered", "development_kl"} <= set(found.details)


def test_both_readings_and_both_directions_differ(bench):
    comparison = comparison_of(bench)
    names = ("caa", "caa-answers", "direction", "direction-blocks")
    found = {name: comparators(name, comparison)[0].intervention for name in names}
    assert not torch.equal(found["caa"].vector, found["caa-answers"].vector)
    assert isinstance(found["direction"], ProjectOut)
    assert (found["direction"].where, found["direction-blocks"].where) == ("writes", "blocks")


def test_layers_and_phase_are_respected(bench):
    [found] = comparators("caa", comparison_of(bench, layers=(1,), when="generated"))
    assert found.details["layer"] == 1
    assert found.intervention.when == "generated"


@pytest.mark.parametrize("name", ["random", "random-layer"])
def test_random_neurons_come_in_seeds_and_miss_the_circuit(bench, name):
    comparison = comparison_of(bench, seeds=(0, 1))
    found = comparators(name, comparison)
    assert len(found) == 2
    for one in found:
        assert isinstance(one.intervention, Scale)
        assert not one.intervention.circuit.neurons & comparison.circuit.neurons
        layers = sorted(row.neuron.layer for row in one.intervention.circuit)
        assert len(layers) == 2
        assert name == "random" or layers == [0, 1]
    assert found[0].intervention.circuit.neurons != found[1].intervention.circuit.neurons
    with pytest.raises(OptionError, match="circuit"):
        comparators(name, comparison_of(bench, circuit=None))


def test_a_system_prompt_has_two_ends(bench):
    [ours] = comparators("prompt", comparison_of(bench))
    assert ours.intervention is None
    assert ours.prompts[0] != ours.prompts[1]
    [other] = comparators("prompt", comparison_of(bench, behaviour=Behaviour("x", "Formal register")))
    assert "formal register" in other.prompts[0]


def test_the_published_form_keeps_its_sign(bench):
    [found] = comparators("caa-published", comparison_of(bench))
    assert isinstance(found.intervention, AddEverywhere)
    assert found.intervention.alpha == 1.0
    assert at_dial(found.intervention, -1.0).dial == -1.0


def test_tuning_needs_a_development_split(bench):
    with pytest.raises(OptionError, match="development"):
        comparators("caa", comparison_of(bench, bench=None))


def test_an_unknown_method_offers_near_names():
    with pytest.raises(UnknownNameError, match="direction"):
        check_names(["directon"])


def test_candidates_of_directions_leave_out_the_last_fifth_and_what_points_nowhere(monkeypatch):
    subject = tiny_subject(num_hidden_layers=5)
    contrast = Contrast.of(["harm a", "harm b"], ["help c"])
    places = direction_vectors(subject, contrast)
    assert {layer for layer, _ in places} == {0, 1, 2, 3}
    assert {offset for _, offset in places} == set(range(-len({offset for _, offset in places}), 0))

    def nowhere(subject, contrast, offsets):
        found = last_token_vectors(subject, contrast, offsets)
        found[0, 2] = 0.0
        return found

    monkeypatch.setattr(found_vectors, "last_token_vectors", nowhere)
    assert places.keys() - direction_vectors(subject, contrast).keys() == {(2, -1)}
