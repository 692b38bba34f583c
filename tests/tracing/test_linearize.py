"""Linearisation rules against backward passes written by hand, and the model given back as it was."""

import dataclasses

import pytest
import torch
from tests.records import record_of
from torch import nn

from neurodial.errors import ModelError, SteeringError
from neurodial.model.head import soft_cap
from neurodial.model.parts import residual_norms
from neurodial.model.tiny import TINY_FAMILIES, tiny_subject
from neurodial.tracing.linearize import linearized, ratio
from neurodial.tracing.question import Question
from neurodial.tracing.relevance import relevance
from neurodial.tracing.rules import Rules

QUESTION = Question((256, 72, 105, 106, 107, 33), target=10, foil=11)


# ----------------------------------------------------------------------------------------- the oracle


def norm_parts(norm):
    """Scale and a function from input to (normalised input's coefficient, whether it is centred), by hand."""
    centred = isinstance(norm, nn.LayerNorm)
    scale = norm.weight.detach() + (1.0 if "Gemma" in type(norm).__name__ else 0.0)
    epsilon = norm.eps if hasattr(norm, "eps") else norm.variance_epsilon

    def back(x, gradient):
        if centred:
            x = x - x.mean(-1, keepdim=True)
        found = gradient * scale / (x.pow(2).mean(-1, keepdim=True) + epsilon).sqrt()
        return found - found.mean(-1, keepdim=True) if centred else found

    return back


def value_matrix(subject, block):
    """(features, hidden) of the values."""
    family = record_of(subject).name
    if family == "gpt2":
        return block.attn.c_attn.weight.detach().T[-16:]
    if family == "phi3":
        return block.self_attn.qkv_proj.weight.detach()[-8:]
    return block.self_attn.v_proj.weight.detach()


def mlp_backward(subject, block, x, gradient):
    """Relevance of the neurons, and the gradient at the MLP's input: the identity and the half rule by hand."""
    family = record_of(subject).name
    if family == "gpt2":
        before = x @ block.mlp.c_fc.weight + block.mlp.c_fc.bias
        neurons = block.mlp.act(before)
        at_neurons = gradient @ block.mlp.c_proj.weight.T
        return neurons * at_neurons, (at_neurons * neurons / before) @ block.mlp.c_fc.weight.T
    if family == "phi3":
        gate_weight, up_weight = block.mlp.gate_up_proj.weight.chunk(2)
        activation = block.mlp.activation_fn
    else:
        gate_weight, up_weight, activation = block.mlp.gate_proj.weight, block.mlp.up_proj.weight, block.mlp.act_fn
    gate, up = x @ gate_weight.T, x @ up_weight.T
    active = activation(gate)
    at_neurons = gradient @ block.mlp.down_proj.weight
    at_gate = at_neurons * up / 2 * active / gate
    at_up = at_neurons * active / 2
    return active * up * at_neurons, at_gate @ gate_weight + at_up @ up_weight


@torch.no_grad()
def by_hand(subject):
    """Relevance of each layer's neurons and of each hidden state, by a backward pass in plain formulas."""
    model, family = subject.model, record_of(subject)
    model.set_attn_implementation("eager")
    passed = model(
        torch.tensor([QUESTION.tokens]), attention_mask=None, output_attentions=True, output_hidden_states=True
    )
    final = subject.decoder.get_submodule(family.final_norm)
    stream = []
    handle = final.register_forward_pre_hook(lambda module, args: stream.append(args[0][0]))
    model(torch.tensor([QUESTION.tokens]))
    handle.remove()
    residual = [*(hidden[0] for hidden in passed.hidden_states[:-1]), stream[0]]
    head = model.get_output_embeddings().weight
    at_output = torch.zeros_like(residual[-1])
    at_output[-1] = head[QUESTION.target] - head[QUESTION.foil]
    gradient = norm_parts(final)(residual[-1], at_output)
    neurons, hidden = [], [(residual[-1] * gradient).sum(-1)]
    for layer in reversed(range(subject.layers)):
        block = subject.blocks[layer]
        first, second = (block.get_submodule(path) for path in family.norms)
        middle = residual[layer] + attention_output(subject, block, first(residual[layer]), passed.attentions[layer][0])
        found, at_mlp = mlp_backward(subject, block, second(middle), gradient)
        neurons.append(found)
        gradient = gradient + norm_parts(second)(middle, at_mlp)
        at_values = attention_backward(subject, block, gradient, passed.attentions[layer][0])
        gradient = gradient + norm_parts(first)(residual[layer], at_values)
        hidden.append((residual[layer] * gradient).sum(-1))
    return neurons[::-1], hidden[::-1]


