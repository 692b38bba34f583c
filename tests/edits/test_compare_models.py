"""A model and a copy with one neuron's column tripled: everything that is said of the two is known beforehand."""

import json

import pytest
import torch
from tests.nla.pairs import run
from tests.subjects import fresh

from neurodial.circuit.circuit import Circuit, Row
from neurodial.circuit.compare import compare, rank_correlation
from neurodial.circuit.site import Neuron
from neurodial.cli.main import main
from neurodial.edits.compare_models import compare_models
from neurodial.edits.tuned_neurons import TOKENS, TunedNeuron, explained_in_both, side_differences
from neurodial.edits.tuning_options import ComparingModels
from neurodial.errors import ModelMismatchError, OptionError, SteeringError
from neurodial.model.load import load
from neurodial.prompts.pairs import PairSet

TRIPLED = Neuron(1, None, 5)
NEUTRAL = ["Hello", "Why?", "Name a river."]
FEW = ComparingModels(prompts=4, passages=2, answer_tokens=3)


def circuit(*places, dose=1.0):
    return Circuit.of([Row(Neuron(layer, None, index), 1.0 + index, dose) for layer, index in places])


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuning")
    subject = fresh("llama")
    for name in ("base", "tuned"):
        if name == "tuned":
            with torch.no_grad():
                subject.down_weight(TRIPLED.site)[:, TRIPLED.index] *= 3
        subject.model.save_pretrained(folder / name)
        subject.tokenizer.save_pretrained(folder / name)
    return folder


@pytest.fixture(scope="module")
def found(folders):
    base, tuned = (load(folders / name) for name in ("base", "tuned"))
    circuits = (circuit((1, 5), (0, 3)), circuit((1, 5), (0, 4)))
    return compare_models(base, tuned, PairSet.read("formality"), neutral=NEUTRAL, circuits=circuits, options=FEW)


def test_the_same_neurons_are_looked_at_in_both(found):
    assert [(row.layer, row.index) for row in found.neurons] == [(0, 3), (0, 4), (1, 5)]
    assert [row.in_circuit for row in found.neurons] == [(True, False), (False, True), (True, True)]
    for row in found.neurons:  # the tripled column comes after every neuron, so no activation differs
        assert row.difference[0] == row.difference[1] != 0
        assert row.apart[0] == row.apart[1]
        assert row.rank[0] == row.rank[1]
    assert [round(row.moved, 4) for row in found.neurons] == [0, 0, 2]
    assert found.neurons[2].moved_more_than == pytest.approx(23 / 24)
    assert found.ranks_all == 1.0
    assert (found.overlap.shared, found.overlap.jaccard) == (1, pytest.approx(1 / 3))


def test_neurons_that_changed_most_stand_with_what_they_write_and_read_in_both(found):
    assert [(one.layer, one.index) for one in found.explained] == [(0, 3), (0, 4), (1, 5)], "none changed: in order"
    for one in found.explained:
        assert one.writes[0] == one.writes[1], "three times the column writes the same tokens"
        assert one.reads[0].keys() == one.reads[1].keys() == {"gate", "up"}
        assert len(one.writes[0]) == len(one.holds_down[0]) == len(one.reads[0]["up"]) == TOKENS


def test_a_column_that_was_turned_writes_in_the_tuned_model_what_it_held_down_in_the_base():
    base, tuned = fresh("llama"), fresh("llama")
    with torch.no_grad():
        tuned.down_weight(TRIPLED.site)[:, TRIPLED.index] *= -1
    rows = [
        TunedNeuron(layer, None, index, (True, True), (0.0, change), (0.0, 0.0), (1, 1), 0.0, 0.0)
        for layer, index, change in ((0, 3, 0.1), (1, 5, -0.2))
    ]
    [turned, same] = explained_in_both((base, tuned), rows, 2)
    assert (turned.layer, turned.index) == (1, 5), "its difference changed most"
    assert turned.writes[1] == turned.holds_down[0] != turned.writes[0]
    assert same.writes[0] == same.writes[1]
    assert len(explained_in_both((base, tuned), rows, 1)) == 1


def test_what_was_done_to_the_weights_is_said(found):
    assert found.weights.verdict == "neurons scaled"
    [neuron] = found.weights.neurons
    assert (neuron.layer, neuron.index) == (1, 5)
    assert neuron.multiplier == pytest.approx(3, abs=1e-3)


def test_circuits_are_put_on_both_models(folders, found):
    assert [(row.model, row.circuit) for row in found.transfer] == [
        (model, name) for model in ("base", "tuned") for name in ("none", "base", "tuned", "random")
    ]
    unsteered = [row for row in found.transfer if row.circuit == "none"]
    assert unsteered[0].margin != unsteered[1].margin
    assert [row.damage for row in unsteered] == [0.0, 0.0]
    assert min(row.damage for row in found.transfer if row.circuit != "none") > 0
    base, tuned = (load(folders / name) for name in ("base", "tuned"))
    alone = (circuit((1, 5)), circuit((1, 5)))
    same = compare_models(base, tuned, PairSet.read("formality"), neutral=NEUTRAL, circuits=alone, options=FEW)
    rows = {(row.model, row.circuit): row for row in same.transfer}
    # Without the one neuron in which they differ, both are one model.
    assert rows["base", "tuned"].margin == pytest.approx(rows["tuned", "tuned"].margin, rel=1e-5)
    assert same.change("base", "tuned") == same.change("tuned", "tuned")
    assert same.change("tuned", "base") != pytest.approx(same.change("tuned", "tuned"), rel=1e-3)


