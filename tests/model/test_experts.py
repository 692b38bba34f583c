"""Neurons of routed experts: read as a loop by hand computes them, edited row by row, and given back."""

import copy
import dataclasses
import json

import pytest
import torch
from tests.routed import by_hand, near, plain_logits, routed_circuit, subject_of
from tests.subjects import differences, same_bits, snapshot
from tests.zoo import zoo_subject
from tests.zoo_checks import baked, last_inputs
from torch.nn import functional

import neurodial as nd
from neurodial.activations.collect import Reading, collect
from neurodial.activations.position import Last, PostInstruction
from neurodial.circuit.circuit import Circuit, Origin, Row
from neurodial.circuit.controls import random_control
from neurodial.circuit.file import circuit_json, parse_circuit
from neurodial.circuit.site import AllNeurons, Neuron, Site, places
from neurodial.errors import CircuitError, ExportError, LayoutError, ModelError, ModelMismatchError, SteeringError
from neurodial.export.export_circuit import export_circuit
from neurodial.generation.generate import Decoding, generate
from neurodial.intervention.scale import Pin, Scale
from neurodial.intervention.steer import steered
from neurodial.margins.margin import Openers
from neurodial.methods.dose.cost import cost, quadratic_cost
from neurodial.methods.dose.effect import effect, effect_scores
from neurodial.methods.dose.paths import EffectCost
from neurodial.model.find_layout import find_layout
from neurodial.model.gradients import multiplier_slopes
from neurodial.model.head import hidden_states, logits
from neurodial.model.hooks import installed, on_experts, on_neurons
from neurodial.model.subject import Subject
from neurodial.model.tiny import TINY_ROUTED, tiny_model, tiny_subject, tiny_tokenizer
from neurodial.prompts.passage import Passage
from neurodial.prompts.prompt import Example

IMPLEMENTATIONS = ("eager", "batched_mm", "grouped_mm")
ROWS = [(256, 72, 105, 33, 90), (256, 65, 66), (256, 100, 101, 102, 103, 104, 105)]
CASES = [(name, way) for name in TINY_ROUTED for way in IMPLEMENTATIONS]


def read(subject, rows, position=None, *, share=False):
    found = {}

    def keep(site, values, which):
        for row, value in zip(which, values, strict=True):
            found[row, site] = value.clone()

    collect(subject, rows, Reading(position or Last(), share_prefix=share), keep)
    return found


# ------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize(("name", "way"), CASES)
def test_what_is_read_is_what_a_loop_over_experts_computes(name, way):
    subject = subject_of(name, way)
    found = read(subject, ROWS)
    means = read(subject, ROWS, PostInstruction(2), share=True)
    for layer, _ in subject.layout.experts:
        site = Site(layer, routed=True)
        for place, row in enumerate(ROWS):
            expected = by_hand(subject, layer, row)
            assert near(found[place, site], expected[-1])
            assert near(means[place, site], expected[-2:].mean(dim=0))
            visited = (found[place, site] != 0).any(dim=-1)
            assert int(visited.sum()) == 2
    assert not near(found[0, site], found[1, site])


@pytest.mark.parametrize("name", TINY_ROUTED)
def test_every_implementation_gives_the_same_layout(name):
    model, found = tiny_model(name), []
    for way in IMPLEMENTATIONS:
        model.config._experts_implementation = way
        found.append(find_layout(model))
    assert found[0] == found[1] == found[2]
    assert list(found[0].experts)


def test_experts_do_not_change_the_digest_of_a_layout():
    """Circuits of shared experts were made before routed ones could be read."""
    layout = tiny_subject("qwen2_moe").layout
    bare = dataclasses.replace(layout, blocks=tuple(dataclasses.replace(b, experts=None) for b in layout.blocks))
    assert bare.digest == layout.digest
    assert bare != layout


