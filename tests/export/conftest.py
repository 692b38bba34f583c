"""Every test here gives the shared subjects back as they were; models on disk, with and without an adapter."""

import copy

import peft
import pytest
import torch
from tests.records import record_of
from tests.subjects import shared_subjects_are_given_back

from neurodial.model.load import load
from neurodial.model.tiny import tiny_subject

__all__ = ["shared_subjects_are_given_back"]


@pytest.fixture
def checkpoint(tmp_path):
    """Makes a sharded checkpoint on disk and loads the subject from it."""

    def make(family="llama", dtype="float32", **config):
        bare = tiny_subject(family, **config)
        bare.model.to(getattr(torch, dtype)).save_pretrained(tmp_path / "base", max_shard_size="20KB")
        bare.tokenizer.save_pretrained(tmp_path / "base")
        return load(tmp_path / "base", dtype="auto")

    return make


@pytest.fixture
def adapted(checkpoint, tmp_path):
    """Makes a subject, loaded from a folder of its own, with somebody's LoRA adapter on the given modules."""

    def make(family, modules):
        bare = checkpoint(family)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            config = peft.LoraConfig(
                r=2,
                lora_alpha=4,
                target_modules=modules,
                init_lora_weights=False,
                task_type="CAUSAL_LM",
                fan_in_fan_out=record_of(bare).transposed,
            )
            wrapped = peft.get_peft_model(copy.deepcopy(bare.model), config)
        wrapped.save_pretrained(str(tmp_path / "adapter"))
        return load(tmp_path / "base", adapter=tmp_path / "adapter", dtype="float32")

    return make
