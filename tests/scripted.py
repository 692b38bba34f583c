"""A tiny model that says what a test wants it to say, whatever it is asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from neurodial.model.subject import Subject
from neurodial.model.tiny import tiny_model, tiny_tokenizer


@contextmanager
def says(subject: Subject, tokens: Sequence[int], end: int = 257) -> Iterator[None]:
    """Inside the block every answer is these tokens and then the end token.

    The script starts anew whenever a pass of more than one token comes, which is a prompt.
    """
    script = [*tokens, end]
    place = 0

    def look(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal place
        ids = kwargs.get("input_ids", args[0] if args else None)
        place = 0 if ids.shape[1] > 1 else place + 1

    def speak(module: Any, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        forced = torch.full_like(output, -50.0)
        forced[..., script[min(place, len(script) - 1)]] = 50.0
        return forced

    handles = [
        subject.model.register_forward_pre_hook(look, with_kwargs=True),
        subject.model.get_output_embeddings().register_forward_hook(speak),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def speaking(special: Sequence[str] = (), *, template: str | None = None, plain: Sequence[str] = ()) -> Subject:
    """A tiny model with further tokens, special and plain ones, and perhaps another chat template."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": list(special)}) if special else None
    tokenizer.add_tokens(list(plain)) if plain else None
    if template is not None:
        tokenizer.chat_template = template
    return Subject.of(tiny_model("llama", vocab_size=max(260, len(tokenizer))), tokenizer, label="tiny-llama")


def ids(subject: Subject, text: str) -> list[int]:
    """The tokens of a text, special ones in it included."""
    return list(subject.tokenizer(text, add_special_tokens=False)["input_ids"])
