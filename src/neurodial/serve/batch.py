"""The rows that run: one cache, one forward pass for all of them, whatever their dials.

1. New rows pass their prompts together, padded on the left; each gets its first token.
2. Those that go on join the cache of the others, aligned at the right.
3. One pass gives every row its next token; each row is steered by the slot of its setting.
4. Rows that ended or were cancelled leave, and the cache is cut to the longest row that is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurodial.activations.batches import left_mask, padded
from neurodial.activations.collect import pad_id
from neurodial.errors import ServingError
from neurodial.generation.as_alone import UNABLE, agree, short_prompts
from neurodial.generation.generate import stop_texts, stop_tokens
from neurodial.generation.text_stream import TextStream
from neurodial.intervention.decide import Outcomes
from neurodial.intervention.parts_of_pass import tracker
from neurodial.intervention.steer import Steering
from neurodial.model.cache import empty_cache, joined, kept, row_counts
from neurodial.model.subject import Subject
from neurodial.serve.next_token import generator_of, next_tokens, scored
from neurodial.serve.request import Deliver, Failed, Finished, Piece, Request, Scored
from neurodial.serve.slots import SlotTable
from neurodial.text.thinking import special_markers

NOT_FINITE = (
    "The model gave logits that are not finite. The dial may be too strong for it, or its dtype too narrow; "
    "try a smaller dial."
)


def one_pass(
    subject: Subject, tokens: Int[Tensor, "row token"], lengths: Sequence[int], cache: Any, *, keep: int
) -> Float[Tensor, "row kept vocab"]:
    """One pass of rows whose lengths, these tokens included, are given; they are padded on the left."""
    width = max(lengths)
    padding = width - torch.tensor(list(lengths))[:, None]
    places = (torch.arange(width - tokens.shape[1], width) - padding).clamp(min=0)
    output: Any = subject.model(
        input_ids=tokens.to(subject.device),
        attention_mask=left_mask(lengths).to(subject.device),
        position_ids=places.to(subject.device),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=keep,
    )
    logits: Tensor = output.logits
    return logits


def refuse_other_answers(subject: Subject) -> None:
    """Refuse a model whose answers would depend on what else is served: two short prompts, together and each alone.

    Raises:
        ServingError: they differ, or the model can't be run in this way.
    """
    prompts = short_prompts(subject)
    try:
        alone = [logits for prompt in prompts for logits in _first_logits(subject, [prompt])]
        if agree(subject, alone, _first_logits(subject, prompts)):
            return
    except UNABLE as error:
        raise ServingError(
            f"{subject.label} can't be served: a pass that goes on from keys and values fails ({error}).",
            wanted="a decoder that takes position ids and a cache of keys and values",
            fix="Use neurodial steer and evaluate, or bake the circuit (neurodial export) for an engine of this model.",
        ) from error
    raise ServingError(
        f"Answers of {subject.label} would depend on what else is served: two prompts in a batch are answered "
        "otherwise than each alone.",
        wanted="a model that makes nothing of padding",
        fix="Serve one request at a time (--max-batch 1).",
    )


@torch.no_grad()
def _first_logits(subject: Subject, prompts: Sequence[Sequence[int]]) -> list[Float[Tensor, "token vocab"]]:
    """For each prompt the logits of its next token, and of the one after its first token said again."""
    cache, lengths = empty_cache(), [len(prompt) for prompt in prompts]
    first = one_pass(subject, padded(prompts, pad_id(subject), "left"), lengths, cache, keep=1)
    again = torch.tensor([[prompt[0]] for prompt in prompts])
    second = one_pass(subject, again, [length + 1 for length in lengths], cache, keep=1)
    return list(torch.cat([first[:, -1:], second[:, -1:]], dim=1))


class RunningRow:
    """One request that runs."""

    def __init__(self, request: Request, deliver: Deliver, subject: Subject) -> None:
        self.request, self.deliver = request, deliver
        self.generator = generator_of(request)
        kept = special_markers(subject.tokenizer, subject.thinking)
        self.text = TextStream(subject.tokenizer, (*request.stop, *stop_texts(subject)), kept=kept)
        self.tracker = tracker(subject, starts_inside=request.starts_inside)
        self.outcomes: Outcomes = {}
        self.length = len(request.tokens)
        self.made: int = 0
        self.last = request.tokens[-1]
        self.is_over = False

    def end(self, event: Finished | Failed) -> None:
        """Hand on the last event."""
        self.is_over = True
        self.deliver(event)

    def take(self, token: int, entry: tuple[Scored, ...], ends: frozenset[int]) -> bool:
        """Take the next token, hand on what it makes readable, and say whether the row goes on."""
        self.made += 1
        self.last = token
        is_end = token in ends
        text = "" if is_end else self.text.add(token)
        is_last = is_end or self.text.is_stopped or self.made >= self.request.max_tokens
        if is_last:
            text += self.text.end()
        if text or entry:
            self.deliver(Piece(text, entry))
        if is_last:
            self.end(Finished("stop" if is_end or self.text.is_stopped else "length", self.made))
        return not is_last


class RunningBatch:
    """Running rows and their cache. Used by one thread alone, inside the steering's block."""

    def __init__(self, subject: Subject, steering: Steering, table: SlotTable) -> None:
        self._subject, self._steering, self._table = subject, steering, table
        self._ends = stop_tokens(subject)
        self._pad = pad_id(subject)
        self._cache = empty_cache()
        self.rows: list[RunningRow] = []

    @property
    def is_whole(self) -> bool:
        """Whether every layer's cache has the running rows; false after an error halfway through a change."""
        return not self.rows or row_counts(self._cache) == {len(self.rows)}

    def join(self, new: Sequence[RunningRow]) -> None:
        """Pass the prompts of new rows and let them join the others (1, 2).

        Raises:
            Exception: whatever the model raises; the rows that ran before are as they were.
        """
        cache = empty_cache()
        self._steer([*new, *self.rows], new)
        echoing = any(row.request.echo for row in new)
        logits = one_pass(
            self._subject,
            padded([row.request.tokens for row in new], self._pad, "left"),
            [len(row.request.tokens) for row in new],
            cache,
            keep=0 if echoing else 1,
        )
        for row, outcomes in zip(new, self._steering.outcomes, strict=False):  # none without conditions
            row.outcomes = outcomes
        for row, own in zip(new, logits, strict=True):
            if row.request.echo:
                row.deliver(Piece("", _prompt_scores(own, row.request)))
        staying = self._advance(new, logits[:, -1])
        if not staying:
            return
        rows = [new[place] for place in staying]
        cache = kept(cache, staying, max(row.length for row in rows)) if len(staying) < len(new) else cache
        self._cache = joined(self._cache, cache) if self.rows else cache
        self.rows += rows

    def step(self) -> None:
        """Give every row its next token (3, 4).

        Raises:
            Exception: whatever the model raises; the rows are then lost.
        """
        self._steer(self.rows, self.rows)
        tokens = torch.tensor([[row.last] for row in self.rows])
        for row in self.rows:
            row.length += 1
        logits = one_pass(self._subject, tokens, [row.length for row in self.rows], self._cache, keep=1)
        self._keep(self._advance(self.rows, logits[:, -1]))

    def drop(self, gone: Sequence[RunningRow]) -> None:
        """Take rows out, whether they ended or not (4)."""
        self._keep([place for place, row in enumerate(self.rows) if row not in gone])

    def clear(self) -> None:
        """Forget all rows."""
        self.rows, self._cache = [], empty_cache()

    def _keep(self, places: list[int]) -> None:
        if len(places) == len(self.rows):
            return
        self.rows = [self.rows[place] for place in places]
        if not self.rows:
            self.clear()
            return
        self._cache = kept(self._cache, places, max(row.length for row in self.rows))

    def _steer(self, kept_rows: Sequence[RunningRow], acting: Sequence[RunningRow]) -> None:
        self._table.hold([row.request.dials for row in kept_rows], self._steering)
        self._steering.assign(self._table.slots([row.request.dials for row in acting]))
        self._steering.follow([row.tracker for row in acting])
        self._steering.recall([row.outcomes for row in acting])

    def _advance(self, rows: Sequence[RunningRow], logits: Float[Tensor, "row vocab"]) -> list[int]:
        """Choose and hand on a token for each row; the places of those that go on."""
        usable = torch.isfinite(logits.amax(dim=-1)).tolist()  # the largest of a row is NaN where any is
        tokens = next_tokens(logits.nan_to_num(), [row.request for row in rows], [row.generator for row in rows])
        going = []
        for place, row in enumerate(rows):
            if not usable[place]:
                row.end(Failed(NOT_FINITE))
            elif row.request.max_tokens == 0:
                row.end(Finished("length", 0))
            else:
                top = row.request.top
                entry = () if top is None else scored(logits[place : place + 1], [tokens[place]], top)
                if row.take(tokens[place], entry, self._ends):
                    going.append(place)
        return going


def _prompt_scores(logits: Float[Tensor, "token vocab"], request: Request) -> tuple[Scored, ...]:
    """Log-probabilities of the prompt's own tokens; the first has none."""
    tokens = request.tokens
    first = Scored(tokens[0], None, ())
    if len(tokens) == 1:
        return (first,)
    before = logits[len(logits) - len(tokens) : -1]
    return (first, *scored(before, tokens[1:], request.top or 0))