def test_a_kernel_that_hides_the_activations_is_refused_in_words():
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    def hidden(self, hidden_states, top_k_index, top_k_weights):
        total = torch.zeros_like(hidden_states)
        for choice in range(top_k_index.shape[1]):
            expert = top_k_index[:, choice]
            both = torch.einsum("th,tfh->tf", hidden_states, self.gate_up_proj.detach()[expert])
            gate, up = both.chunk(2, dim=-1)
            written = torch.einsum("tf,thf->th", functional.silu(gate) * up, self.down_proj.data[expert])
            total += written * top_k_weights[:, choice, None]
        return total

    ALL_EXPERTS_FUNCTIONS.register("hidden", hidden)
    subject = tiny_subject("mixtral")
    model = subject.model
    model.config._experts_implementation = "hidden"
    with (
        pytest.raises(SteeringError, match=r"hides their activations.*grouped_mm"),
        nd.steer(subject, Scale(routed_circuit(subject))),
    ):
        model(input_ids=torch.tensor([[1, 2, 3]]))
    with pytest.raises(LayoutError, match=r"mlp\.experts.*can't be read.*hides their activations"):
        Subject.of(model, tiny_tokenizer())


# ------------------------------------------------------------------------------------------- steering


@pytest.mark.parametrize(("name", "way"), CASES)
def test_dial_0_keeps_every_bit_and_dial_1_is_the_scaled_weight(name, way):
    subject = subject_of(name, way)
    circuit, row = routed_circuit(subject, 1.5), ROWS[2]
    before = snapshot(subject.model)
    [plain] = plain_logits(subject, [row])
    with nd.steer(subject, Scale(circuit, dial=0.0)):
        assert same_bits(plain_logits(subject, [row])[0], plain)
    with nd.steer(subject, Scale(circuit)):
        [steered] = plain_logits(subject, [row])
    assert differences(before, snapshot(subject.model)) == []
    expected = baked(subject, [(circuit, 1.0)], list(row))
    assert near(steered, expected)
    assert not near(steered, plain)


@pytest.mark.parametrize(("name", "way"), CASES)
def test_each_row_of_a_batch_has_its_dial(name, way):
    subject = subject_of(name, way)
    circuit, dials = routed_circuit(subject, 1.5), [0.0, 1.0, -1.0]
    with nd.steer(subject, Scale(circuit, dial=dials)):
        together = plain_logits(subject, ROWS)
    for row, dial, found in zip(ROWS, dials, together, strict=True):
        with nd.steer(subject, Scale(circuit, dial=dial)):
            [alone] = plain_logits(subject, [row])
        assert near(found, alone)
    assert not near(together[1], plain_logits(subject, ROWS)[1])


@pytest.mark.parametrize("when", ["prompt", "generated"])
def test_prompt_and_answer_are_steered_apart(when):
    """Phases reach each visit: a pass over both, marked, is as two passes with a cache."""
    subject = subject_of("mixtral")
    circuit, row = routed_circuit(subject, 1.5), ROWS[2]
    with nd.steer(subject, Scale(circuit, when=when)) as steering:
        steering.mark_prompts([4])
        [whole] = plain_logits(subject, [row])
        steering.mark_prompts(None)
        with torch.no_grad():
            start = subject.model(input_ids=torch.tensor([row[:4]]), use_cache=True)
            rest = subject.model(input_ids=torch.tensor([row[4:]]), past_key_values=start.past_key_values)
    assert near(whole[4:], rest.logits[0])
    assert not near(whole, plain_logits(subject, [row])[0])


@pytest.mark.parametrize("way", IMPLEMENTATIONS)
def test_answers_are_those_of_the_scaled_weights(way):
    subject = subject_of("qwen2_moe", way)
    circuit = routed_circuit(subject, 8.0)
    decoding = Decoding(max_new_tokens=6)
    with nd.steer(subject, Scale(circuit)):
        steered = generate(subject, ["Hello", "old river"], decoding=decoding)
    scaled = Subject.of(copy.deepcopy(subject.model), subject.tokenizer)
    with torch.no_grad():
        for row in circuit:
            scaled.down_weight(row.neuron.site)[row.neuron.expert][:, row.neuron.index] *= -7.0
    expected = generate(scaled, ["Hello", "old river"], decoding=decoding)
    assert [answer.tokens for answer in steered] == [answer.tokens for answer in expected]
    plain = generate(subject, ["Hello", "old river"], decoding=decoding)
    assert [answer.tokens for answer in plain] != [answer.tokens for answer in expected]


def test_a_pinned_neuron_of_an_expert_has_its_value_where_a_token_comes():
    subject = subject_of("mixtral")
    neuron, seen = Neuron(0, 1, 4), []
    with nd.steer(subject, Pin({neuron: 3.0})):
        handle = on_experts(subject, 0, lambda values, visits: seen.append((values.clone(), visits.experts)))
        plain_logits(subject, ROWS)
        handle.remove()
    [(values, experts)] = seen
    assert bool((values[experts == 1, 4] == 3.0).all())
    assert not bool((values[experts != 1, 4] == 3.0).any())


