"""Checkpoints on disk, and copies of them with some tensors edited."""

import shutil

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.subjects import shared_subjects_are_given_back

from neurodial.edits.matched import gguf_names_of
from neurodial.edits.model_files import open_model
from neurodial.model.engine_names import engine_names
from neurodial.model.load import load
from neurodial.model.tiny import tiny_subject

__all__ = ["shared_subjects_are_given_back"]

SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}

OWN_SIZES = {"gpt2": {"n_inner": 96}, "opt": {"ffn_dim": 96, "word_embed_proj_dim": 64}}


@pytest.fixture
def checkpoint(tmp_path):
    """Makes a sharded checkpoint on disk and loads the subject from it."""

    def make(family="llama", dtype="float32", **config):
        bare = tiny_subject(family, **{**SIZES, **OWN_SIZES.get(family, {}), **config})
        bare.model.to(getattr(torch, dtype)).save_pretrained(tmp_path / "base", max_shard_size="60KB")
        bare.tokenizer.save_pretrained(tmp_path / "base")
        return load(tmp_path / "base", dtype="auto")

    return make


@pytest.fixture
def edited(tmp_path):
    """Makes a copy of the checkpoint in which `change` gives each tensor's new value, or None to leave it."""

    def make(change, name="edited"):
        shutil.copytree(tmp_path / "base", tmp_path / name)
        for file in (tmp_path / name).glob("*.safetensors"):
            tensors = load_file(file)
            for key, tensor in tensors.items():
                after = change(key, tensor.double())
                if after is not None:
                    tensors[key] = after.to(tensor.dtype).contiguous()
            save_file(tensors, file, {"format": "pt"})
        return str(tmp_path / name)

    return make


def to_gguf(folder, file, kind):
    """A checkpoint as a GGUF file: matrices in a type, vectors in F32, names as llama.cpp's converter has them."""
    model = open_model(folder, "base")
    names = gguf_names_of(model, model.tensors)
    writer = gguf.GGUFWriter(file, engine_names(model.known.name).gguf)
    writer.add_block_count(model.layers)
    for name, theirs in names.items():
        tensor = model.tensors[name]
        values = tensor.numbers(tensor.content(0, tensor.shape[0])).numpy().astype(np.float32)
        own = gguf.GGMLQuantizationType["F32" if tensor.shape[1] == 1 else kind]
        values = values.reshape(-1) if tensor.shape[1] == 1 else values
        writer.add_tensor(theirs, gguf.quantize(values, own), raw_dtype=own)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(file)
