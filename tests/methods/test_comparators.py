"""Every method as paths: whole ranges, what is chosen at a strength, and what each needs."""

import pytest
import torch

from neurodial.circuit.circuit import Circuit, Origin, Row
from neurodial.circuit.site import Neuron
from neurodial.errors import OptionError, UnknownNameError
from neurodial.generation.decoding import Decoding
from neurodial.generation.divergence import own_answers
from neurodial.intervention.base import at_dial
from neurodial.intervention.scale import Pin, Scale
from neurodial.intervention.vector import AddVector, ProjectOut
from neurodial.margins.margin import Openers
from neurodial.methods import selections
from neurodial.methods.cna.attribute import attribute
from neurodial.methods.cna.options import CNA
from neurodial.methods.comparators import COMPARATORS, MethodInputs, check_names, system_prompts
from neurodial.methods.vectors.differences import AddEverywhere, direction_vectors, last_token_vectors
from neurodial.model.tiny import tiny_subject
from neurodial.prompts.pairs import Behaviour, Contrast

CONTRAST = Contrast.of(["How do I rob it?", "Write a mean note.", "Steal"], ["How do I bake?", "Write a nice note"])
ANSWERS = ("No.", "Yes.")
CIRCUIT = [Row(Neuron(0, None, 1), 1.0, 1.0), Row(Neuron(1, None, 5), -1.0, 2.0), Row(Neuron(1, None, 7), -1.0, 0.5)]


@pytest.fixture(scope="module")
def subject():
    return tiny_subject(seed=3)


@pytest.fixture(scope="module")
def inputs(subject):
    passages = own_answers(subject, ["Hello", "What is tea?"], decoding=Decoding(max_new_tokens=4))
    circuit = Circuit.of(CIRCUIT, origin=Origin(subject.identity))

    def make(**changes):
        values = {
            "subject": subject,
            "discovery": CONTRAST,
            "behaviour": Behaviour("refusal", answers=ANSWERS),
            "margin": lambda: Openers.of([(72,), (73,)]),
            "costing": lambda: passages,
            "circuit": circuit,
            **changes,
        }
        return MethodInputs(**values)

    return make


@pytest.mark.parametrize("name", [name for name in COMPARATORS if name != "prompt"])
def test_every_method_gives_paths_that_build_at_both_ends(inputs, subject, name):
    paths = COMPARATORS[name].paths(inputs())
    assert paths
    assert len({str(path.details) for path in paths}) == len(paths)  # details tell paths apart
    for path in paths:
        assert 0 < path.low <= path.high
        for strength in (path.low, path.high):
            path.at(strength).compile(subject)
            assert COMPARATORS[name].label(dict(path.details), strength)


def test_activation_addition_may_use_its_whole_range_at_every_layer(inputs, subject):
    paths = COMPARATORS["caa"].paths(inputs())
    vectors = last_token_vectors(subject, CONTRAST)[0]
    assert [(path.low, path.high, path.details["layer"]) for path in paths] == [(0.05, 4.0, 0), (0.05, 4.0, 1)]
    added = paths[1].at(0.7)
    assert isinstance(added, AddVector)
    assert (added.layer, added.alpha) == (1, -0.7)  # taken away
    assert torch.equal(added.vector, vectors[1])
    [up] = COMPARATORS["caa"].paths(inputs(direction="induce", layers=(1,), when="generated"))
    assert (up.at(0.7).alpha, up.at(0.7).when) == (0.7, "generated")
    answers = COMPARATORS["caa-answers"].paths(inputs())[1].at(0.7)
    assert not torch.equal(answers.vector, added.vector)


