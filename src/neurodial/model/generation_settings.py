"""Of a checkpoint's generation settings only those that end an answer are used.

Greedy means the likeliest token. A repetition penalty, suppressed or forced tokens, guidance and the like, which
transformers takes from the checkpoint in silence, are switched off inside `plain_generation`, and named in the record.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_SAMPLING = frozenset({
    "do_sample", "temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "max_length",
    "max_new_tokens",
})  # fmt: skip
"""Set by the options of every run."""
_HARMLESS = frozenset({
    "eos_token_id", "stop_strings", "bos_token_id", "pad_token_id", "decoder_start_token_id", "transformers_version",
    "_from_model_config", "use_cache", "output_attentions", "output_hidden_states", "return_dict_in_generate",
    "output_scores", "output_logits", "cache_implementation", "cache_config", "return_legacy_cache",
    "remove_invalid_values", "generation_kwargs", "is_assistant",
})  # fmt: skip
"""They change no token of a greedy answer, or only end it."""


_KEPT = ("bos_token_id", "eos_token_id", "pad_token_id", "use_cache", "cache_implementation", "cache_config")
"""Kept from the checkpoint: its end tokens, and the kind of cache."""


def settings_in_force(model: Any) -> dict[str, Any]:
    """The checkpoint's settings that act on a greedy answer, and those that are switched off; may be empty."""
    own = getattr(model, "generation_config", None)
    if own is None:
        return {}
    given = own.to_diff_dict()
    neutral = _neutral_values()
    off = {
        name: value
        for name, value in given.items()
        if name not in _SAMPLING | _HARMLESS and value != neutral.get(name) and value not in (None, False, [])
    }
    in_force = {"stop_strings": list(stop_strings(model))} if stop_strings(model) else {}
    settings = {"in_force": in_force, "switched_off": off}
    return {name: value for name, value in settings.items() if value}


def stop_strings(model: Any) -> tuple[str, ...]:
    """Texts that end an answer, from the checkpoint's generation settings."""
    configured = getattr(getattr(model, "generation_config", None), "stop_strings", None) or ()
    return (configured,) if isinstance(configured, str) else tuple(configured)


@contextmanager
def plain_generation(model: Any) -> Iterator[None]:
    """Inside the block, replace a model's generation settings by neutral ones, except those that end an answer."""
    from transformers import GenerationConfig

    own = model.generation_config
    model.generation_config = GenerationConfig(
        **{name: getattr(own, name) for name in _KEPT if getattr(own, name, None) is not None}
    )
    try:
        yield
    finally:
        model.generation_config = own


def _neutral_values() -> dict[str, Any]:
    return {
        "repetition_penalty": 1.0, "encoder_repetition_penalty": 1.0, "no_repeat_ngram_size": 0,
        "encoder_no_repeat_ngram_size": 0, "guidance_scale": 1, "num_beams": 1, "num_beam_groups": 1,
        "length_penalty": 1.0, "diversity_penalty": 0.0, "num_return_sequences": 1, "min_length": 0,
        "renormalize_logits": False, "early_stopping": False, "penalty_alpha": None,
    }  # fmt: skip
