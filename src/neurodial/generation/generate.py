"""Batched generation under interventions.

1. Render, refuse what does not fit the context.
2. Batches of similar length, padded on the left; rows of different interventions share a batch. What the prompts of a
   batch share runs once (`begun.py`).
3. transformers generates; each row's answer is cut at its end token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache

from neurodial.activations.batches import Batch, left_mask, padded
from neurodial.activations.collect import pad_id
from neurodial.generation.as_alone import AsAlone, as_alone
from neurodial.generation.begun import begun
from neurodial.generation.decoding import BATCH_TOKENS, Decoding
from neurodial.generation.per_row import Under, one_each, row_slots
from neurodial.generation.running_engine import engine_of
from neurodial.generation.states import assign_rows
from neurodial.intervention.parts_of_pass import tracker
from neurodial.kept import KeptForm, kept
from neurodial.model.generation_settings import plain_generation, stop_strings
from neurodial.model.hooks import contiguous_head
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.prompt import Prompt
from neurodial.prompts.render import check_context, generation_prompt
from neurodial.text.answer_parts import PartTracker
from neurodial.text.thinking import Parts, special_markers, split_thinking, spoken

Allowed = Callable[[int, Sequence[int]], Sequence[int]]
"""The tokens that may come next, by a prompt's number and its answer's tokens so far."""


@dataclass(frozen=True)
class Answer:
    """A generated answer.

    Attributes:
        prompt: the prompt.
        text: the text for the user: without special tokens, and without the thinking of a reasoning model.
        tokens: all its token ids, those of thinking too, the end token left out.
        is_finished: whether the model ended it; false where it was cut at the longest length.
        thinking: the text of the thinking, or None.
        is_endless: whether a block of thinking was never closed; the text is then empty.

    Example:
        >>> str(Answer("Hello", "Hi.", (72, 105, 46), is_finished=True))
        'Hi.'
    """

    prompt: Prompt
    text: str
    tokens: tuple[int, ...]
    is_finished: bool
    thinking: str | None = None
    is_endless: bool = False

    def __str__(self) -> str:
        return self.text


def _packed(answers: Sequence[Answer]) -> tuple[list[list[Any]], dict[str, Any]]:
    return [[a.text, a.tokens, a.is_finished, a.thinking, a.is_endless] for a in answers], {}


def _unpacked(rows: list[list[Any]], _: object, arguments: Mapping[str, Any]) -> list[Answer]:
    return [
        Answer(prompt, text, tuple(tokens), finished, thinking, endless)
        for prompt, (text, tokens, finished, thinking, endless) in zip(arguments["prompts"], rows, strict=True)
    ]


@kept("answers", KeptForm(_packed, _unpacked))
def generate(
    subject: Subject,
    prompts: Sequence[Prompt],
    *,
    under: Under = None,
    decoding: Decoding | None = None,
    progress: Progress = silent,
) -> list[Answer]:
    """Answer prompts, steered or not, in the order given.

    Inside a `with steer(...)` block that steering acts too.

    Args:
        subject: the model.
        prompts: what to ask.
        under: an intervention for all prompts, or one (or None) for each prompt; different ones share a batch.
        decoding: length, temperature, seed, batch size.
        progress: shown while it runs.

    Raises:
        ContextLengthError: a prompt and its answer don't fit the context; checked before any work.
        OptionError: the number of interventions is not the number of prompts.

    Example:
        >>> import neurodial as nd
        >>> from neurodial.model.tiny import tiny_subject
        >>> [answer] = generate(tiny_subject(), ["Hello"], decoding=nd.Decoding(max_new_tokens=2))
        >>> len(answer.tokens) <= 2
        True
    """
    decoding = decoding or Decoding()
    each = one_each(under, len(prompts))
    if not prompts:
        return []
    sequences = subject.render(prompts, system=decoding.system)
    check_context([len(s) for s in sequences], subject.context_length, extra=decoding.max_new_tokens)
    answers: dict[int, Answer] = {}
    stops = Stops(stop_tokens(subject), stop_texts(subject))
    engine = engine_of(subject)
    if engine is not None:
        found = engine.answers(sequences, each, decoding, sorted(stops.tokens), progress)
        return [_answer(subject, prompt, list(tokens), stops) for prompt, tokens in zip(prompts, found, strict=True)]
    trait = as_alone(subject) if len(prompts) > 1 else AsAlone(padded=True, cached=False)
    with (
        _fork_seed(subject, decoding.seed),
        row_slots(subject, each) as (steering, slots),
        contiguous_head(subject),
        plain_generation(subject.model),
        progress("generating", len(prompts)) as advance,
    ):
        for batch in _by_size(sequences, decoding, pad_id(subject), alike=not trait.padded):
            of_rows = [slots[row] for row in batch.rows]
            cache = begun(subject, steering, batch, of_rows) if trait.cached else None
            assign_rows(steering, of_rows, [batch.tokens.shape[1]] * len(of_rows))  # padding is on the left
            if steering is not None and steering.follows_parts:
                steering.follow([tracker_of(subject, prompts[row]) for row in batch.rows])
            found_tokens = _generate_batch(subject, batch, decoding, stops, cache=cache)
            for row, tokens in zip(batch.rows, found_tokens, strict=True):
                answers[row] = _answer(subject, prompts[row], tokens, stops)
            advance(len(batch.rows))
    return [answers[row] for row in range(len(prompts))]


class Stops(NamedTuple):
    """What ends an answer: tokens, and texts of several tokens."""

    tokens: frozenset[int]
    texts: tuple[str, ...] = ()


def stop_tokens(subject: Subject) -> frozenset[int]:
    """The tokens that end an answer, from the generation configuration and the tokenizer."""
    configured = subject.model.generation_config.eos_token_id
    listed = configured if isinstance(configured, list) else [configured]
    texts = [token for text in stop_strings(subject.model) if (token := _one_token(subject, text)) is not None]
    return frozenset(int(token) for token in (*listed, *texts, subject.tokenizer.eos_token_id) if token is not None)


def stop_texts(subject: Subject) -> tuple[str, ...]:
    """The texts that end an answer, from the generation configuration; those that are one token are `stop_tokens`."""
    return tuple(text for text in stop_strings(subject.model) if _one_token(subject, text) is None)


def place_of_stop(tokenizer: Any, tokens: Sequence[int], texts: Sequence[str]) -> int | None:
    """How many of the tokens come before the first text that ends an answer; None where there is none."""
    if not any(text in str(tokenizer.decode(list(tokens))) for text in texts):
        return None
    end = next(n for n in range(1, len(tokens) + 1) if any(t in str(tokenizer.decode(tokens[:n])) for t in texts))
    whole = str(tokenizer.decode(tokens[:end]))
    start = min(place for place in map(whole.find, texts) if place >= 0)
    return max(n for n in range(end) if len(str(tokenizer.decode(tokens[:n]))) <= start)


def _one_token(subject: Subject, text: str) -> int | None:
    token = subject.tokenizer.get_vocab().get(text)
    return None if token is None else int(token)


def sampled_answers(subject: Subject, tokens: Sequence[int], rows: int, decoding: Decoding) -> list[tuple[int, ...]]:
    """Answers to one rendered prompt in one batch of `rows`, up to their end tokens; kept nowhere.

    For callers whose hooks treat the rows differently: row k of the batch is answer k.

    Raises:
        ContextLengthError: prompt and answer don't fit the context.
    """
    check_context([len(tokens)], subject.context_length, extra=decoding.max_new_tokens)
    stops = Stops(stop_tokens(subject), stop_texts(subject))
    batch = Batch(tuple(range(rows)), padded([tokens] * rows, pad_id(subject), "left"), (len(tokens),) * rows)
    with _fork_seed(subject, decoding.seed), contiguous_head(subject), plain_generation(subject.model):
        found = _generate_batch(subject, batch, decoding, stops)
    return [_up_to_end(subject, row, stops)[0] for row in found]


def held_answers(
    subject: Subject, prompts: Sequence[Prompt], allowed: Allowed, decoding: Decoding, *, progress: Progress = silent
) -> list[Answer]:
    """Answers whose tokens are held to a form: of those allowed each time, the likeliest; kept nowhere.

    Raises:
        ContextLengthError: a prompt and its answer don't fit the context.
    """
    sequences = subject.render(prompts, system=decoding.system)
    check_context([len(s) for s in sequences], subject.context_length, extra=decoding.max_new_tokens)
    stops = Stops(stop_tokens(subject), ())
    found: dict[int, Answer] = {}
    trait = as_alone(subject)
    with contiguous_head(subject), plain_generation(subject.model), progress("generating", len(prompts)) as advance:
        for batch in _by_size(sequences, decoding, pad_id(subject), alike=not trait.padded):
            for row, tokens in zip(batch.rows, _generate_batch(subject, batch, decoding, stops, allowed), strict=True):
                found[row] = _answer(subject, prompts[row], tokens, stops)
            advance(len(batch.rows))
    return [found[row] for row in range(len(prompts))]


def _by_size(
    sequences: Sequence[Sequence[int]], decoding: Decoding, pad: int, *, alike: bool = False
) -> Iterator[Batch]:
    """Batches of similar length, or of the same. Within one the prompts keep their order: dials per row follow it."""
    order = sorted(range(len(sequences)), key=lambda row: -len(sequences[row]))
    while order:
        longest = len(sequences[order[0]])
        size = max(1, min(decoding.batch_size, BATCH_TOKENS // (longest + decoding.max_new_tokens)))
        if alike:
            size = min(size, sum(len(sequences[row]) == longest for row in order))
        rows, order = sorted(order[:size]), order[size:]
        chosen = [sequences[row] for row in rows]
        yield Batch(tuple(rows), padded(chosen, pad, "left"), tuple(len(sequence) for sequence in chosen))


@torch.no_grad()
def _generate_batch(
    subject: Subject,
    batch: Batch,
    decoding: Decoding,
    stops: Stops,
    allowed: Allowed | None = None,
    *,
    cache: DynamicCache | None = None,
) -> list[list[int]]:
    tokens = batch.tokens.to(subject.device)
    width = tokens.shape[1]
    sampling = decoding.temperature > 0
    options: dict[str, Any] = {}
    if sampling:
        options |= {"temperature": decoding.temperature, "top_p": decoding.top_p, "top_k": 0}
    if cache is not None:
        options["past_key_values"] = cache
    if allowed is not None:
        options["prefix_allowed_tokens_fn"] = lambda row, seen: list(allowed(batch.rows[row], seen[width:].tolist()))
    output: Tensor = subject.model.generate(
        tokens,
        attention_mask=left_mask(batch.lengths).to(subject.device),
        max_new_tokens=decoding.max_new_tokens,
        do_sample=sampling,
        pad_token_id=pad_id(subject),
        eos_token_id=sorted(stops.tokens),
        stop_strings=list(stops.texts) or None,
        tokenizer=subject.tokenizer if stops.texts else None,
        **options,
    )
    return [[int(token) for token in row] for row in output[:, width:].tolist()]


def _up_to_end(subject: Subject, tokens: list[int], stops: Stops) -> tuple[tuple[int, ...], bool]:
    """An answer's tokens without its end, and whether it has one."""
    end = next((place for place, token in enumerate(tokens) if token in stops.tokens), None)
    kept_tokens = tokens if end is None else tokens[:end]
    if stops.texts and (stop := place_of_stop(subject.tokenizer, kept_tokens, stops.texts)) is not None:
        kept_tokens, end = kept_tokens[:stop], stop
    return tuple(kept_tokens), end is not None