def write_matrix(subject, block):
    weight = block.get_submodule(record_of(subject).attention_write).weight.detach()
    return weight.T if record_of(subject).transposed else weight


def attention_output(subject, block, x, patterns):
    values = x @ value_matrix(subject, block).T
    bias = 0.0
    if record_of(subject).name == "gpt2":
        values = values + block.attn.c_attn.bias[-16:]
        bias = block.attn.c_proj.bias
    heads = values.view(len(x), -1, 8).transpose(0, 1).repeat_interleave(2 // (values.shape[1] // 8), dim=0)
    mixed = (patterns @ heads).transpose(0, 1).reshape(len(x), 16)
    return mixed @ write_matrix(subject, block).T + bias


def attention_backward(subject, block, gradient, patterns):
    at_heads = (gradient @ write_matrix(subject, block)).view(len(gradient), 2, 8).transpose(0, 1)
    at_values = patterns.transpose(1, 2) @ at_heads
    matrix = value_matrix(subject, block)
    if matrix.shape[0] == 8:  # both heads share their values
        return at_values.sum(0) @ matrix
    return at_values.transpose(0, 1).reshape(len(gradient), 16) @ matrix


@pytest.mark.parametrize("family", ["llama", "gemma", "phi3", "gpt2"])
def test_relevance_equals_a_backward_pass_written_by_hand(family, wide):
    subject = wide(family, biased=family == "gpt2")
    neurons, hidden = by_hand(subject)
    [found] = relevance(subject, [QUESTION])
    # Two orders of float64 sums; nothing else differs.
    for layer in range(subject.layers):
        torch.testing.assert_close(found.neurons[layer], neurons[layer], rtol=1e-10, atol=1e-12)
    for depth, stream in enumerate(hidden):
        torch.testing.assert_close(found.hidden[depth], stream, rtol=1e-10, atol=1e-12)


# ----------------------------------------------------------------------------------------- conservation


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_without_biases_relevance_is_conserved_at_every_depth(family, wide):
    subject = wide(family)
    [found] = relevance(subject, [QUESTION])
    assert abs(found.value) > 0.05
    for stream in found.hidden:
        assert float(stream.sum()) == pytest.approx(found.value, rel=1e-9)


@pytest.mark.parametrize("family", ["gpt2", "opt", "gpt_neox", "qwen2"])
def test_biases_take_their_share(family, wide):
    [found] = relevance(wide(family, biased=True), [QUESTION])
    assert abs(float(found.inputs.sum()) - found.value) > 1e-3


RULE_FAMILIES = [
    ("norm", "llama"),
    ("norm", "gemma2"),
    ("norm", "gpt2"),
    ("norm", "olmo2"),
    ("activation", "llama"),
    ("activation", "gpt2"),
    ("product", "llama"),
    ("product", "phi3"),
    ("attention", "llama"),
    ("attention", "gpt2"),
    ("attention", "gpt_neox"),
    ("attention", "phi3"),
    ("soft_cap", "gemma2"),
]


@pytest.mark.parametrize(("rule", "family"), RULE_FAMILIES)
def test_conservation_needs_each_rule(rule, family, wide):
    subject = wide(family)
    [without] = relevance(subject, [QUESTION], rules=dataclasses.replace(Rules(), **{rule: False}))
    assert abs(float(without.inputs.sum()) - without.value) > 1e-3 * abs(without.value)


@pytest.mark.parametrize("family", ["qwen3", "gemma3_text", "olmo2"])
def test_norms_of_queries_and_keys_are_linear_under_full_attention(family, wide):
    subject = wide(family)
    with_rule, without = (
        relevance(subject, [QUESTION], rules=Rules(attention=False, norm=norm))[0].inputs for norm in (True, False)
    )
    assert not torch.allclose(with_rule, without)
    hooked = []
    for path in record_of(subject).query_key_norms:
        module = subject.blocks[0].get_submodule(path)
        with linearized(subject, Rules(attention=False)):
            hooked.append(len(module._forward_hooks))
    assert hooked == [1, 1]


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_no_rules_are_plain_gradients(family, wide):
    subject = wide(family, biased=True)
    [found] = relevance(subject, [QUESTION], rules=Rules.none())
    kept = []
    handles = [
        subject.blocks[0].register_forward_hook(
            lambda module, args, out: kept.append(out[0] if isinstance(out, tuple) else out)
        )
    ]
    logits = subject.model(torch.tensor([QUESTION.tokens])).logits[0, -1]
    value = logits[QUESTION.target] - logits[QUESTION.foil]
    (slope,) = torch.autograd.grad(value, kept)
    for handle in handles:
        handle.remove()
    assert found.value == pytest.approx(float(value.detach()), rel=1e-12)
    torch.testing.assert_close(found.hidden[1], (kept[0] * slope)[0].sum(-1).detach(), rtol=1e-10, atol=1e-12)


def test_the_tiny_gemma_has_a_soft_cap_to_test():
    assert soft_cap(tiny_subject("gemma2")) == 30.0
    assert soft_cap(tiny_subject("llama")) is None


# ----------------------------------------------------------------------------------------- the model comes back


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_values_keep_every_bit_inside_the_block(family):
    subject = tiny_subject(family)
    tokens = torch.tensor([QUESTION.tokens])
    mask = torch.ones_like(tokens)
    plain = subject.model(tokens, attention_mask=mask).logits
    with linearized(subject):
        inside = subject.model(tokens, attention_mask=mask).logits
    assert torch.equal(plain, inside)


@pytest.mark.parametrize("family", TINY_FAMILIES)
@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_given_back(family, fails):
    subject = tiny_subject(family)
    next(subject.model.parameters()).requires_grad_(False)
    flags = [parameter.requires_grad for parameter in subject.model.parameters()]
    weights = {name: tensor.clone() for name, tensor in subject.model.state_dict().items()}
    try:
        with linearized(subject):
            assert any(module._forward_hooks for module in subject.model.modules())
            subject.model(torch.tensor([QUESTION.tokens]))
            if fails:
                raise KeyError
    except KeyError:
        pass
    assert [parameter.requires_grad for parameter in subject.model.parameters()] == flags
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in subject.model.modules())
    assert all(torch.equal(tensor, weights[name]) for name, tensor in subject.model.state_dict().items())
    assert all(parameter.grad is None for parameter in subject.model.parameters())


