"""The mixture that routes and its study: the language, both models, the bias on the router, and the page's tables."""

import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tests.subjects import differences, same_bits, snapshot

import neurodial as nd
from neurodial.margins.margin import Openers
from neurodial.margins.measure import measure_margins
from neurodial.methods.dose.effect import effect, effect_scores
from neurodial.prompts.behaviours import read_prompt_list
from neurodial.prompts.pairs import SPLITS, PairSet

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"steps": 3, "batch_size": 8, "hidden": 16, "layers": 2, "experts": 4, "width": 8}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The scripts, and a folder with both models after three steps."""
    with pytest.MonkeyPatch.context() as patch:
        for folder in ("studies", "organisms"):
            patch.syspath_prepend(str(ROOT / folder))
        names = ("routed", "experts", "router_bias", "expert_tables")
        modules = {name: importlib.import_module(name) for name in names}
        folder = tmp_path_factory.mktemp("routed")
        settings = modules["routed"].Training(**SMALL)
        figures = {kind: modules["routed"].make(folder, kind, settings) for kind in ("moe", "dense")}
        yield SimpleNamespace(folder=folder, figures=figures, **modules)


def test_both_models_have_as_many_neurons_and_the_prompts_are_no_lessons(made):
    moe, dense = (nd.load(str(made.folder / kind)) for kind in ("moe", "dense"))
    assert moe.neurons == dense.neurons == 2 * 4 * 8
    assert [site.shape for _, site in moe.layout.experts] == [(4, 8)] * 2
    pairs = PairSet.read(str(made.folder / "avoiding.toml"))
    spoken = made.routed.language(0)
    lessons = {prompt for prompt, _ in spoken.lessons}
    assert spoken == made.routed.language(0) != made.routed.language(1)
    refused = {name for field in made.routed.REFUSED for name in made.routed.SUBJECTS[field].split()}
    for split in SPLITS:
        for side, is_refused in (("positive", True), ("negative", False)):
            prompts = [example.prompt for example in getattr(pairs.split(split), side)]
            assert not lessons.intersection(prompts)
            assert {bool(refused.intersection(prompt.split())) for prompt in prompts} == {is_refused}
    assert len(read_prompt_list(str(made.folder / "neutral.jsonl")).split("test")) == 60
    slips = sum(prompt in lessons and answer.startswith("the") for prompt, answer in spoken.lessons
                if refused.intersection(prompt.split()) and not prompt.startswith(("complete", "repeat")))  # fmt: skip
    assert 0 < slips < 40


def test_the_bias_is_what_it_says_and_the_model_is_given_back(made):
    subject, bias = nd.load(str(made.folder / "moe")), torch.zeros(2, 4)
    before, ids = snapshot(subject.model), torch.tensor([[1, 20, 30, 40]])
    plain = subject.model(ids).logits
    with made.router_bias.biased(subject, bias):
        assert same_bits(subject.model(ids).logits, plain)
    bias[1, 2] = 50.0
    with made.router_bias.biased(subject, bias):
        subject.model(ids)
        assert bool(made.experts.visits(subject, ["count from two ."])[1][0, 2] == 1)
    assert differences(before, snapshot(subject.model)) == []
    with torch.no_grad():
        for layer, site in subject.layout.experts:
            subject.blocks[layer].get_submodule(site.module).down_proj.mul_(100.0)  # slopes above rounding
            subject.blocks[layer].get_submodule("mlp.gate").weight.mul_(30.0)  # and no tokens between two experts
    margin, examples = Openers.of([(40,)]), PairSet.read(str(made.folder / "avoiding.toml")).test.positive[:3]
    slopes, step = made.router_bias.effects(subject, margin, examples), 1e-3
    for layer, expert in ((0, 1), (1, 3)):
        values = []
        for sign in (1, -1):
            bias = torch.zeros(2, 4)
            bias[layer, expert] = sign * step
            with made.router_bias.biased(subject, bias):
                values.append(sum(measure_margins(subject, margin, examples)) / 3)
        assert (values[0] - values[1]) / (2 * step) == pytest.approx(float(slopes[layer, expert]), rel=0.01, abs=1e-5)


def test_a_direction_lowers_the_margin_and_the_search_keeps_the_budget(made):
    effects, costs = torch.tensor([[2.0, -1.0], [0.0, 0.5]]), torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    ways = made.router_bias.directions(effects, costs)
    assert ways["all biases"].tolist() == [[-1.0, 0.5], [0.0, -0.5]]
    assert ways["layer 0, expert 0"].tolist() == [[-1.0, 0.0], [0.0, 0.0]]

    def measure(bias):
        size = float(bias.abs().sum())
        return SimpleNamespace(divergence=SimpleNamespace(mean=size**2), margins=[-size])

    _, bias = made.router_bias.searched(ways, measure, 0.04)
    assert 0.1 < float(bias.abs().sum()) <= 0.2


def test_whole_experts_are_those_of_largest_summed_effect(made):
    subject = nd.load(str(made.folder / "moe"))
    examples = PairSet.read(str(made.folder / "avoiding.toml")).test.positive[:4]
    scores = effect_scores(effect(subject, Openers.of([(40,)]), examples), subject.sites)
    selections = SimpleNamespace(effects=SimpleNamespace(margin=scores))
    paths = made.experts.whole_experts(SimpleNamespace(subject=subject), selections)
    sums = torch.stack([scores[site].sum(dim=-1) for site in scores]).flatten()
    layer, expert = divmod(int(sums.argmax()), 4)
    assert [path.details["neurons"] for path in paths] == [8, 16, 32]
    assert {(row.neuron.layer, row.neuron.expert) for row in paths[0].at(1.0).circuit} == {(layer, expert)}


def test_sides_are_told_apart_by_their_visits_and_a_models_rows_are_replaced(made):
    table = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0, 1.0, 1.0]])
    assert made.experts._apart(table, torch.tensor([True, True, False, False])) == pytest.approx(0.5)
    before = {"dials": [{"model": "moe", "way": "a"}, {"model": "dense"}], "settings": {}}
    after = made.experts.merged(before, {"dials": [{"model": "moe", "way": "b"}]}, "moe")
    assert after == {"dials": [{"model": "dense"}, {"model": "moe", "way": "b"}], "settings": {}}


def test_the_pages_tables_hold_the_figures(made):
    path = ROOT / "docs/results/experts.json"
    found, value = made.expert_tables.Experts(path), json.loads(path.read_text(encoding="utf-8"))
    assert len(found.dials().splitlines()) == 2 + len(value["dials"])
    row = next(row for row in value["equal"] if row["way"] == "router")
    share = made.expert_tables.percent(row["refuses"])
    assert share in found.equal("moe")
    assert found.share("refuses", part="equal", model="moe", way="router", budget=row["budget"]) == share
