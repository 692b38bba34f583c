"""What a trace explains: the text so far, the token whose logit is explained, and the token it is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from neurodial.errors import TargetError
from neurodial.model.subject import Subject
from neurodial.prompts.prompt import Prompt, prompt_text
from neurodial.prompts.render import Tokens, check_context


@dataclass(frozen=True)
class Question:
    """Why does the model give this logit, or prefer this token to that one?

    Attributes:
        tokens: the text so far.
        target: the token that may follow, whose logit is explained.
        foil: a token whose logit is subtracted, or None.

    Example:
        >>> Question((256, 72), target=105, foil=111).foil
        111

    Raises:
        TargetError: target and foil are the same token, or there is no text.
    """

    tokens: Tokens
    target: int
    foil: int | None = None

    def __post_init__(self) -> None:
        if not self.tokens:
            raise TargetError("The prompt has no tokens.", wanted="at least one token before the target")
        if self.target == self.foil:
            raise TargetError(
                f"Target and foil are the same token ({self.target}): their difference is 0 whatever the model does.",
                wanted="two different tokens",
                fix="Name another foil, or none to explain the target's logit alone.",
            )


def ask(
    subject: Subject,
    prompt: Prompt,
    target: str | int,
    foil: str | int | None = None,
    *,
    answer: str = "",
    raw: bool = False,
) -> Question:
    """A question in words.

    Args:
        subject: the model.
        prompt: a text or a chat, rendered with the model's chat template where it has one.
        target: the token to explain, as text with its leading space, or as an id.
        foil: the token to compare it with.
        answer: the beginning of the answer.
        raw: take the prompt as plain text, whatever the template.

    Raises:
        TargetError: a target is several tokens or not in the vocabulary, or target and foil are the same.
        ContextLengthError: the prompt does not fit the context.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> ask(tiny_subject(), "Hi", "a", "b", raw=True).tokens
        (256, 39, 72)
    """
    tokenizer = subject.tokenizer
    if raw:
        tokens = subject.encode(prompt_text(prompt))
    else:
        (tokens,) = subject.render([prompt])
    tokens = subject.check_tokens((*tokens, *pieces(tokenizer, answer)), "The prompt")
    check_context([len(tokens)], subject.context_length)
    return Question(tokens, one_token(tokenizer, target), None if foil is None else one_token(tokenizer, foil))


def one_token(tokenizer: Any, text: str | int) -> int:
    """The id of a target that is one token.

    Raises:
        TargetError: it is several tokens, none, or an id that the vocabulary lacks.
    """
    if isinstance(text, int):
        if not 0 <= text < len(tokenizer):
            raise TargetError(f"There is no token {text}.", wanted=f"an id from 0 to {len(tokenizer) - 1}")
        return text
    tokens = pieces(tokenizer, text)
    if len(tokens) == 1:
        if tokens[0] == tokenizer.unk_token_id:
            raise TargetError(f"The target {text!r} is not in the vocabulary.", wanted="a token that the model knows")
        return tokens[0]
    shown = " + ".join(repr(tokenizer.decode([token])) for token in tokens) or "nothing"
    raise TargetError(
        f"The target {text!r} is {len(tokens)} tokens: {shown}.",
        wanted="a single token",
        fix="Name its first piece, or put the first pieces into what the answer begins with and name the one after. "
        "A leading space often makes a word one token.",
    )


def pieces(tokenizer: Any, text: str) -> Tokens:
    """The tokens of a text that continues another: without special tokens around it."""
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else ()


def labels(tokenizer: Any, tokens: Sequence[int]) -> list[str]:
    """Each token as text to show."""
    return [tokenizer.decode([token]) for token in tokens]