def test_circuits_of_dense_and_routed_neurons_compose():
    subject = subject_of("qwen2_moe")
    routed, row = routed_circuit(subject), ROWS[0]
    dense = Circuit.of([Row(Neuron(0, None, 3), 1.0, 2.0), Row(Neuron(1, 2, 5), 1.0, 0.5)])
    with nd.steer(subject, Scale(routed), Scale(dense, dial=2.0)):
        [together] = plain_logits(subject, [row])
    expected = baked(subject, [(routed, 1.0), (dense, 2.0)], list(row))
    assert near(together, expected)
    with nd.steer(subject, Scale(routed)), nd.steer(subject, Scale(routed)):
        [nested] = plain_logits(subject, [row])
    assert near(nested, baked(subject, [(routed, 1.0)], list(row)))


def test_edits_act_in_the_order_in_which_they_came_and_are_taken_out_in_any():
    subject = subject_of("mixtral")
    before, seen = snapshot(subject.model), []

    def note(name):
        return lambda values, _: seen.append((name, float(values[0, 0])))

    doubled = on_experts(subject, 0, lambda values, _: 2 * values)
    after = on_experts(subject, 0, note("after"))
    first = on_experts(subject, 0, note("before"), first=True)
    plain_logits(subject, ROWS[:1])
    assert [name for name, _ in seen] == ["before", "after"]
    assert seen[1][1] == 2 * seen[0][1] != 0
    doubled.remove()
    seen.clear()
    plain_logits(subject, ROWS[:1])
    assert seen[0][1] == seen[1][1]
    first.remove()
    after.remove()
    assert differences(before, snapshot(subject.model)) == []


def test_an_error_inside_gives_the_model_back():
    subject = subject_of("mixtral")
    before = snapshot(subject.model)

    def fail(values, visits):
        raise ValueError("stop")

    def install(handles):
        handles.append(on_experts(subject, 1, fail))

    with pytest.raises(ValueError, match="stop"), nd.steer(subject, Scale(routed_circuit(subject))), installed(install):
        plain_logits(subject, ROWS)
    assert differences(before, snapshot(subject.model)) == []


def test_neurons_that_are_not_there_are_refused():
    subject = tiny_subject("deepseek_v3")
    with pytest.raises(
        SteeringError, match=r"no neuron \(layer 1, expert 4, index 0\).*experts below 4, indices below 12"
    ):
        Scale(Circuit.of([Row(Neuron(1, 4, 0), 1.0, 1.0)])).compile(subject)
    with pytest.raises(SteeringError, match=r"layer 0, expert 0.*routed experts only"):
        Scale(Circuit.of([Row(Neuron(0, 0, 0), 1.0, 1.0)])).compile(subject)
    with pytest.raises(SteeringError, match=r"layer 0, index 3.*an expert"):
        Scale(Circuit.of([Row(Neuron(0, None, 3), 1.0, 1.0)])).compile(tiny_subject("mixtral"))
    with pytest.raises(ModelError, match="is for dense MLPs"):
        on_neurons(subject, Site(1, routed=True), lambda neurons: None)


# ------------------------------------------------------------------------------------------- slopes


@pytest.mark.parametrize(("name", "way"), CASES)
def test_slopes_are_the_weights_times_their_gradients(name, way):
    """Also in a second backward pass through one graph, and for experts that only padding goes to."""
    subject = subject_of(name, way)
    tokens = torch.tensor([[*ROWS[1], 258, 258, 258], list(ROWS[2][:6])])
    taken = []
    with multiplier_slopes(subject, lambda site, slopes: taken.append((site, slopes))):
        last = logits(subject, hidden_states(subject, tokens)[:, 2])
        value = (last[:, 40] - last[:, 41]).sum()
        value.backward(retain_graph=True)
        once = dict(taken)
        value.backward()
    assert len(taken) == 2 * len(subject.sites)
    last = logits(subject, hidden_states(subject, tokens)[:, 2])
    value = (last[:, 40] - last[:, 41]).sum()
    for layer, site in subject.layout.experts:
        weight = getattr(subject.blocks[layer].get_submodule(site.module), site.down)
        [gradient] = torch.autograd.grad(value, weight, retain_graph=True)
        expected = (weight.detach() * gradient).sum(dim=-1 if site.transposed else -2)
        found = once[Site(layer, routed=True)]
        assert found.shape == (2, *site.shape)
        assert near(found.sum(dim=0), expected)
        assert all(torch.equal(slopes, found) for at, slopes in taken if at == Site(layer, routed=True))
        assert bool((expected != 0).any())


