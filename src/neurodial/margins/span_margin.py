"""A margin for behaviours that show anywhere in the answer: tails, sign-offs, late refusals, lists, closing questions.

1. The model answers the prompts; `find_spans.py` finds the spans that only answers with the behaviour hold.
2. Places: where a span begins in the model's own answer to the prompt, up to 4 of them. In an answer without any, the
   one place where the model finds it likeliest that one begins, the end of the answer included.
3. Others: the tokens that the model finds likeliest at that place and that begin no span. Where prompts come in pairs
   they are read under the prompt without the behaviour, with the same text of the answer before the place.
4. The margin is the mean over the places of `log p(span) - log p(others)`, given the prompt and the text before.

It falls where the model goes on as it does without the behaviour, and not where it writes something unlikely instead.
An opening is the special case of a span at the first place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from neurodial.activations.batches import TOKEN_BUDGET, batches
from neurodial.activations.collect import pad_id
from neurodial.errors import MarginError
from neurodial.generation.decoding import Decoding
from neurodial.generation.generate import Answer, generate
from neurodial.generation.running_engine import engine_of, reads_more
from neurodial.generation.states import Rows, row_states
from neurodial.margins.find_spans import Spans
from neurodial.margins.margin import Margin
from neurodial.model.head import logits, to_float64
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.pairs import Contrast
from neurodial.prompts.prompt import Example, Prompt, prompt_key, prompt_text
from neurodial.prompts.render import Tokens, check_context

PLACES = 4
"""Places of an answer at which spans are read, at most."""

OTHERS = 8
"""Other continuations of each place."""

_CELLS = 512  # places whose distributions over the vocabulary are held at once


class SpanPlace(NamedTuple):
    """Where a span may begin: after how many tokens of the answer, which span, and the likeliest other next tokens."""

    start: int
    span: Tokens
    others: Tokens


class ReadAnswer(NamedTuple):
    """The model's own answer to a prompt, and the places in it at which spans are read."""

    tokens: Tokens
    places: tuple[SpanPlace, ...]


@dataclass(frozen=True)
class SpanMargin(Margin):
    """How much likelier spans of the behaviour are than what the model would say otherwise, where they begin.

    Attributes:
        spans: what answers with the behaviour hold.
        answers: for each prompt, by its key, the model's own answer and the places that are read.
        length: the longest answer in tokens.

    Example:
        >>> read = ReadAnswer((72, 105, 33), (SpanPlace(2, (33, 40), (46,)),))
        >>> margin = SpanMargin(Spans(((33, 40),), ("!(",), 1.0, 0.0), {"hello": read})
        >>> margin.rows(None, (1, 2), Example("Hello"))
        ((1, 2, 72, 105, 33),)
    """

    spans: Spans
    answers: Mapping[str, ReadAnswer]
    length: int = 48

    @cached_property
    def _places_of_row(self) -> dict[Tokens, tuple[SpanPlace, ...]]:
        """The places of every row that was asked for: a value is computed from the rows alone."""
        return {}

    def rows(self, subject: Subject | None, prompt: Tokens, example: Example) -> tuple[Tokens, ...]:
        """The prompt with its answer up to the last span, the last token of that left out."""
        del subject
        read = self._read(example)
        last = read.places[-1]
        row = (*prompt, *read.tokens[: last.start], *last.span[:-1])
        self._places_of_row[row] = read.places
        return (row,)

    def value(
        self, subject: Subject, rows: Sequence[Tokens], hidden: Sequence[Float[Tensor, "_ hidden"]], start: int
    ) -> Float[Tensor, ""]:
        """The mean over the places."""
        places = self._places_of_row[rows[0]]
        cells = [start - 1 + place.start + step for place in places for step in range(len(place.span))]
        table = to_float64(logits(subject, hidden[0][cells])).log_softmax(dim=-1)
        odds, first = [], 0
        for place in places:
            spoken = torch.stack([table[first + step, token] for step, token in enumerate(place.span)]).sum()
            odds.append(spoken - table[first, list(place.others)].logsumexp(dim=0))
            first += len(place.span)
        return torch.stack(odds).mean()

    def extended(
        self, subject: Subject, contrasts: Iterable[Contrast], *, system: str | None = None, progress: Progress = silent
    ) -> SpanMargin:
        """The same with the prompts of more contrasts, such as a test split. Call it outside of steering."""
        contrasts = list(contrasts)
        prompts = [example.prompt for one in contrasts for example in (*one.positive, *one.negative)]
        decoding = Decoding(max_new_tokens=self.length, system=system)
        answers = generate(subject, prompts, decoding=decoding, progress=progress)
        return self.reading(subject, contrasts, answers, system=system)

    def reading(
        self,
        subject: Subject,
        contrasts: Iterable[Contrast],
        answers: Iterable[Answer],
        *,
        system: str | None = None,
    ) -> SpanMargin:
        """The same with places in the model's own answers to the prompts of some contrasts.

        Args:
            subject: the model, unsteered.
            contrasts: prompts on both sides.
            answers: the answers to all of them.
            system: a system message before every prompt.
        """
        answer_of = {prompt_key(answer.prompt): answer for answer in answers}
        without: dict[str, Prompt] = {}
        for contrast in contrasts:
            there = {prompt_key(example.prompt) for example in contrast.negative}
            for example in (*contrast.positive, *contrast.negative):
                other = example.counterpart
                is_paired = other is not None and prompt_key(other) in there
                without[prompt_key(example.prompt)] = other if is_paired and other is not None else example.prompt
        read = _Reading(subject, self.spans, system).places({key: answer_of[key] for key in without}, without)
        return replace(self, answers={**self.answers, **read})

    def _read(self, example: Example) -> ReadAnswer:
        read = self.answers.get(prompt_key(example.prompt))
        if read is None:
            raise MarginError(
                f"The prompt {prompt_text(example.prompt)!r} has no answer of the model's own.",
                wanted="prompts of the contrasts that the margin was found with",
                fix="Extend it with their contrast (margin.extended), or search for it again.",
            )
        return read


