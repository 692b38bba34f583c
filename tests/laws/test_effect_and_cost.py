"""Attribution predicts intervention: effect is a slope of the margin, cost a curvature of the KL.

Tiny models in float64. Several families still compute norms or softmax in float32, so a value carries noise of about
1e-7; a four-point central difference with step 0.02 has truncation of order 1e-7 and rounding of order 1e-5.
"""

import pytest
import torch

from neurodial.circuit.circuit import Circuit, Row
from neurodial.circuit.site import Neuron
from neurodial.errors import GradientError, PromptError
from neurodial.generation.divergence import measure_divergence
from neurodial.intervention.scale import Scale
from neurodial.intervention.steer import steer
from neurodial.margins.margin import AnswerMargin, ClassifierLogit, Openers
from neurodial.margins.measure import measure_margins
from neurodial.methods.dose.cost import Sampling, cost, quadratic_cost
from neurodial.methods.dose.effect import effect, effect_scores
from neurodial.model.gradients import backward, multiplier_slopes
from neurodial.model.head import hidden_states
from neurodial.model.hooks import on_neurons
from neurodial.model.subject import Subject
from neurodial.model.tiny import TINY_FAMILIES, tiny_subject
from neurodial.prompts.passage import Passage
from neurodial.prompts.prompt import Example
from neurodial.prompts.render import render

STEP = 0.02
EXAMPLES = [Example(text, positive_answer="ab", negative_answer="xyz") for text in ("a", "hello you", "why?")]
OPENERS = Openers.of([(73, 39, 109), (73, 32), (78,)])
PASSAGES = [Passage((256, 5, 6, 7, 8, 9), 2, 4), Passage((256, 40), 1, 1), Passage(tuple(range(30, 45)), 8, 7)]


def double(family, **config):
    subject = tiny_subject(family, **config)
    return Subject.of(subject.model.double(), subject.tokenizer)


def uniform(neurons, dose=1.0):
    return Circuit.of([Row(neuron, 0.0, dose) for neuron in neurons])


def everything(subject):
    return [
        Neuron(site.layer, None, j) for site, w in zip(subject.sites, subject.widths, strict=True) for j in range(w)
    ]


def mean_margin(subject, margin, interventions):
    found = [measure_margins(subject, margin, EXAMPLES, under=intervention) for intervention in interventions]
    return [sum(values) / len(values) for values in found]


def slope_in_dose(subject, margin, circuit, *, at=0.0):
    """A four-point central difference of the mean margin in the dial, which is a common dose."""
    dials = [at + STEP * step for step in (-2, -1, 1, 2)]
    values = mean_margin(subject, margin, [Scale(circuit, dial) for dial in dials])
    return (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * STEP)


def found_effect(subject, margin, **options):
    return effect_scores(effect(subject, margin, EXAMPLES, **options), subject.sites)


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_effect_is_the_slope_of_the_margin(family):
    subject = double(family)
    scores = found_effect(subject, OPENERS)
    largest = scores.flat().abs().topk(3).indices.tolist()
    for place in largest:
        expected = -slope_in_dose(subject, OPENERS, uniform([scores.neuron(place)]))
        assert float(scores.flat()[place]) == pytest.approx(expected, abs=2e-4, rel=2e-4)
    # Many neurons at once: the slopes add. (Not all of them: a norm after the MLP would undo a common factor.)
    expected = -slope_in_dose(subject, OPENERS, uniform(everything(subject)[::3]))
    assert float(scores.flat()[::3].sum()) == pytest.approx(expected, abs=1e-3, rel=1e-3)
    assert float(scores.flat().abs().max()) > 0.05


@pytest.mark.parametrize(
    "margin", [AnswerMargin(), AnswerMargin(per_token=True), ClassifierLogit(lambda h: h[-1, 3] ** 2)]
)
def test_effect_of_other_margins(margin):
    subject = double("llama")
    scores = found_effect(subject, margin)
    for place in scores.flat().abs().topk(4).indices.tolist():
        expected = -slope_in_dose(subject, margin, uniform([scores.neuron(place)]))
        assert float(scores.flat()[place]) == pytest.approx(expected, abs=1e-4, rel=1e-4)


@pytest.mark.parametrize("at", [0.5, 1.0, 2.0])
def test_effect_under_steering_is_the_slope_there(at):
    """Also at dose 1, where the multiplier is 0 and activation x gradient after steering would say nothing."""
    subject = double("qwen2")
    neurons = everything(subject)[::7]
    circuit = uniform(neurons)
    with steer(subject, Scale(circuit, at)):
        scores = found_effect(subject, OPENERS)
    total = sum(float(scores[neuron.site][neuron.index]) for neuron in neurons)
    assert total == pytest.approx(-slope_in_dose(subject, OPENERS, circuit, at=at), abs=1e-4, rel=1e-4)
    assert abs(total - sum(float(found_effect(subject, OPENERS)[n.site][n.index]) for n in neurons)) > 1e-3


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_effect_does_not_depend_on_batching(family):
    subject = tiny_subject(family)
    together, apart = found_effect(subject, OPENERS), found_effect(subject, OPENERS, budget=1)
    # float32: sums in another order
    assert torch.allclose(together.flat(), apart.flat(), atol=1e-4, rtol=1e-4)
    assert together.flat().abs().max() > 0.01