def _answer(subject: Subject, prompt: Prompt, tokens: list[int], stops: Stops) -> Answer:
    answer_tokens, has_end = _up_to_end(subject, tokens, stops)
    texts = split_answer(subject, prompt, answer_tokens)
    return Answer(prompt, texts.answer, answer_tokens, has_end, texts.thinking, texts.is_endless)


def split_answer(subject: Subject, prompt: Prompt, tokens: Sequence[int]) -> Parts:
    """An answer's tokens as text, split into thinking and answer."""
    markers = subject.thinking
    text = spoken(subject.tokenizer, tokens, special_markers(subject.tokenizer, markers))
    return split_thinking(text, markers, starts_inside=starts_inside(subject, prompt))


def tracker_of(subject: Subject, prompt: Prompt) -> PartTracker:
    """The tracker that follows an answer through thinking, answer and tool calls."""
    return tracker(subject, starts_inside=starts_inside(subject, prompt))


def starts_inside(subject: Subject, prompt: Prompt) -> bool:
    """Whether the rendered prompt itself ends inside a block of thinking."""
    if not subject.thinking:
        return False
    text = generation_prompt(subject.tokenizer, prompt, subject.template)
    return any(text.rfind(pair.begin) > text.rfind(pair.end) for pair in subject.thinking)


@contextmanager
def _fork_seed(subject: Subject, seed: int) -> Iterator[None]:
    """Seed the sampling without disturbing the caller's random state."""
    devices = [subject.device] if subject.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
