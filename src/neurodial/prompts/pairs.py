"""Contrasts of prompts, and sets of them in splits, as frozen values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from neurodial.errors import OverlapError, PromptError
from neurodial.prompts.prompt import Example, Prompt, as_messages, prompt_digest, prompt_key, prompt_words, request
from neurodial.provenance import canonical_json, sha256

Direction = Literal["remove", "induce"]
"""Whether a behaviour is to be removed or induced."""

Split = Literal["discovery", "development", "test"]
SPLITS: tuple[Split, ...] = ("discovery", "development", "test")
_SHARES = (0.4, 0.2, 0.4)
Item = TypeVar("Item")


@dataclass(frozen=True)
class Contrast:
    """Prompts that show a behaviour and prompts that show its opposite. They need not be paired.

    Example:
        >>> contrast = Contrast.of(["How do I pick a lock?"], ["How do I paint a door?"])
        >>> len(contrast.positive), len(contrast.negative)
        (1, 1)

    Raises:
        PromptError: a side is empty, a prompt is blank or is listed twice.
        OverlapError: a prompt is on both sides.
    """

    positive: tuple[Example, ...]
    negative: tuple[Example, ...]

    def __post_init__(self) -> None:
        for side, examples in (("positive", self.positive), ("negative", self.negative)):
            _check_side(side, examples)
        both = {prompt_key(e.prompt) for e in self.positive} & {prompt_key(e.prompt) for e in self.negative}
        if both:
            raise OverlapError(
                f"{_prompts(len(both))} on both sides, such as {_quote(min(both))}.",
                wanted="positive and negative prompts that differ",
                fix="Take it out of one side.",
            )

    @classmethod
    def of(cls, positive: Iterable[Prompt | Example], negative: Iterable[Prompt | Example]) -> Contrast:
        """A contrast from two lists of texts, chats or examples."""
        return cls(tuple(map(_example, positive)), tuple(map(_example, negative)))

    def about(self, direction: Direction) -> tuple[Example, ...]:
        """The prompts that a change is about: those that show the behaviour to remove it, the others to induce it.

        Example:
            >>> Contrast.of(["a"], ["b"]).about("induce")[0].prompt
            'b'
        """
        return self.positive if direction == "remove" else self.negative

    def swapped(self) -> Contrast:
        """The same prompts with the sides exchanged."""
        return Contrast(self.negative, self.positive)

    def first(self, count: int) -> Contrast:
        """At most `count` prompts of each side.

        Example:
            >>> len(Contrast.of(["a", "b", "c"], ["x", "y"]).first(2))
            4
        """
        return Contrast(self.positive[:count], self.negative[:count])

    def __len__(self) -> int:
        return len(self.positive) + len(self.negative)

    @property
    def record(self) -> dict[str, object]:
        """What a result keeps of its prompts: their hash, their numbers, and a short hash of each."""
        return {
            "hash": self.hash,
            "positive": len(self.positive),
            "negative": len(self.negative),
            "roles": True,  # the digests cover roles and texts; in older files, the words alone
            "digests": list(self.digests),
        }

    @property
    def digests(self) -> tuple[str, ...]:
        """A short hash of every prompt, in order of the hashes."""
        return tuple(sorted(prompt_digest(example.prompt) for example in (*self.positive, *self.negative)))

    @property
    def hash(self) -> str:
        """SHA-256 of the content; the order of the prompts does not matter."""
        sides = [sorted(canonical_json(_plain(e)) for e in side) for side in (self.positive, self.negative)]
        return sha256(canonical_json(sides))


@dataclass(frozen=True)
class Behaviour:
    """What a set of pairs is about, and how its behaviour is recognised.

    Attributes:
        name: the name to ask for it by.
        title: one line.
        description: a few lines.
        margin: `openers` where the behaviour shows in an answer's first words, `answer` where only the whole
            answer tells (language, formality, length).
        detector: name of the detector that says whether an answer shows the behaviour.
        rate_on: the side whose prompts the behaviour's rate is measured on.
        licence: the prompts' licence.
        is_harmful: whether answers that lack the behaviour may be harmful: reports leave them out unless asked for.
        answers: an answer that shows the behaviour to any prompt, and one that does not, for prompts without any.
        system_prompts: system prompts that ask for the opposite of the behaviour, and for the behaviour.

    Example:
        >>> Behaviour("lists", detector="regex:^- ").rate_on
        'positive'
    """

    name: str
    title: str = ""
    description: str = ""
    margin: Literal["openers", "answer"] = "openers"
    detector: str = ""
    rate_on: Literal["positive", "negative"] = "positive"
    licence: str = ""
    is_harmful: bool = False
    answers: tuple[str, str] | None = None
    system_prompts: tuple[str, str] | None = None

    def sides(self, contrast: Contrast) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
        """The prompts that the behaviour's rate is measured on, and those of the other side."""
        both = (contrast.positive, contrast.negative)
        return both if self.rate_on == "positive" else both[::-1]