def test_batches_of_other_numbers_of_prompts_keep_their_owners_apart():
    """Three prompts of one length, two of which fit into a batch."""
    subject = double("llama")
    examples = [Example(text) for text in ("aa", "bb", "cc")]
    [prompt, *_] = render(subject.tokenizer, [example.prompt for example in examples])
    rows = OPENERS.rows(subject, prompt, examples[0])
    two = 2 * len(rows) * max(map(len, rows))
    together, apart = (
        effect_scores(effect(subject, OPENERS, examples, budget=budget), subject.sites).flat()
        for budget in (10_000, two)
    )
    torch.testing.assert_close(apart, together, rtol=1e-9, atol=1e-12)


def test_slopes_are_multiplied_and_summed_in_float32_on_a_bfloat16_model():
    """Against the activations and gradients themselves, multiplied exactly."""
    subject = tiny_subject("llama", num_hidden_layers=1, intermediate_size=64)
    subject.model.to(torch.bfloat16)
    kept, found = [], {}

    def keep(neurons):
        neurons = neurons if neurons.requires_grad else neurons.detach().requires_grad_(True)
        neurons.retain_grad()
        kept.append(neurons)
        return neurons

    with multiplier_slopes(subject, found.setdefault):
        handle = on_neurons(subject, subject.sites[0], keep)
        hidden = hidden_states(subject, torch.arange(40, 80)[None])
        backward(subject, [hidden.float().square().sum()])
        handle.remove()
    [neurons] = kept
    exact = (neurons.detach().double() * neurons.grad.double()).sum(dim=1)
    [slopes] = found.values()
    assert slopes.dtype == torch.float32
    torch.testing.assert_close(slopes.double(), exact, rtol=1e-5, atol=1e-6 * float(exact.abs().max()))


def test_folds_are_the_effects_of_their_prompts():
    subject = double("llama")
    moments = effect(subject, OPENERS, EXAMPLES, folds=[0, 1, 0])
    alone = effect_scores(effect(subject, OPENERS, EXAMPLES[1:2]), subject.sites)
    assert torch.allclose(effect_scores(moments, subject.sites, [1]).flat(), alone.flat(), atol=1e-9)
    assert not torch.allclose(effect_scores(moments, subject.sites, [0]).flat(), alone.flat(), atol=1e-3)


def test_the_model_is_given_back():
    subject = tiny_subject()
    subject.model.lm_head.weight.requires_grad_(False)
    before = [parameter.requires_grad for parameter in subject.model.parameters()]
    found_effect(subject, OPENERS)
    cost(subject, PASSAGES)
    with pytest.raises(RuntimeError, match="on purpose"):
        found_effect(subject, ClassifierLogit(failing))
    assert [parameter.requires_grad for parameter in subject.model.parameters()] == before
    assert all(parameter.grad is None for parameter in subject.model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in subject.model.modules())


def failing(hidden):
    raise RuntimeError("on purpose")


# --------------------------------------------------------------------------------------------------------- cost


def exact_fisher(subject):
    """Oracle: `sum_t sum_y p(y) g_ty g_ty^T / tokens` with every label, through the model's own forward."""
    neurons = everything(subject)
    widths = subject.widths
    total = torch.zeros(len(neurons), len(neurons), dtype=torch.float64)
    for passage in PASSAGES:

        def table(multipliers, passage=passage):
            parts = multipliers.split(widths)
            handles = [
                subject.down(site).register_forward_pre_hook(lambda module, args, part=part: (args[0] * part,))
                for site, part in zip(subject.sites, parts, strict=True)
            ]
            try:
                output = subject.model(input_ids=torch.tensor([passage.tokens]), use_cache=False).logits
            finally:
                for handle in handles:
                    handle.remove()
            return output[0, list(passage.places)].log_softmax(-1)

        ones = torch.ones(len(neurons), dtype=torch.float64)
        jacobian = torch.autograd.functional.jacobian(table, ones, vectorize=True)
        with torch.no_grad():
            probabilities = table(ones).exp()
        total += torch.einsum("ty,tyi,tyj->ij", probabilities, jacobian, jacobian)
    return total / sum(passage.scored for passage in PASSAGES)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "gpt_neox", "qwen3"])
