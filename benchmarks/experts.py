"""Discovery and steered generation with routed experts, against a plain pass and unsteered generation: a random model.

Seconds are of the processor, in one thread, so that other programs on the machine count little.

Run: python benchmarks/experts.py
"""

from __future__ import annotations

import time

import torch
from discovery import plain_forward
from measure import interleaved, ratios, write

from neurodial.circuit.circuit import Circuit, Row
from neurodial.circuit.site import Neuron
from neurodial.discovery import discover
from neurodial.generation.decoding import Decoding
from neurodial.generation.generate import generate
from neurodial.intervention.scale import Scale
from neurodial.methods.cna.options import CNA
from neurodial.model.subject import Subject
from neurodial.model.tiny import tiny_tokenizer
from neurodial.prompts.behaviours import read_prompt_list
from neurodial.prompts.pairs import Contrast, PairSet
from neurodial.prompts.render import render

SHAPE = {
    "model_type": "qwen3_moe",
    "vocab_size": 512,
    "hidden_size": 256,
    "intermediate_size": 512,
    "moe_intermediate_size": 192,
    "num_experts": 16,
    "num_experts_per_tok": 4,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "decoder_sparse_step": 1,
}
"""The proportions of a model with many small experts, in each of its layers."""
PROMPTS = 10
TOKENS = 16
NEURONS = 46
BATCH = 16


def random_experts() -> Subject:
    """The model, in float32."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(**SHAPE, bos_token_id=256, eos_token_id=257, pad_token_id=258)
    return Subject.of(AutoModelForCausalLM.from_config(config).eval(), tiny_tokenizer(), label="random experts")


def discovery(subject: Subject, *, rounds: int = 5) -> dict[str, object]:
    """Seconds and ratio of discovery with CNA."""
    pairs = PairSet.read("refusal").discovery
    contrast = Contrast(tuple(pairs.positive[:PROMPTS]), tuple(pairs.negative[:PROMPTS]))
    prompts = [example.prompt for example in (*contrast.positive, *contrast.negative)]
    sequences = render(subject.tokenizer, prompts)
    seconds = interleaved(
        {
            "discover": lambda: discover(subject, contrast, method=CNA(universal=None)),
            "plain_forward": lambda: plain_forward(subject, sequences),
        },
        rounds=rounds,
        clock=time.process_time,
    )
    return {
        "prompts": len(sequences),
        "tokens": sum(map(len, sequences)),
        "seconds": seconds,
        "discover_over_plain_forward": ratios(seconds, of="discover", to="plain_forward"),
    }


def steering(subject: Subject, *, rounds: int = 15) -> dict[str, object]:
    """Seconds and ratio of generation with a circuit of experts' neurons in every layer."""
    sites = subject.sites
    rows = [
        Row(Neuron(sites[number % len(sites)].layer, number % subject.shape(sites[0])[0], number), 1.0, 1.0)
        for number in range(NEURONS)
    ]
    # Dial 1e-6 changes no token, so both sides generate the same text; the work is that of any dial.
    scale = Scale(Circuit.of(rows), dial=1e-6)
    asked = list(read_prompt_list("neutral").split("development"))[:BATCH]
    decoding = Decoding(max_new_tokens=TOKENS, batch_size=BATCH)
    seconds = interleaved(
        {
            "steered": lambda: generate(subject, asked, under=scale, decoding=decoding),
            "plain": lambda: generate(subject, asked, decoding=decoding),
        },
        rounds=rounds,
        clock=time.process_time,
    )
    return {
        "batch": BATCH,
        "new_tokens": TOKENS,
        "seconds": seconds,
        "steered_over_plain": ratios(seconds, of="steered", to="plain"),
    }


def main() -> None:
    torch.set_num_threads(1)
    subject = random_experts()
    result: dict[str, object] = {
        "model": SHAPE,
        "clock": "processor",
        "parameters": subject.model.num_parameters(),
        "neurons": subject.neurons,
        "implementation": str(subject.model.config._experts_implementation),  # noqa: SLF001  # no public name
        "discovery": discovery(subject),
        "steering": steering(subject),
    }
    write("experts", result, command="python benchmarks/experts.py")


if __name__ == "__main__":
    main()
