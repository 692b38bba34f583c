"""The texts that neurons are watched on: both sides of a behaviour, and others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from neurodial.activations.batches import common_prefix
from neurodial.errors import PromptError
from neurodial.model.subject import Subject
from neurodial.prompts.pairs import PairSet
from neurodial.prompts.prompt import Prompt
from neurodial.prompts.render import Tokens, check_context

Side = Literal["positive", "negative", "other"]
SIDES: tuple[Side, ...] = ("positive", "negative", "other")


@dataclass(frozen=True)
class Text:
    """A text as the model reads it.

    Attributes:
        tokens: token ids.
        side: of the behaviour; other for texts of neither.
        first: the first token of what the user said, after the template.
        last: the token after it.
        is_harmful: whether its words are left out of what is written.
    """

    tokens: Tokens
    side: Side
    first: int
    last: int
    is_harmful: bool = False


@dataclass(frozen=True)
class Corpus:
    """Texts to watch neurons on.

    Attributes:
        texts: all of them.
        name: where they are from, in words.

    Example:
        >>> len(Corpus((Text((1, 2), "other", 0, 2),), "two tokens"))
        1
    """

    texts: tuple[Text, ...]
    name: str

    def __len__(self) -> int:
        return len(self.texts)

    def count(self, side: Side) -> int:
        """How many texts are of a side."""
        return sum(text.side == side for text in self.texts)

    @property
    def tokens(self) -> int:
        """Tokens of all texts."""
        return sum(len(text.tokens) for text in self.texts)


def corpus_of(subject: Subject, pairs: PairSet | None, others: Sequence[Prompt] = (), *, name: str = "") -> Corpus:
    """The texts of a behaviour's splits, and others beside them.

    Args:
        subject: whose template and tokenizer are used.
        pairs: the behaviour; None for none.
        others: texts of neither side.
        name: where the others are from.

    Raises:
        PromptError: there are no texts at all.
        ContextLengthError: a text is longer than the context.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> corpus_of(tiny_subject(), None, ["one", "two"], name="two words").count("other")
        2
    """
    prompts: list[tuple[Prompt, Side, bool]] = []
    for split in ("discovery", "development", "test"):
        contrast = None if pairs is None else pairs.get(split)
        if pairs is None or contrast is None:
            continue
        prompts += [(example.prompt, "positive", pairs.behaviour.is_harmful) for example in contrast.positive]
        prompts += [(example.prompt, "negative", False) for example in contrast.negative]
    prompts += [(prompt, "other", False) for prompt in others]
    if not prompts:
        raise PromptError(
            "There are no texts to watch the circuit on.",
            wanted="a behaviour (--behaviour), or a file with texts (--texts)",
        )
    rendered = subject.render([prompt for prompt, _, _ in prompts])
    check_context([len(tokens) for tokens in rendered], subject.context_length)
    before = common_prefix(rendered) if len(rendered) > 1 else 0
    after = subject.post_instruction_length if subject.has_chat else 0
    texts = []
    for tokens, (_, side, is_harmful) in zip(rendered, prompts, strict=True):
        last = max(1, len(tokens) - after)
        texts.append(Text(tokens, side, min(before, last - 1), last, is_harmful))
    parts = [] if pairs is None else [f"all splits of {pairs.behaviour.name}"]
    return Corpus(tuple(texts), ", ".join([*parts, *([name] if others else [])]))
