"""Passes through an offloaded model, block by block: the same numbers, each block read once, one block in memory."""

import copy
import threading
from dataclasses import replace

import pytest
import torch
from tests.subjects import shared

import neurodial as nd
from neurodial.activations import collect as collecting
from neurodial.activations.collect import Reading, collect
from neurodial.activations.position import Last
from neurodial.cli.model_options import ModelOptions
from neurodial.errors import ActivationError
from neurodial.model import block_by_block
from neurodial.model.block_by_block import offloaded_blocks
from neurodial.model.load import load
from neurodial.model.tiny import tiny_model, tiny_tokenizer

SEQUENCES = [tuple(range(5, 5 + length)) for length in (3, 9, 4, 7, 12, 5)]
READING = Reading(Last(), budget=12)
ON_DISK = {
    "model.embed_tokens": "cpu",
    "model.rotary_emb": "cpu",
    "model.layers.0": "disk",
    "model.layers.1": "disk",
    "model.norm": "disk",
    "lm_head": "disk",
}


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_model("llama").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return nd.load(folder, device_map=ON_DISK, offload_folder=str(tmp_path_factory.mktemp("offloaded")))


def collected(subject, sink=lambda *_: None, reading=READING):
    """Activations by layer and rows."""
    found = {}

    def keep(site, activations, rows):
        sink(site)
        found[site.layer, rows] = activations.clone()

    collect(subject, SEQUENCES, reading, keep)
    return found


def resident(subject):
    """Blocks whose weights are in memory."""
    return [n for n, block in enumerate(subject.blocks) if any(not p.is_meta for p in block.parameters())]


@pytest.fixture
def reads(subject, monkeypatch):
    """The names of weights, each time one is read from the disk."""
    read = []
    for block in offloaded_blocks(subject):
        for module, hook in block_by_block.offloading(block):
            prefix = hook.weights_map.prefix

            def pre_forward(module, *args, _hook=hook, _prefix=prefix, _plain=hook.pre_forward, **kwargs):
                if _hook.offload:
                    read.extend(_prefix + name for name, _ in module.named_parameters(recurse=False))
                return _plain(module, *args, **kwargs)

            monkeypatch.setattr(hook, "pre_forward", pre_forward)
    return read


def test_activations_are_those_of_the_model_in_memory_bit_for_bit(subject):
    assert len(offloaded_blocks(subject)) == 2
    assert offloaded_blocks(shared()) == ()
    offloaded, plain = collected(subject), collected(shared())
    assert len(plain) > 4, "several batches"
    assert offloaded.keys() == plain.keys()
    assert all(torch.equal(offloaded[key], plain[key]) for key in plain)


def test_each_weight_is_read_once_for_all_batches_that_go_together(subject, reads, monkeypatch):
    whole = replace(READING, share_prefix=False)
    batches = len(collected(subject, reading=whole)) // 2
    assert len(reads) == len(set(reads)) == sum(1 for block in subject.blocks for _ in block.parameters())
    reads.clear()
    monkeypatch.setattr(block_by_block, "HELD", 1)  # one at least
    collected(subject, reading=whole)
    assert len(reads) == batches * len(set(reads))


def size_of(subject, tokens, cache):
    numbers = tokens.numel() * subject.hidden_size + sum(one.keys.numel() + one.values.numel() for one in cache.layers)
    return 4 * numbers


def test_as_many_batches_go_together_as_hold_no_more_than_the_limit(subject, reads, monkeypatch):
    """What a batch holds between blocks: its residual stream, and keys and values of all tokens in all blocks."""
    told, plain = [], block_by_block._within

    def listened(sizes, limit):
        told.extend(sizes)
        return plain(sizes, limit)

    monkeypatch.setattr(block_by_block, "_within", listened)
    batches, forward = [], collecting._forward

    def watched(subject, tokens, prefix_cache):
        cache = copy.deepcopy(prefix_cache)
        cache.batch_repeat_interleave(len(tokens))
        subject.decoder(input_ids=tokens, past_key_values=cache, use_cache=True)
        batches.append((tokens, cache))

    monkeypatch.setattr(collecting, "_forward", watched)
    collected(subject)
    monkeypatch.setattr(collecting, "_forward", forward)
    assert sorted(told) == sorted(size_of(subject, tokens, cache) for tokens, cache in batches)
    assert len(told) > 2
    limit = sum(told[:2])
    rounds = len(list(plain(told, limit)))
    assert 1 < rounds < len(told)
    reads.clear()
    monkeypatch.setattr(block_by_block, "HELD", limit)
    collected(subject)
    assert len(reads) == (1 + rounds) * len(set(reads))  # once for the shared beginning


@pytest.mark.parametrize(
    ("sizes", "groups"), [([1, 1, 1], [[0, 1], [2]]), ([5, 1, 1], [[0], [1, 2]]), ([1, 5], [[0], [1]]), ([], [])]
)
def test_numbers_that_follow_one_another_within_a_limit(sizes, groups):
    assert list(block_by_block._within(sizes, 2)) == groups


def test_one_block_is_in_memory_at_a_time(subject):
    seen = []
    collected(subject, lambda site: seen.append((site.layer, resident(subject))))
    assert seen
    assert all(blocks == [layer] for layer, blocks in seen)
    assert resident(subject) == []


def test_a_pass_that_fails_ends_the_others_and_leaves_the_model_as_it_was(subject):
    def fail(site):
        if site.layer == 1:
            raise ActivationError("Enough.")

    with pytest.raises(ActivationError, match="Enough"):
        collected(subject, fail)
    assert resident(subject) == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pass ")]
    assert not any(block._forward_pre_hooks for block in subject.blocks)
    plain = collected(shared())
    assert all(torch.equal(activations, plain[key]) for key, activations in collected(subject).items())


def test_progress_counts_every_prompt(subject):
    counted = []

    class Bar:
        def __init__(self, *_):
            pass

        def __enter__(self):
            return counted.append

        def __exit__(self, *_):
            pass

    collect(subject, SEQUENCES, READING, lambda *_: None, progress=Bar)
    assert sum(counted) == len(SEQUENCES)


def test_what_is_allowed_in_memory_decides_what_is_offloaded(tmp_path, monkeypatch):
    tiny_model("llama").save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    asked = []

    def loading(source, **options):
        asked.append(options.get("offload_folder"))
        return load(source, **options)

    monkeypatch.setattr("neurodial.model.load.load", loading)
    found = []
    for size in ("20KB", "1GB"):
        options = ModelOptions(device_map="auto", max_memory=[f"cpu={size}"], offload_folder=tmp_path / "scratch")
        found.append(len(offloaded_blocks(options.load(str(tmp_path / "model")))))
    assert found == [2, 0]
    assert asked == [str(tmp_path / "scratch")] * 2