def test_blocks_do_not_nest_and_may_follow_one_another():
    subject = tiny_subject()
    with linearized(subject), pytest.raises(SteeringError, match="linearised already"), linearized(subject):
        pass
    with linearized(subject):
        pass


def test_a_model_with_a_strange_activation_is_refused_and_given_back():
    subject = tiny_subject()
    subject.blocks[1].mlp.act_fn = nn.Sigmoid()
    with pytest.raises(ModelError, match=r"0\.5 at 0"), linearized(subject):
        pass
    assert not any(module._forward_hooks for module in subject.model.modules())
    with linearized(subject, Rules(activation=False)):
        pass


# ----------------------------------------------------------------------------------------- small pieces


def test_the_ratio_at_zero_is_the_slope():
    x = torch.tensor([0.0, -2.0, 1e-42, 3.0])
    assert ratio(x, nn.functional.silu(x), 0.5).tolist() == pytest.approx(
        [0.5, float(torch.sigmoid(torch.tensor(-2.0))), 0.5, float(torch.sigmoid(torch.tensor(3.0)))]
    )


@pytest.mark.parametrize(
    ("activation", "at_zero"), [("silu", 0.5), ("gelu", 0.5), ("gelu_new", 0.5), ("gelu_pytorch_tanh", 0.5),
                                ("quick_gelu", 0.5), ("relu", 0.0), ("relu2", 0.0)]
)  # fmt: skip
def test_every_activation_is_linear_through_the_origin(activation, at_zero):
    from transformers.activations import ACT2FN

    subject = tiny_subject("gpt2", activation_function=activation)
    module = subject.blocks[0].mlp.act
    assert type(module) is type(ACT2FN[activation])
    x = torch.tensor([-1.5, 0.0, 0.7], requires_grad=True)
    with linearized(subject):
        y = module(x)
        (slope,) = torch.autograd.grad(y.sum(), x)
    assert slope.tolist() == pytest.approx([float((y[0] / x[0]).detach()), at_zero, float((y[2] / x[2]).detach())])


def test_a_record_names_every_norm():
    for family in TINY_FAMILIES:
        subject = tiny_subject(family)
        per_block = {"gemma2": 4, "gemma3_text": 4}.get(family, 2)
        assert len(residual_norms(subject)) == per_block * subject.layers + 1