def test_effect_against_cost_ranks_neurons_of_experts_with_the_others():
    subject = tiny_subject("qwen2_moe")
    examples = [Example(text) for text in ("harm one", "harm two", "harm three")]
    effects = effect_scores(effect(subject, Openers.of([(40,)]), examples), subject.sites)
    passages = [Passage(row, 1, len(row) - 1) for row in ROWS]
    costs = cost(subject, passages)
    ratio = EffectCost.of(effects, costs.scores)
    best = ratio.layout.neurons_at(ratio.best(20))
    assert any(neuron.expert is not None for neuron in best)
    curvature = quadratic_cost(subject, passages, best)
    assert torch.allclose(curvature.diagonal(), costs.scores.flat()[costs.scores.places_of(best)], rtol=1e-4)


# ------------------------------------------------------------------------------------------- circuits and files


def contrast():
    return nd.Contrast.of([f"{text}!" for text in "abcdef"], [f"{text}?" for text in "abcdef"])


def test_a_circuit_carries_how_many_prompts_came_to_each_neurons_expert():
    subject = tiny_subject("mixtral")
    circuit = nd.discover(subject, contrast(), method=nd.CNA(universal=None, folds=3), select=nd.Count(12))
    found = read(subject, subject.render([example.prompt for example in (*contrast().positive, *contrast().negative)]))
    for row in circuit:
        assert row.neuron.expert is not None
        came = [bool((found[place, row.neuron.site][row.neuron.expert] != 0).any()) for place in range(12)]
        assert row.visits == (sum(came[:6]), sum(came[6:]))
    again = parse_circuit(json.loads(circuit_json(circuit)), place="here")
    assert again == circuit
    assert again.origin.model.experts == ((4, 24), (4, 24))
    assert again.origin.model.neurons == subject.neurons == 192


def test_neurons_that_work_by_routing_alone_are_found():
    """One side's last token goes to an expert that the other side's never goes to."""
    subject, texts = tiny_subject("mixtral", chat=False), ["sun", "old river", "a", "the way home"]
    shown, hidden = ([text + end for text in texts] for end in "!?")
    router = subject.blocks[1].get_submodule("mlp.gate")
    given = last_inputs(subject, router, [*shown, *hidden]).double()
    wanted = torch.tensor([30.0] * 4 + [-30.0] * 4, dtype=torch.float64)
    with torch.no_grad():
        router.weight[2] = torch.linalg.lstsq(given, wanted).solution.float()
    circuit = nd.discover(
        subject, nd.Contrast.of(shown, hidden), method=nd.CNA(universal=None, folds=0), select=nd.Count(40)
    )
    planted = [row for row in circuit if (row.neuron.layer, row.neuron.expert) == (1, 2)]
    assert len(planted) > 10
    assert {row.visits for row in planted} == {(4, 0)}
    ranked = circuit.top(5)
    assert any(row in ranked.rows for row in planted)


def test_show_lists_experts_and_visits(tmp_path, capsys):
    from neurodial.cli.circuits_command import show

    rows = [Row(Neuron(1, 3, 5), 2.0, 1.0, (4, 1)), Row(Neuron(0, None, 7), 1.0, 1.0)]
    path = Circuit.of(rows, origin=Origin(model=tiny_subject("deepseek_v3").identity)).write(tmp_path / "a.json")
    show(path)
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["layer", "expert", "neuron", "score", "dose", "visits", "(+/-)"] in shown
    assert ["1", "3", "5", "+2.0000", "1", "4/1"] in shown
    assert ["0", "7", "+1.0000", "1"] in shown
    assert any("2 neurons of 84" in " ".join(line) for line in shown)


def test_scores_stand_in_the_order_of_layer_expert_index():
    subject = tiny_subject("deepseek_v3")
    found = nd.discover(subject, contrast(), method=nd.CNA(universal=None, folds=0), select=nd.Fraction(1.0))
    everything = AllNeurons.of(found.origin.model)
    assert [row.neuron for row in found] == everything.at(range(subject.neurons))
    assert everything.positions(row.neuron for row in found) == list(range(subject.neurons))
    assert everything.shapes == {Site(0): (24,), Site(1): (12,), Site(1, routed=True): (4, 12)}