def test_differences_are_those_of_the_means(folders):
    subject = load(folders / "base")
    contrast = PairSet.read("formality").discovery
    differences = side_differences(subject, contrast)
    values = []
    for side in (contrast.positive, contrast.negative):
        rows = []
        for tokens in subject.render([example.prompt for example in side]):
            seen = []
            handle = subject.down(TRIPLED.site).register_forward_pre_hook(
                lambda _, args, s=seen: s.append(args[0][0, -1])
            )
            with torch.no_grad():
                subject.model(torch.tensor([tokens]))
            handle.remove()
            rows.append(seen[0])
        values.append(torch.stack(rows).double())
    change = values[0].mean(dim=0) - values[1].mean(dim=0)
    assert torch.allclose(differences.difference[TRIPLED.site], change, atol=1e-5)
    counts = [len(v) for v in values]
    pooled = sum(v.var(dim=0) * (n - 1) for v, n in zip(values, counts, strict=True)) / (sum(counts) - 2)
    deviation = pooled.sqrt() + 0.01 * pooled.sqrt().median()  # CNA's floor
    assert torch.allclose(differences.apart[TRIPLED.site], change / deviation, rtol=1e-3, atol=1e-3)
    ranks = [differences.rank(Neuron(site.layer, None, n)) for site in subject.sites for n in range(24)]
    assert sorted(ranks) == list(range(1, 49))


def test_ranks_are_compared():
    assert rank_correlation([1.0, 2.0, 3.0, 4.0], [1.0, 4.0, 9.0, 16.0]) == 1
    assert rank_correlation([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]) == -1
    assert rank_correlation([1.0, 2.0], [1.0, 2.0]) is None
    assert rank_correlation([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None
    one = circuit((0, 1), (0, 2), (0, 3))
    assert compare(one, one).ranks == 1.0


def test_models_of_other_shapes_and_strange_circuits_are_refused(folders):
    base = load(folders / "base")
    pairs = PairSet.read("formality")
    with pytest.raises(ModelMismatchError, match="one shape"):
        compare_models(base, fresh("llama", num_hidden_layers=3), pairs, neutral=NEUTRAL)
    strange = (circuit((1, 5)), circuit((7, 5)))
    with pytest.raises(SteeringError, match="no neuron"):
        compare_models(base, fresh("llama"), pairs, neutral=NEUTRAL, circuits=strange)
    with pytest.raises(OptionError, match="passages"):
        ComparingModels(passages=0)


def test_a_base_without_a_template_can_take_the_tuned_ones(folders):
    base, tuned = (load(folders / name) for name in ("base", "tuned"))
    base.tokenizer.chat_template = None
    pairs, few = PairSet.read("formality"), circuit((0, 3))
    apart = compare_models(base, tuned, pairs, neutral=NEUTRAL, circuits=(few, few), options=FEW)
    assert apart.ranks_all < 1
    assert any("different chat templates" in note for note in apart.notes)
    options = ComparingModels(prompts=4, passages=2, answer_tokens=3, tuned_template=True)
    together = compare_models(base, tuned, pairs, neutral=NEUTRAL, circuits=(few, few), options=options)
    assert together.ranks_all == 1
    assert base.tokenizer.chat_template is None


def test_the_command_finds_circuits_of_two_models(folders, tmp_path, capsys):
    few = ["--prompts", "2", "--passages", "2", "--answer-tokens", "2"]
    models = [str(folders / "base"), str(folders / "tuned")]
    run(["compare", *models, "-b", "formality", *few, "-o", str(tmp_path / "c.json")])
    text = capsys.readouterr().out
    for words in ("all neurons 1.000", "neurons scaled", "(unsteered)", "by chance"):
        assert words in text
    value = json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))
    assert (value["format"], len(value["transfer"])) == ("neurodial.model-comparison", 8)
    files = [str(circuit((1, 5)).write(tmp_path / f"{n}.circuit.json")) for n in range(2)]
    run(["compare", *files, "--models", *models, "-b", "formality", *few, "--json"])
    assert json.loads(capsys.readouterr().out)["overlap"]["shared"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--prompts", "2"], "Options for models"),
        (["--method", "dose"], "Options for models"),
        (["--models", "nowhere-at-all/x", "demo", "-b", "formality"], "There is no model"),
        (["-b", "formality"], "There is no model"),
    ],
)
def test_the_command_refuses_what_it_would_not_use(tmp_path, capsys, arguments, words):
    files = [str(circuit((1, 5)).write(tmp_path / f"{n}.json")) for n in range(2)]
    if arguments == ["-b", "formality"]:
        files = ["./none", "./none"]
    with pytest.raises(SystemExit):
        main(["compare", *files, *arguments])
    assert words in capsys.readouterr().err