@dataclass(frozen=True)
class _Reading:
    """Where spans are read in the model's own answers, and what else it might say there."""

    subject: Subject
    spans: Spans
    system: str | None

    def places(self, answers: Mapping[str, Answer], without: Mapping[str, Prompt]) -> dict[str, ReadAnswer]:
        """The places of each answer, by the prompt's key; `without`: its prompt without the behaviour."""
        held = {key: held_places(self.spans, answer.tokens) for key, answer in answers.items()}
        lacking = [key for key in answers if not held[key]]
        likeliest = self._read({key: (answers[key].prompt, answers[key], _ends(answers[key])) for key in lacking})
        for key in lacking:
            held[key] = [max(likeliest[key], key=lambda place_read: place_read[0])[1]]
        asked = {key: (without[key], answer, [place for place, _ in held[key]]) for key, answer in answers.items()}
        others = self._read(asked)
        return {
            key: ReadAnswer(
                answer.tokens,
                tuple(
                    SpanPlace(start, span, other)
                    for (start, span), (_, _, other) in zip(held[key], others[key], strict=True)
                ),
            )
            for key, answer in answers.items()
        }

    @torch.no_grad()
    def _read(
        self, asked: Mapping[str, tuple[Prompt, Answer, Sequence[int]]]
    ) -> dict[str, list[tuple[float, tuple[int, Tokens], Tokens]]]:
        """At each place of each answer: how likely a span begins, where and which, and the likeliest other tokens."""
        if engine_of(self.subject) is not None:
            raise reads_more(SpanMargin.__name__)
        keys = list(asked)
        prompts = self.subject.render([asked[key][0] for key in keys], system=self.system)
        rows = [(*prompt, *asked[key][1].tokens) for prompt, key in zip(prompts, keys, strict=True)]
        check_context([len(row) for row in rows], self.subject.context_length)
        first_tokens = {span[0]: span for span in reversed(self.spans.tokens)}
        read: dict[str, list[tuple[float, tuple[int, Tokens], Tokens]]] = {}
        for batch in batches(rows, pad=pad_id(self.subject), budget=TOKEN_BUDGET):
            states = row_states(
                self.subject, None, Rows(batch.tokens, [0] * len(batch.rows), [len(prompts[n]) for n in batch.rows])
            )
            for row, number in enumerate(batch.rows):
                starts = list(asked[keys[number]][2])
                cells = states[row, [len(prompts[number]) - 1 + start for start in starts]]
                tables = (to_float64(logits(self.subject, part)).log_softmax(dim=-1) for part in cells.split(_CELLS))
                read[keys[number]] = list(_at_places(torch.cat(list(tables)), starts, first_tokens))
        return read


def _at_places(
    table: Float[Tensor, "place vocab"], starts: Sequence[int], first_tokens: Mapping[int, Tokens]
) -> Iterator[tuple[float, tuple[int, Tokens], Tokens]]:
    begun = table[:, list(first_tokens)]
    others = table.index_fill(1, torch.tensor(list(first_tokens), device=table.device), -torch.inf)
    best = others.topk(min(OTHERS, table.shape[1] - len(first_tokens)), dim=-1).indices.tolist()
    spans = list(first_tokens.values())
    for place, start in enumerate(starts):
        likeliest = spans[int(begun[place].argmax())]
        yield float(begun[place].logsumexp(dim=0)), (start, likeliest), tuple(best[place])


def held_places(spans: Spans, answer: Tokens) -> list[tuple[int, Tokens]]:
    """Where spans begin in an answer, and which, one after the other; at most `PLACES`.

    Example:
        >>> held_places(Spans(((3,), (3, 4)), ("a", "ab"), 1.0, 0.0), (1, 3, 4, 3, 2))
        [(1, (3, 4)), (3, (3,))]
    """
    places: list[tuple[int, Tokens]] = []
    found = spans.first_in(answer)
    while found is not None and len(places) < PLACES:
        places.append(found)
        found = spans.first_in(answer, found[0] + len(found[1]))
    return places


def _ends(answer: Answer) -> range:
    """The places of an answer at which something may begin: its end too, if the model ended it."""
    return range(max(1, len(answer.tokens) + (1 if answer.is_finished else 0)))