def test_controls_match_layers_and_visits():
    subject = tiny_subject("deepseek_v3")
    circuit = routed_circuit(subject) | Circuit.of([Row(Neuron(0, None, 2), 1.0, 1.0)])
    for seed in range(5):
        control = random_control(circuit, seed=seed, match="visits")
        assert not control.neurons & circuit.neurons
        keys = [sorted((n.layer, -1 if n.expert is None else n.expert) for n in c.neurons) for c in (control, circuit)]
        assert keys[0] == keys[1]
        layered = random_control(circuit, seed=seed, match="layer")
        assert sorted(n.layer for n in layered.neurons) == sorted(n.layer for n in circuit.neurons)
        assert not layered.neurons & circuit.neurons
    small = Circuit.of([Row(Neuron(1, 0, n), 1.0, 1.0) for n in range(7)], origin=circuit.origin)
    with pytest.raises(CircuitError, match="too few neurons"):
        random_control(small, seed=0, match="visits")
    assert len(random_control(small, seed=0, match="layer")) == 7


def test_places_index_a_tensor_over_a_site():
    table = torch.arange(24).reshape(2, 3, 4)
    neurons = [Neuron(0, 2, 1), Neuron(0, 0, 3)]
    assert table[(slice(None), *places(neurons))].tolist() == [[9, 3], [21, 15]]


# ------------------------------------------------------------------------------------------- exports


@pytest.mark.parametrize("name", ["mixtral", "gpt_oss"])
def test_the_weights_of_experts_are_scaled_as_the_checkpoint_keeps_them(name, tmp_path):
    subject = tiny_subject(name)
    circuit = routed_circuit(subject, 1.5)
    live = export_circuit(subject, Scale(circuit, dial=0.75), route="weights", output=tmp_path / "live")
    assert live.checks[0].agrees
    subject.model.save_pretrained(tmp_path / "model")
    subject.tokenizer.save_pretrained(tmp_path / "model")
    loaded = nd.load(str(tmp_path / "model"))
    copied = export_circuit(loaded, Scale(circuit, dial=0.75), route="weights", output=tmp_path / "copied")
    assert copied.checks[0].agrees
    assert copied.checks[0].effect > 100 * copied.checks[0].difference


@pytest.mark.parametrize("name", ["qwen2_moe", "gpt_oss"])
def test_a_lora_for_peft_holds_experts_and_dense_mlps(name, tmp_path):
    subject = tiny_subject(name)
    circuit = routed_circuit(subject, 1.5) | Circuit.of([Row(Neuron(1, 2, 0), 1.0, 0.5)])  # two in one expert
    if subject.dense_sites:
        circuit |= Circuit.of([Row(Neuron(0, None, 3), 1.0, 1.0)])
    before = snapshot(subject.model)
    export = export_circuit(subject, Scale(circuit, dial=0.75), route="lora", output=tmp_path / "lora")
    assert [check.strength for check in export.checks] == [1.0, 0.5, -1.0]
    assert all(check.agrees and check.effect > 100 * check.difference for check in export.checks)
    assert export.manifest.rank == 2
    assert differences(before, snapshot(subject.model)) == []


def test_formats_that_hold_no_experts_say_so(tmp_path):
    subject = tiny_subject("qwen2_moe")
    for route in ("ia3", "gguf-lora", "vllm"):
        with pytest.raises(ExportError, match=r"routed experts; the format .* holds neurons of dense.*--as weights"):
            export_circuit(subject, Scale(routed_circuit(subject)), route=route, output=tmp_path / route)
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------- what is dense only


def test_single_neurons_are_for_dense_mlps():
    from neurodial.methods.single.scores_of_neurons import candidates

    subject = tiny_subject("mixtral")
    with pytest.raises(ModelError, match=r"All neurons of tiny-mixtral are in routed experts.*cna and dose"):
        candidates(subject, Openers.of([(40,)]), contrast())
    shared = candidates(tiny_subject("qwen2_moe"), Openers.of([(40,)]), contrast())
    assert all(candidate.neuron.expert is None for candidate in shared)