@dataclass(frozen=True)
class PairSet:
    """Contrastive prompts in three splits: to discover with, to tune on, to report on.

    A split may be None where the user has too few prompts for it; asking for a missing one is an error.

    Attributes:
        behaviour: what the set is about.
        splits: discovery, development and test.
        notes: what was read differently from how the file has it, or not read; circuits and reports repeat them.

    Example:
        >>> pairs = PairSet.of([f"Harm {n}?" for n in range(10)], [f"Help {n}?" for n in range(10)])
        >>> len(pairs.discovery.positive), len(pairs.development.positive), len(pairs.test.positive)
        (4, 2, 4)

    Raises:
        OverlapError: a prompt is in two splits.
    """

    behaviour: Behaviour
    splits: tuple[Contrast | None, Contrast | None, Contrast | None] = field(repr=False)
    notes: tuple[str, ...] = field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        refuse_overlap(
            {
                name: [example.prompt for example in (*contrast.positive, *contrast.negative)]
                for name, contrast in zip(SPLITS, self.splits, strict=True)
                if contrast is not None
            }
        )

    @classmethod
    def of(
        cls, positive: Sequence[Prompt | Example], negative: Sequence[Prompt | Example], *, name: str = "custom"
    ) -> PairSet:
        """Split two lists into 40 % discovery, 20 % development and 40 % test.

        The split of a prompt depends on its own hash alone, so it does not change with the order.
        """
        whole = Contrast.of(positive, negative)  # refuses prompts that clash, before they are split
        sides = [deal(side, lambda example: prompt_words(example.prompt)) for side in (whole.positive, whole.negative)]
        contrasts = [_contrast_or_none(tuple(first), tuple(second)) for first, second in zip(*sides, strict=True)]
        return cls(Behaviour(name), (contrasts[0], contrasts[1], contrasts[2]))

    @classmethod
    def read(cls, source: str) -> PairSet:
        """A shipped behaviour by name, or a file of contrasted prompts by path."""
        from neurodial.prompts.behaviours import read_pairs

        return read_pairs(source)

    def first(self, count: int) -> PairSet:
        """The set with at most `count` prompts of each side to find circuits with; those to report on are the same.

        Example:
            >>> pairs = PairSet.of([f"Harm {n}?" for n in range(10)], [f"Help {n}?" for n in range(10)])
            >>> len(pairs.first(3).discovery), len(pairs.first(3).test)
            (6, 8)
        """
        discovery, development, test = self.splits
        shortened = [None if contrast is None else contrast.first(count) for contrast in (discovery, development)]
        return PairSet(self.behaviour, (shortened[0], shortened[1], test), self.notes)

    @property
    def discovery(self) -> Contrast:
        """The prompts to find a circuit with."""
        return self.split("discovery")

    @property
    def development(self) -> Contrast:
        """The prompts to tune on."""
        return self.split("development")

    @property
    def test(self) -> Contrast:
        """The prompts to report on; nothing is ever tuned on them."""
        return self.split("test")

    def get(self, name: Split) -> Contrast | None:
        """One split by its name; None where the set has no prompts for it."""
        return self.splits[SPLITS.index(name)]

    def split(self, name: Split) -> Contrast:
        """One split by its name.

        Raises:
            PromptError: the set has no prompts for this split.
        """
        contrast = self.get(name)
        if contrast is None:
            raise PromptError(
                f"The set {self.behaviour.name!r} has no {name} prompts on both sides.",
                wanted=f"at least one positive and one negative prompt with split {name!r}",
                fix="Add some, or leave the split out everywhere: then they are dealt 40 / 20 / 40.",
            )
        return contrast

    def measured(self, name: Split) -> tuple[Example, ...]:
        """The prompts of a split that the behaviour's rate is measured on."""
        return self.behaviour.sides(self.split(name))[0]

    @property
    def hash(self) -> str:
        """SHA-256 of the content of all splits."""
        return sha256(canonical_json([None if split is None else split.hash for split in self.splits]))


