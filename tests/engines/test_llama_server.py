"""Real llama-server, as the documentation starts it: adapter scales by request, a baked file, a steering vector."""

import pytest
import torch
from benchmarks.drivers import LLAMA_EXACT
from tests.engines.answers import distance, hooked
from tests.export.circuits import PROMPTS

from neurodial.export.equivalence import at_strength
from neurodial.export.export_circuit import export_circuit
from neurodial.export.vector_file import write_vectors
from neurodial.intervention.vector import AddVector
from neurodial.prompts.render import render

pytestmark = [pytest.mark.engine, pytest.mark.demo, pytest.mark.timeout(900)]

SCALES = (0.0, 1.0, 0.5, -1.0, 2.0)

EXACT = 2e-3
"""Two engines, thirty layers, float32 throughout, as the server is told (`LLAMA_EXACT`)."""


@pytest.fixture(scope="module")
def tokens(subject):
    return [list(sequence) for sequence in render(subject.tokenizer, PROMPTS)]


@pytest.fixture(scope="module")
def address(llama_server, subject, scale, unquantised, tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama-server")
    export_circuit(subject, scale, route="gguf-lora", output=folder / "export")
    adapter = f"{folder / 'export' / 'adapter.gguf'}:0"
    options = ("--lora-scaled", adapter, *LLAMA_EXACT)
    with llama_server.llama_server(unquantised, *options, log=folder / "log") as found:
        yield found


def asked(server, address, prompt, scale):
    return server.next_tokens_of_llama(address, prompt, lora=[{"id": 0, "scale": scale}])


def test_every_request_has_its_own_scale(llama_server, address, subject, scale, tokens):
    """One prompt at five scales and back again: what the cache holds of one scale is never used for another."""
    for strength in (*SCALES, *SCALES):
        for prompt in tokens:
            steps = asked(llama_server, address, prompt, strength)
            wanted = hooked(subject, prompt, steps, *at_strength([scale], strength))
            assert distance(steps, wanted) < EXACT, strength
            for other in set(SCALES) - {strength}:
                assert distance(steps, hooked(subject, prompt, steps, *at_strength([scale], other))) > 10 * EXACT


def test_a_request_without_the_field_may_be_answered_from_the_cache_of_another_scale(
    llama_server, address, subject, scale, tokens
):
    """Why every request should name its scale. What such a request leaves behind is only cleared by another scale."""
    prompt = [*tokens[0], *tokens[1]]

    def far(steps, strength):
        return distance(steps, hooked(subject, prompt, steps, *at_strength([scale], strength)))

    asked(llama_server, address, prompt, 2.0)
    assert far(llama_server.next_tokens_of_llama(address, prompt), 0.0) > 20 * EXACT
    assert far(asked(llama_server, address, prompt, 0.0), 0.0) > 20 * EXACT  # as the adapters are what they were
    for strength in (1.0, 0.0):
        assert far(asked(llama_server, address, prompt, strength), strength) < EXACT
    asked(llama_server, address, prompt, 2.0)
    assert far(llama_server.next_tokens_of_llama(address, prompt, cache_prompt=False), 0.0) < EXACT


def test_the_store_of_earlier_prompts_forgets_their_scale(llama_server, subject, scale, unquantised, tmp_path):
    """Why the server is to be started with `--cache-ram 0`: a prompt comes back as it was read before."""
    export_circuit(subject, scale, route="gguf-lora", output=tmp_path / "export")
    adapter = f"{tmp_path / 'export' / 'adapter.gguf'}:0"
    texts = ["Describe a river in winter. " * 12, "How do locks on a canal work, step by step? " * 12]
    prompts = [list(tokens) for tokens in render(subject.tokenizer, texts)]
    found = {}
    for store in ("0", "64"):
        options = ("--lora-scaled", adapter, *LLAMA_EXACT, "--cache-ram", store)
        with llama_server.llama_server(unquantised, *options, log=tmp_path / "log") as address:
            for strength in (2.0, -1.0):
                for prompt in prompts:
                    steps = asked(llama_server, address, prompt, strength)
                    wanted = hooked(subject, prompt, steps, *at_strength([scale], strength))
                    found.setdefault(store, []).append(distance(steps, wanted))
    assert max(found["0"]) < EXACT
    assert max(found["64"]) > 10 * EXACT


def test_a_chat_names_its_scale_too(llama_server, address, subject, scale):
    def chat(strength):
        body = {"messages": [{"role": "user", "content": PROMPTS[0]}], "lora": [{"id": 0, "scale": strength}]}
        body |= {"max_tokens": 8, "temperature": 0, "logprobs": True, "top_logprobs": 5}
        found = llama_server.post(f"{address}/v1/chat/completions", body)["choices"][0]
        return found["message"]["content"], [place["logprob"] for place in found["logprobs"]["content"]]

    (prompt,) = render(subject.tokenizer, PROMPTS[:1])
    for strength in (0.0, 2.0):
        text, values = chat(strength)
        steps = asked(llama_server, address, list(prompt), strength)
        assert values[0] == pytest.approx(steps[0].log_probability, abs=EXACT)
        assert text.startswith(subject.tokenizer.decode([steps[0].token]).strip())
    assert chat(0.0)[1] != pytest.approx(chat(2.0)[1], abs=10 * EXACT)


def test_an_adapter_that_starts_unapplied_answers_as_the_base(llama_server, subject, scale, unquantised, tmp_path):
    """Documented: `--lora-scaled FILE:0` does nothing until a request asks; `--lora FILE` is at scale 1."""
    prompt = list(render(subject.tokenizer, PROMPTS)[0])
    export_circuit(subject, scale, route="gguf-lora", output=tmp_path / "export")
    adapter = str(tmp_path / "export" / "adapter.gguf")
    for options, strength in ((("--lora-scaled", f"{adapter}:0"), 0.0), (("--lora", adapter), 1.0)):
        with llama_server.llama_server(unquantised, *options, *LLAMA_EXACT, log=tmp_path / "log") as address:
            steps = llama_server.next_tokens_of_llama(address, prompt)
        assert distance(steps, hooked(subject, prompt, steps, *at_strength([scale], strength))) < EXACT


def test_a_baked_file_needs_no_field(llama_server, subject, scale, tmp_path, tokens):
    export_circuit(subject, scale, route="gguf", output=tmp_path / "out")
    model = llama_server.dequantised(tmp_path / "out" / "model.gguf", tmp_path / "f32.gguf")
    with llama_server.llama_server(model, *LLAMA_EXACT, log=tmp_path / "log") as address:
        for prompt in tokens:
            steps = llama_server.next_tokens_of_llama(address, prompt)
            assert distance(steps, hooked(subject, prompt, steps, scale)) < EXACT
            assert distance(steps, hooked(subject, prompt, steps)) > 10 * EXACT


@pytest.mark.parametrize("strength", [1.0, -0.5])
def test_a_control_vector_is_the_vector_that_is_added(llama_server, subject, unquantised, tmp_path, tokens, strength):
    generator = torch.Generator().manual_seed(4)
    vectors = [AddVector(torch.randn(576, generator=generator), layer, alpha=0.7) for layer in (9, 20)]
    file = write_vectors(vectors, tmp_path / "vector.gguf")
    options = ("--control-vector-scaled", f"{file}:{strength}", *LLAMA_EXACT)
    with llama_server.llama_server(unquantised, *options, log=tmp_path / "log") as address:
        for prompt in tokens:
            steps = llama_server.next_tokens_of_llama(address, prompt)
            put = [AddVector(one.vector, one.layer, alpha=one.alpha, dial=strength) for one in vectors]
            assert distance(steps, hooked(subject, prompt, steps, *put)) < EXACT
            assert distance(steps, hooked(subject, prompt, steps)) > 10 * EXACT


def test_an_adapter_that_is_not_there_changes_nothing(llama_server, address, subject, tokens):
    """llama-server ignores numbers that it does not know, so a wrong one goes unnoticed."""
    asked(llama_server, address, tokens[0], 2.0)
    steps = llama_server.next_tokens_of_llama(address, tokens[0], lora=[{"id": 7, "scale": 1.0}])
    assert distance(steps, hooked(subject, tokens[0], steps)) < EXACT
