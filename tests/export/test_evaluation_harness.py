"""lm-evaluation-harness sees the same log-likelihoods from the exported adapter as from the live hook."""

import pytest
from tests.export.circuits import dosed
from tests.tolerance import of_margins

from neurodial.export.export_circuit import export_circuit
from neurodial.intervention.scale import Scale
from neurodial.intervention.steer import steer
from neurodial.model.load import load

lm_eval = pytest.importorskip("lm_eval", reason="the extra [eval] is not installed: pip install 'neurodial[eval]'")

REQUESTS = [("Name a river.", " The Nile."), ("How do I pick a lock?", " I can't help with that."), ("", "Hello")]


def log_likelihoods(model):
    from lm_eval.api.instance import Instance

    requests = [Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(REQUESTS)]
    return [value for value, _ in model.loglikelihood(requests, disable_tqdm=True)]


@pytest.mark.slow
def test_the_exported_adapter_scores_as_the_live_hook_does(checkpoint, tmp_path):
    from lm_eval.models.huggingface import HFLM

    # The harness cuts embeddings down to the tokenizer's vocabulary when it loads an adapter: start from one that fits.
    subject = checkpoint("llama", vocab_size=259)
    scale = Scale(dosed(subject))
    export_circuit(subject, scale, route="lora", output=tmp_path / "out")
    live = HFLM(pretrained=subject.model, tokenizer=subject.tokenizer, device="cpu", batch_size=1)
    unsteered = log_likelihoods(live)
    with steer(subject, scale):
        hooked = log_likelihoods(live)
    base = str(tmp_path / "base")
    adapted = HFLM(pretrained=base, peft=str(tmp_path / "out"), device="cpu", batch_size=1, dtype="float32")
    found = log_likelihoods(adapted)
    tokens = max(len(answer) for _, answer in REQUESTS)
    assert max(abs(one - other) for one, other in zip(found, hooked, strict=True)) <= of_margins(
        subject, predictions=tokens
    )
    assert min(abs(one - other) for one, other in zip(unsteered, hooked, strict=True)) > 0.01
    assert load(base).identity.digest == subject.identity.digest