def refuse_overlap(lists: dict[str, list[Prompt]]) -> None:
    """Refuse prompts that are in two of the named lists.

    Letter case and white space are folded first, so a copy with another capital is found too; so is the same
    request with another answer after it.

    Raises:
        OverlapError: names the lists and a prompt that is in both.
    """
    keys = {name: {prompt_key(request(prompt)) for prompt in prompts} for name, prompts in lists.items()}
    names = list(keys)
    for position, first in enumerate(names):
        for second in names[position + 1 :]:
            shared = keys[first] & keys[second]
            if shared:
                raise OverlapError(
                    f"{_prompts(len(shared))} in both {first} and {second}, such as {_quote(min(shared))}.",
                    wanted="splits without a common prompt, or a result says nothing about new prompts",
                    fix="Take it out of one of them.",
                )


FEW = 20
"""Prompts of a side below which a circuit depends on each of them."""


def few_prompts(contrast: Contrast) -> str | None:
    """What to expect of a contrast with few prompts, in words; None where there are enough.

    Example:
        >>> few_prompts(Contrast.of(["a", "b"], ["c", "d"]))[:32]
        '2 prompts a side to discover wit'
    """
    fewest = min(len(contrast.positive), len(contrast.negative))
    if fewest >= FEW:
        return None
    prompts = "1 prompt" if fewest == 1 else f"{fewest} prompts"
    return (
        f"{prompts} a side to discover with is few: expect an unstable circuit, in which other prompts would find "
        "other neurons. 50 are better."
    )


def deal(items: Iterable[Item], key: Callable[[Item], str]) -> tuple[list[Item], list[Item], list[Item]]:
    """Items in three parts, 40 / 20 / 40 %, by the hash of each item's key: their order does not matter.

    Example:
        >>> [len(split) for split in deal("abcdefghij", str)]
        [4, 2, 4]
    """
    ordered = sorted(items, key=lambda item: sha256(key(item)))
    first = round(len(ordered) * _SHARES[0])
    second = first + round(len(ordered) * _SHARES[1])
    return ordered[:first], ordered[first:second], ordered[second:]


def _example(item: Prompt | Example) -> Example:
    return item if isinstance(item, Example) else Example(item)


def _quote(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "…")


def _prompts(count: int) -> str:
    return "1 prompt is" if count == 1 else f"{count} prompts are"


def _plain(example: Example) -> list[object]:
    return [as_messages(example.prompt), example.category, example.positive_answer, example.negative_answer]


def _check_side(side: str, examples: tuple[Example, ...]) -> None:
    if not examples:
        raise PromptError(
            f"The {side} side has no prompts.",
            wanted="prompts that show the behaviour and prompts that show its opposite",
            fix=f"Add at least one {side} prompt; 50 or more on each side give stable circuits.",
        )
    words = [prompt_words(example.prompt) for example in examples]
    if "" in words:
        raise PromptError(f"Prompt {words.index('') + 1} of the {side} side is blank.", fix="Take it out.")
    keys = [prompt_key(example.prompt) for example in examples]
    text, count = Counter(keys).most_common(1)[0]
    if count > 1:
        raise PromptError(
            f"{_quote(text)} is listed {count} times on the {side} side.",
            wanted="each prompt once: a copy would count twice",
            fix="Take the copies out.",
        )


def _contrast_or_none(positive: tuple[Example, ...], negative: tuple[Example, ...]) -> Contrast | None:
    return Contrast(positive, negative) if positive and negative else None