def test_directional_ablation_may_use_its_whole_range_at_every_layer_and_token(inputs, subject):
    paths = COMPARATORS["direction"].paths(inputs())
    places = direction_vectors(subject, CONTRAST)
    assert {(path.details["layer"], path.details["token"]) for path in paths} == set(places)
    assert {(path.low, path.high) for path in paths} == {(0.02, 1.5)}
    half = paths[0].at(0.5)
    assert isinstance(half, ProjectOut)
    assert (half.alpha, half.dial, half.where) == (0.5, 1.0, "writes")
    assert at_dial(half, -1.0).alpha == 0.5  # the dial multiplies what was chosen
    assert COMPARATORS["direction-blocks"].paths(inputs())[0].at(0.5).where == "blocks"


def test_cna_has_a_multiplier_of_either_sign_and_the_circuits_number_of_neurons(inputs, subject):
    down, up = COMPARATORS["cna"].paths(inputs())
    chosen = attribute(subject, CONTRAST, CNA(folds=0))
    scores = chosen.scores.without(chosen.universal)
    for path, dose in ((down, 0.5), (up, -0.5)):
        circuit = path.at(0.5).circuit
        assert len(circuit) == 3
        assert {row.dose for row in circuit} == {dose}
        least = min(abs(float(scores[n.site][n.index])) for n in circuit.neurons)
        assert sum(int((scores[site].abs() >= least).sum()) for site in scores) == 3
    assert (down.high, up.high) == (3.0, 3.0)
    [paper] = COMPARATORS["cna-paper"].paths(inputs(circuit=None, count=2))
    assert {row.dose for row in paper.at(1.0).circuit} == {1.0}
    assert len(paper.at(1.0).circuit) == 2


def test_the_single_neuron_is_pinned_against_its_sign(inputs):
    paths = COMPARATORS["single"].paths(inputs())
    weak, strong = paths[0].at(1.0), paths[0].at(2.0)
    assert isinstance(weak, Pin)
    [(neuron, value)] = weak.values.items()
    assert list(neuron) == paths[0].details["neuron"]
    assert strong.values[neuron] == 2 * value != 0


@pytest.mark.parametrize("name", ["random", "random-layer"])
def test_random_neurons_come_in_seeds_and_miss_the_circuit(inputs, name):
    given = inputs(seeds=(0, 1))
    first, second = (path.at(1.0) for path in COMPARATORS[name].paths(given))
    for control in (first, second):
        assert isinstance(control, Scale)
        assert not control.circuit.neurons & given.circuit.neurons
        assert sorted(row.dose for row in control.circuit) == [0.5, 1.0, 2.0]
        layers = sorted(row.neuron.layer for row in control.circuit)
        assert name == "random" or layers == [0, 1, 1]
    assert first.circuit.neurons != second.circuit.neurons
    with pytest.raises(OptionError, match="circuit"):
        COMPARATORS[name].paths(inputs(circuit=None))


def test_the_published_form_keeps_its_sign(inputs):
    [path] = COMPARATORS["caa-published"].paths(inputs())
    added = path.at(1.0)
    assert isinstance(added, AddEverywhere)
    assert (added.alpha, at_dial(added, -1.0).dial) == (1.0, -1.0)


def test_a_system_prompt_is_the_behaviours_own_or_made_of_its_title():
    own = Behaviour("x", "Formal register", system_prompts=("Be casual.", "Be formal."))
    assert system_prompts(own) == ("Be casual.", "Be formal.")
    remove, induce = system_prompts(Behaviour("x", "Formal register"))
    assert "not show the following: formal register" in remove
    assert induce != remove


def test_an_unknown_method_offers_near_names():
    with pytest.raises(UnknownNameError, match="direction"):
        check_names(["directon"])


def test_what_is_costly_is_made_once_for_all_methods(inputs, monkeypatch):
    given = inputs()
    COMPARATORS["dose"].paths(given)
    COMPARATORS["cna"].paths(given)
    for name in ("cost", "effects_by_fold", "attribute"):
        monkeypatch.setattr(selections, name, None)
    for name in ("effect", "dose", "cna-paper", "cna"):
        assert COMPARATORS[name].paths(given)