def test_exact_cost_is_the_curvature_of_the_divergence(family):
    subject = double(family)
    fisher = exact_fisher(subject)
    neurons = everything(subject)
    sets = [[place] for place in fisher.diagonal().topk(2).indices.tolist()] + [list(range(0, len(neurons), 3))]
    for chosen in sets:
        step = 0.01 if len(chosen) == 1 else 0.003
        circuit = uniform([neurons[place] for place in chosen])
        up, down = (
            d.mean for d in measure_divergence(subject, PASSAGES, [Scale(circuit, step), Scale(circuit, -step)])
        )
        # KL(0) = 0 and its slope there is 0; the even part removes the cubic term.
        curvature = (up + down) / step**2
        assert curvature == pytest.approx(float(fisher[chosen][:, chosen].sum()), rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_sampled_cost_is_unbiased(family):
    """Independent seeds against the exact cost: z scores of the means behave as z scores do."""
    subject = double(family)
    fisher = exact_fisher(subject)
    exact = fisher.diagonal()
    runs = torch.stack([cost(subject, PASSAGES, sampling=Sampling(8, seed)).scores.flat() for seed in range(40)])
    z = (runs.mean(dim=0) - exact) / (runs.std(dim=0) / len(runs) ** 0.5)
    assert float(z.abs().max()) < 5
    assert abs(float(z.mean())) < 1.5  # neurons share labels, so z scores are far from independent
    chosen = [0, 5, 30]
    neurons = [everything(subject)[place] for place in chosen]
    sets = [quadratic_cost(subject, PASSAGES, neurons, sampling=Sampling(8, seed)) for seed in range(40)]
    found = torch.stack(sets)
    z = (found.mean(dim=0) - fisher[chosen][:, chosen]) / (found.std(dim=0) / len(found) ** 0.5)
    assert float(z.abs().max()) < 4.5


def test_quadratic_cost_has_the_cost_on_its_diagonal():
    subject = double("llama")
    neurons = everything(subject)[3:40:6]
    sampling = Sampling(3, seed=5)
    diagonal = quadratic_cost(subject, PASSAGES, neurons, sampling=sampling).diagonal()
    scores = cost(subject, PASSAGES, sampling=sampling).scores
    expected = [float(scores[neuron.site][neuron.index]) for neuron in neurons]
    assert diagonal.tolist() == pytest.approx(expected, rel=1e-9)
    backwards = quadratic_cost(subject, PASSAGES, neurons[::-1], sampling=sampling)
    assert backwards.diagonal().tolist() == pytest.approx(expected[::-1], rel=1e-9)


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_cost_does_not_depend_on_batching(family):
    subject = double(family)
    together = cost(subject, PASSAGES, sampling=Sampling(2, seed=3))
    apart = cost(subject, PASSAGES, sampling=Sampling(2, seed=3, budget=1))
    assert torch.allclose(together.scores.flat(), apart.scores.flat(), rtol=1e-4)
    assert together.tokens == apart.tokens == 12


def test_halves_come_from_alternate_passages_and_make_the_whole():
    subject = double("llama")
    found = cost(subject, PASSAGES, sampling=Sampling(2, seed=1))
    first, second = (half.flat() for half in found.halves)
    assert torch.allclose((first * 11 + second * 1) / 12, found.scores.flat())
    assert 0 < found.noise < 1
    alone = cost(subject, PASSAGES[:1], sampling=Sampling(2, seed=1))
    assert not torch.equal(alone.halves[0].flat(), alone.halves[1].flat())


def test_other_seeds_and_more_draws_change_the_labels():
    subject = double("llama")
    found = [
        cost(subject, PASSAGES, sampling=s).scores.flat() for s in (Sampling(2, 0), Sampling(2, 1), Sampling(3, 0))
    ]
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    again = cost(subject, PASSAGES, sampling=Sampling(2, 0)).scores.flat()
    assert torch.equal(found[0], again)


# ---------------------------------------------------------------------------------------------------- bad input


def test_a_model_without_gradients_is_refused():
    subject = tiny_subject()
    head = subject.model.lm_head
    handle = subject.blocks[1].register_forward_hook(lambda module, args, output: output.detach())
    try:
        with pytest.raises(GradientError, match="method cna"):
            found_effect(subject, OPENERS)
    finally:
        handle.remove()
    handle = subject.blocks[0].register_forward_hook(lambda module, args, output: output.detach())
    try:
        with pytest.raises(GradientError, match="layer 0"):
            cost(subject, PASSAGES)
    finally:
        handle.remove()
    assert head is subject.model.lm_head


def test_nothing_to_measure_on_is_refused():
    with pytest.raises(PromptError, match="no prompts"):
        effect(tiny_subject(), OPENERS, [])
    with pytest.raises(PromptError, match="no passages"):
        cost(tiny_subject(), [])
