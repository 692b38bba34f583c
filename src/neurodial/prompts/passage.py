"""A prompt with an answer to it, as tokens: what teacher-forced measures read. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass

from neurodial.errors import PromptError
from neurodial.prompts.render import Tokens


@dataclass(frozen=True)
class Passage:
    """A rendered prompt followed by an answer, and how many of the model's predictions along it are scored.

    Attributes:
        tokens: the prompt's tokens, then the answer's.
        prompt_length: number of the prompt's tokens.
        scored: number of predictions scored: those of the answer's tokens, and of the end where the model ended it.

    Raises:
        PromptError: nothing is scored, or more than there is.

    Example:
        >>> Passage((5, 6, 7, 8), prompt_length=2, scored=2).places
        range(1, 3)
    """

    tokens: Tokens
    prompt_length: int
    scored: int

    def __post_init__(self) -> None:
        if self.prompt_length < 1 or self.scored < 1 or self.places.stop > len(self.tokens):
            raise PromptError(
                f"A passage of {len(self.tokens)} tokens has a prompt of {self.prompt_length} and {self.scored} scored "
                "predictions.",
                wanted="a prompt, and an answer of at least one token",
            )

    @property
    def places(self) -> range:
        """The places whose predictions are scored: the last token of the prompt and on."""
        return range(self.prompt_length - 1, self.prompt_length - 1 + self.scored)
