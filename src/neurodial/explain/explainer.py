"""Who puts neurons into words and judges them: a model behind an endpoint, or one that is loaded here."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from neurodial.evaluation.detectors.endpoint import Endpoint, ask_all
from neurodial.generation.decoding import Decoding
from neurodial.generation.generate import Answer, generate, held_answers, stop_tokens
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent

Parsed = TypeVar("Parsed")


class ExplainerQuestion(NamedTuple):
    """A question.

    Attributes:
        text: the user's message.
        values: what each part of a list that is asked for may be; empty for an answer in words.
        length: how many parts the list has.
    """

    text: str
    values: tuple[str, ...] = ()
    length: int = 0


class Explainer(ABC):
    """Answers questions about neurons."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Whose words they are."""

    @abstractmethod
    def answers(
        self, asked: Sequence[ExplainerQuestion], parse: Callable[[str], Parsed | None], *, progress: Progress = silent
    ) -> list[Parsed | str]:
        """The parsed answer to every question; where none could be parsed, what went wrong, as text."""


@dataclass(frozen=True)
class ServedExplainer(Explainer):
    """A model behind an OpenAI-compatible endpoint; the texts go there as they are.

    Attributes:
        endpoint: address and name.
    """

    endpoint: Endpoint

    @property
    def name(self) -> str:
        """The model's name at the endpoint."""
        return self.endpoint.model

    def answers(
        self, asked: Sequence[ExplainerQuestion], parse: Callable[[str], Parsed | None], *, progress: Progress = silent
    ) -> list[Parsed | str]:
        """Patiently, several at once."""
        del progress
        return ask_all(self.endpoint, [[{"role": "user", "content": each.text}] for each in asked], parse)


@dataclass(frozen=True, eq=False)
class LocalExplainer(Explainer):
    """A model that is loaded here; nothing leaves the machine.

    A list that is asked for is given value by value, each time the likeliest of those that are allowed: a small model
    may know no JSON, and what is scored are the words.

    Attributes:
        subject: the model; it may be the one that is explained.
        longest: tokens of an answer in words.
    """

    subject: Subject
    longest: int = 64

    @property
    def name(self) -> str:
        """The model's label."""
        return self.subject.label

    def answers(
        self, asked: Sequence[ExplainerQuestion], parse: Callable[[str], Parsed | None], *, progress: Progress = silent
    ) -> list[Parsed | str]:
        """Greedily; questions that are too long for the model are not asked."""
        forms = [ListForm.of(self.subject, each) if each.values else None for each in asked]
        longest = max((form.longest for form in forms if form is not None), default=self.longest)
        decoding = Decoding(max_new_tokens=max(longest, self.longest))
        room = (self.subject.context_length or math.inf) - decoding.max_new_tokens
        lengths = [len(tokens) for tokens in self.subject.render([each.text for each in asked])]
        found: list[Parsed | str] = [f"a question of {length} tokens is too long for the model" for length in lengths]
        fitting = [number for number, length in enumerate(lengths) if length <= room]
        spoken = [number for number in fitting if forms[number] is None]
        listed = {number: form for number in fitting if (form := forms[number]) is not None}
        answers = dict(zip(spoken, self._spoken([asked[n].text for n in spoken], progress), strict=True))
        texts = [asked[n].text for n in listed]
        answers |= zip(listed, self._listed(texts, list(listed.values()), decoding, progress), strict=True)
        for number, answer in answers.items():
            value = parse(answer.text)
            found[number] = f"answer not understood: {answer.text[:80]!r}" if value is None else value
        return found

    def _spoken(self, texts: Sequence[str], progress: Progress) -> list[Answer]:
        return generate(self.subject, texts, decoding=Decoding(max_new_tokens=self.longest), progress=progress)

    def _listed(
        self, texts: Sequence[str], forms: Sequence[ListForm], decoding: Decoding, progress: Progress
    ) -> list[Answer]:
        ends = sorted(stop_tokens(self.subject))

        def allowed(row: int, tokens: Sequence[int]) -> Sequence[int]:
            return forms[row].next(tokens) or ends

        return held_answers(self.subject, texts, allowed, decoding, progress=progress)


@dataclass(frozen=True)
class ListForm:
    """A JSON list of so many values, as tokens.

    Attributes:
        values: the tokens of each value that is allowed.
        count: how many there are.
        marks: the tokens of opening bracket, comma and closing bracket.
    """

    values: tuple[tuple[int, ...], ...]
    count: int
    marks: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]

    @staticmethod
    def of(subject: Subject, asked: ExplainerQuestion) -> ListForm:
        """The form that a question asks for, in a model's tokens."""
        values = tuple(tuple(subject.encode(value, special=False)) for value in asked.values)
        opened, comma, closed = (tuple(subject.encode(mark, special=False)) for mark in "[,]")
        return ListForm(values, asked.length, (opened, comma, closed))

    @property
    def longest(self) -> int:
        """Tokens of the longest list, and one for its end."""
        return sum(map(len, self.marks)) + self.count * (max(map(len, self.values)) + len(self.marks[1])) + 1

    def next(self, tokens: Sequence[int]) -> list[int]:
        """The tokens that may follow some; none after the end.

        Example:
            >>> form = ListForm(((1,), (1, 0)), 2, ((7,), (8,), (9,)))
            >>> form.next([]), form.next([7]), form.next([7, 1]), form.next([7, 1, 8, 1, 0]), form.next([7, 1, 8, 1, 9])
            ([7], [1], [0, 8], [9], [])
        """
        opened, comma, closed = self.marks
        rest = list(tokens)
        if len(rest) < len(opened):
            return [opened[len(rest)]]
        del rest[: len(opened)]
        for number in range(self.count):
            mark = closed if number == self.count - 1 else comma
            whole = [value + mark for value in self.values]
            done = next((each for each in whole if tuple(rest[: len(each)]) == each), None)
            if done is None:
                return sorted({each[len(rest)] for each in whole if tuple(rest) == each[: len(rest)]})
            del rest[: len(done)]
        return []
