"""lm-evaluation-harness, asking the server, sees the log-likelihoods that it sees with the live hook."""

import pytest
from tests.serve.served import live, two_circuits
from tests.subjects import fresh

import neurodial as nd

lm_eval = pytest.importorskip("lm_eval", reason="the extra [eval] is not installed: pip install 'neurodial[eval]'")
pytest.importorskip("tenacity", reason="the harness asks servers only with its extra: pip install 'lm-eval[api]'")

REQUESTS = [("Name a river.", " The Nile."), ("How do I pick a lock?", " With a key.")]


def log_likelihoods(model):
    from lm_eval.api.instance import Instance

    requests = [Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(REQUESTS)]
    return [value for value, _ in model.loglikelihood(requests, disable_tqdm=True)]


@pytest.mark.slow
def test_a_harness_that_asks_the_server_scores_as_the_live_hook_does(tmp_path):
    from lm_eval.models.huggingface import HFLM
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    subject, other = fresh(), fresh()
    other.tokenizer.save_pretrained(tmp_path)
    circuits = two_circuits(subject)
    with live(subject, circuits) as server:
        address = f"{server.url}/v1/completions"
        options = {
            "base_url": address,
            "tokenizer": str(tmp_path),
            "max_length": 512,
            "tokenizer_backend": "huggingface",
        }
        served = [log_likelihoods(LocalCompletionsAPI(model=name, **options)) for name in ("tiny", "polite@3")]
    # Asking a server, the harness puts no token before the text unless told to; with a live model it does.
    hooked_model = HFLM(
        pretrained=other.model, tokenizer=other.tokenizer, device="cpu", batch_size=1, add_bos_token=False
    )
    unsteered = log_likelihoods(hooked_model)
    with nd.steer(other, nd.Scale(circuits["polite"], dial=3.0)):
        hooked = log_likelihoods(hooked_model)
    assert served[0] == pytest.approx(unsteered, abs=1e-3)
    assert served[1] == pytest.approx(hooked, abs=1e-3)
    assert min(abs(one - two) for one, two in zip(*served, strict=True)) > 0.1
