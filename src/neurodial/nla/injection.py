"""How a vector is put into a verbaliser's prompt: in place of one token's embedding, at a set length.

The place is the marker's token between two known neighbours, so that a prompt which was tokenised in another way is
refused and no other token is overwritten.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neurodial.errors import VerbaliserError
from neurodial.prompts.render import render


@dataclass(frozen=True)
class Injection:
    """Where and how a vector goes into the prompt.

    Attributes:
        char: the marker, as text.
        token: its id.
        left: id of the token before it.
        right: id of the token after it.
        scale: length that every vector gets.
        template: the user's message, with a place for the marker.
    """

    char: str
    token: int
    left: int
    right: int
    scale: float
    template: str

    @property
    def prompt(self) -> str:
        """The user's message with the marker in it."""
        return self.template.replace("{injection_char}", self.char)

    def check(self, tokenizer: Any, source: str) -> None:
        """Refuse a tokenizer that does not put the marker between its neighbours, before any weights are read.

        Raises:
            VerbaliserError: says what stands there.
        """
        self.place(render(tokenizer, [self.prompt])[0], tokenizer, source)

    def place(self, tokens: Sequence[int], tokenizer: Any, source: str) -> int:
        """Where the marker stands among the rendered prompt's tokens.

        Raises:
            VerbaliserError: it stands there not once, or between other tokens.
        """
        wanted = (self.left, self.token, self.right)
        found = [n for n, token in enumerate(tokens) if token == self.token]
        places = [n for n in found if 0 < n < len(tokens) - 1 and tuple(tokens[n - 1 : n + 2]) == wanted]
        if len(places) == 1:
            return places[0]
        near = [tokenizer.decode(list(tokens[max(0, n - 1) : n + 2])) for n in found]
        seen = f"in {', '.join(map(repr, near))}" if near else "nowhere"
        raise VerbaliserError(
            f"The marker {self.char!r} (token {self.token}) stands {seen} in the prompt of {source}.",
            wanted=f"once, between the tokens {self.left} and {self.right}, as its nla_meta.yaml says",
            fix="Tokenizer, chat template and nla_meta.yaml have to be those that came with the weights.",
        )

    def scaled(self, vectors: Float[Tensor, "vector hidden"]) -> Float[Tensor, "vector hidden"]:
        """The vectors at the length that the verbaliser was trained with, in float32.

        Raises:
            VerbaliserError: a vector is zero or not finite.
        """
        vectors = vectors.float()
        lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
        if not bool(torch.isfinite(lengths).all()) or bool((lengths == 0).any()):
            raise VerbaliserError("A vector is zero or not finite.", wanted="a direction that can be put into words")
        scaled: Tensor = vectors * (self.scale / lengths)
        return scaled