def test_two_models_are_compared_neuron_by_neuron():
    base, tuned = tiny_subject("qwen2_moe"), tiny_subject("qwen2_moe")
    with torch.no_grad():
        tuned.down_weight(Site(1, routed=True))[2, :, 10] *= 3.0
    circuits = tuple(
        routed_circuit(subject) | Circuit.of([Row(Neuron(0, None, 3), 1.0, 1.0)]) for subject in (base, tuned)
    )
    few, pairs = nd.ComparingModels(prompts=2, passages=2, answer_tokens=2), nd.PairSet.read("formality").first(6)
    found = nd.compare_models(base, tuned, pairs, neutral=["Hi", "Why?"], circuits=circuits, options=few)
    moved = {(one.layer, one.expert, one.index): one.moved for one in found.neurons if one.moved > 1e-6}
    assert moved == {(1, 2, 10): pytest.approx(2.0)}
    assert len(found.neurons) == 9
    assert found.ranks_all == pytest.approx(1.0)
    assert {row.circuit for row in found.transfer} == {"none", "base", "tuned", "random"}
    assert any("the weights were not compared as files" in note for note in found.notes)
    with pytest.raises(ModelMismatchError, match="136 neurons in 2 layers, tiny-mixtral 192 in 2"):
        nd.compare_models(base, tiny_subject("mixtral"), pairs, neutral=["Hi"])


class _Dealt(torch.nn.Module):
    """Experts as modules of their own, each given its tokens alone, as checkpoints with code of their own have them."""

    def __init__(self, width):
        super().__init__()
        self.router = torch.nn.Linear(width, 3)
        self.experts = torch.nn.ModuleList(
            torch.nn.Sequential(torch.nn.Linear(width, 8), torch.nn.SiLU(), torch.nn.Linear(8, width)) for _ in range(3)
        )

    def forward(self, hidden):
        chosen = self.router(hidden).argmax(dim=-1)
        output = torch.zeros_like(hidden)
        for number, expert in enumerate(self.experts):
            output[chosen == number] = expert(hidden[chosen == number])
        return output


def test_experts_that_are_modules_of_their_own_are_refused_for_what_they_are():
    model = tiny_model("llama")
    for layer in model.model.layers:
        layer.mlp = _Dealt(16)
    with pytest.raises(
        LayoutError, match=r"routed experts \(mlp.experts\).*mlp.experts \(3 modules of their own"
    ) as found:
        find_layout(model)
    assert found.value.mlp == "routed"


def test_experts_one_below_the_other_in_a_matrix_are_neurons_like_others(tmp_path):
    subject = zoo_subject("dbrx")
    (_, site), _ = subject.layout.experts
    assert (site.module, site.down, site.shape, site.is_flat) == ("ffn.experts", "mlp.w2", (4, 24), True)
    neuron = Neuron(0, 2, 5)
    block = subject.blocks[0]
    rows = block.ffn.experts.mlp.w2
    assert torch.equal(subject.down_columns(neuron.site, [2 * 24 + 5])[:, 0], rows[2 * 24 + 5].detach())
    circuit = Circuit.of([Row(neuron, 1.0, 3.0)], origin=Origin(model=subject.identity))
    ids = torch.arange(40, 60)[None]
    with torch.no_grad():
        plain = subject.model(input_ids=ids, use_cache=False).logits
        with nd.steer(subject, Scale(circuit)):
            steered = subject.model(input_ids=ids, use_cache=False).logits
        rows[2 * 24 + 5] *= -2
        scaled = subject.model(input_ids=ids, use_cache=False).logits
        rows[2 * 24 + 5] /= -2
    assert near(steered, scaled)
    assert not near(steered, plain)
    with pytest.raises(ExportError, match=r"two axes, which PEFT takes for one map.*--as weights"):
        export_circuit(subject, Scale(circuit), route="lora", output=tmp_path / "lora")
    assert not list(tmp_path.iterdir())


def test_a_plan_that_takes_anothers_place_sets_its_own_neurons():
    subject = tiny_subject("mixtral")
    plans = [Scale(routed_circuit(subject, 2.0, shift=shift)).compile(subject) for shift in (0, 7)]
    with torch.no_grad():
        with steered(subject, plans[1]):
            [wanted] = plain_logits(subject, [range(40, 52)])
        with steered(subject, plans[0]) as steering:
            [before] = plain_logits(subject, [range(40, 52)])
            steering.replace(plans[1])
            [found] = plain_logits(subject, [range(40, 52)])
    assert same_bits(found, wanted)
    assert not near(before, wanted)
