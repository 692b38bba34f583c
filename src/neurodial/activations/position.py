"""Which token of a prompt is read. Torch-free: the command line reads these too."""

from __future__ import annotations

from dataclasses import dataclass

from neurodial.errors import ActivationError, OptionError
from neurodial.options import SpelledForm, Spelling


@dataclass(frozen=True)
class Last:
    """The last token of the rendered prompt, as in the paper.

    Example:
        >>> Last().read(10)
        [9]
    """

    def read(self, length: int) -> list[int]:
        """The indices to read of a prompt of `length` tokens."""
        return [length - 1]


@dataclass(frozen=True)
class PostInstruction:
    """The mean over the tokens that the chat template puts after the user's text.

    Attributes:
        length: how many they are; None until the tokenizer is known.

    Example:
        >>> PostInstruction(3).read(10)
        [7, 8, 9]
    """

    length: int | None = None

    def read(self, length: int) -> list[int]:
        """The indices to read of a prompt of `length` tokens."""
        if self.length is None:
            raise OptionError("The number of tokens after the instruction is not known yet.")
        return list(range(max(0, length - self.length), length))


@dataclass(frozen=True)
class Index:
    """One index into the rendered prompt; negative ones count from its end.

    Example:
        >>> Index(-2).read(10)
        [8]

    Raises:
        ActivationError: a prompt is too short to have it.
    """

    value: int

    def read(self, length: int) -> list[int]:
        """The index to read of a prompt of `length` tokens."""
        if not -length <= self.value < length:
            raise ActivationError(
                f"A prompt of {length} tokens has no token {self.value}.",
                wanted=f"an index from {-length} to {length - 1}",
            )
        return [self.value % length]


Position = Last | PostInstruction | Index


def parse_position(text: str) -> Position:
    """A position as the user writes it: `last`, `post-instruction`, or an integer such as `-2` (or `index:-2`).

    Example:
        >>> parse_position("-2")
        Index(value=-2)

    Raises:
        OptionError: it is none of these.
    """
    if text == "last":
        return Last()
    if text == "post-instruction":
        return PostInstruction()
    try:
        return Index(int(text.removeprefix("index:")))
    except ValueError:
        raise OptionError(f"The position is {text!r}.", wanted="last, post-instruction or an integer") from None


def show_position(position: Position) -> str:
    """A position as users type it.

    Example:
        >>> show_position(Index(-2))
        'index:-2'
    """
    if isinstance(position, Index):
        return f"index:{position.value}"
    return "last" if isinstance(position, Last) else "post-instruction"


POSITION_SPELLING = Spelling(
    parse_position,
    show_position,
    "POSITION",
    lambda: [
        SpelledForm("last", "the last token, as in the paper"),
        SpelledForm("post-instruction", "the mean over what the template puts after the instruction"),
        SpelledForm("index", "one index; negative ones count from the end", int, -2),
    ],
)
"""How a position is written among a method's options."""
