"""How answers are generated. Torch-free: the command line reads this too."""

from __future__ import annotations

from dataclasses import dataclass

from neurodial.errors import OptionError

BATCH_TOKENS = 16_384
"""Tokens of a batch at most, prompts and answers: what their keys and values take grows with them."""


@dataclass(frozen=True)
class Decoding:
    """How answers are generated.

    Attributes:
        max_new_tokens: the longest answer.
        temperature: 0 for greedy decoding, else that of sampling.
        top_p: keep the smallest set of tokens with this probability when sampling.
        seed: of the sampling; the same seed, prompts and batch size give the same answers.
        batch_size: rows of a batch at most; long ones are fewer, 16,384 tokens with their answers.
        system: a system message before every prompt.

    Example:
        >>> Decoding(max_new_tokens=32, temperature=0.7).seed
        0
    """

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    batch_size: int = 128
    system: str | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or self.batch_size < 1:
            raise OptionError(
                f"max_new_tokens is {self.max_new_tokens} and batch_size {self.batch_size}.", wanted="at least 1"
            )
        if not 0 <= self.temperature <= 10 or not 0 < self.top_p <= 1:
            raise OptionError(
                f"The temperature is {self.temperature} and top_p {self.top_p}.",
                wanted="a temperature from 0 to 10 and top_p above 0 and at most 1",
            )
