"""One prompt answered twice at once, unsteered and steered, token by token, with what steering changes at each token.

1. Both answers begin as one pair of rows with one cache: the unsteered model and the steered one on the same tokens.
2. Each stream draws its token from its own row; both use the same Gumbel noise, so the same distribution and seed give
   the same token. Temperature 0 takes the most probable one.
3. Where the streams diverge, the pair is split: each stream keeps an unsteered and a steered row on its own tokens, so
   that at every token both probabilities are known. A stream that ended drops its rows.
4. At each place, `KL = sum_y p(y) (log p(y) - log q(y))`, p unsteered and q steered; its mean over the unsteered
   stream's places is the divergence of `generation.divergence` on that answer.
5. At the first place, the probability, on each side, of the first tokens of the behaviour's openers.
If the two chats differ (each side has its own earlier answers), they run as two pairs, each with a cache.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from neurodial.generation.decoding import Decoding
from neurodial.generation.generate import stop_texts, stop_tokens, tracker_of
from neurodial.generation.sampling import nucleus
from neurodial.generation.text_stream import TextStream
from neurodial.intervention.base import Intervention, Together
from neurodial.intervention.decide import Outcomes
from neurodial.intervention.steer import Steering, steer_each
from neurodial.model.head import at_least_float32
from neurodial.model.hooks import contiguous_head
from neurodial.model.subject import Subject
from neurodial.prompts.prompt import Prompt
from neurodial.prompts.render import Tokens, check_context
from neurodial.text.answer_parts import PartTracker
from neurodial.text.thinking import special_markers

Side = Literal["unsteered", "steered"]
SIDES: tuple[Side, Side] = ("unsteered", "steered")
TOP = 5
"""How many of the most probable tokens of each side are shown."""


@dataclass(frozen=True)
class Alternative:
    """A possible token, with its probability on both sides."""

    text: str
    unsteered: float
    steered: float


@dataclass(frozen=True)
class TokenComparison:
    """One token of one answer.

    Attributes:
        side: whose answer.
        step: its place in the answer.
        token: its id.
        text: what it adds to the answer; empty for an end token or a part of a letter.
        unsteered: its probability under the unsteered model, after the same tokens.
        steered: the same under the steered model.
        alternatives: the most probable tokens of either side, most probable on this side first.
        kl: KL(unsteered || steered) at this place, in nats.
        kl_so_far: its mean over this answer's places so far.
        is_end: whether the token ends the answer.
        openers: at the first place, the probability of the openers' first tokens, unsteered and steered.
    """

    side: Side
    step: int
    token: int
    text: str
    unsteered: float
    steered: float
    alternatives: tuple[Alternative, ...]
    kl: float
    kl_so_far: float
    is_end: bool
    openers: tuple[float, float] | None = None


@dataclass
class _Stream:
    """One answer that is being decoded."""

    side: Side
    text: TextStream
    tokens: int = 0
    divergence: float = 0.0


@dataclass
class _PairBatch:
    """One batch with a cache: for each pair an unsteered and a steered row. The streams of a pair are equal so far."""

    fed: Tensor
    pairs: list[list[_Stream]]
    cache: Any = None
    length: int = 0
    trackers: list[PartTracker] = field(default_factory=list)
    outcomes: list[Outcomes] = field(default_factory=list)

    def go_on(self, chosen: Sequence[Sequence[int | None]]) -> None:
        """Feed the tokens chosen by each stream of each pair; None ends a stream. Split pairs whose tokens differ."""
        rows: list[int] = []
        pairs: list[list[_Stream]] = []
        tokens: list[int] = []
        for number, (streams, drawn) in enumerate(zip(self.pairs, chosen, strict=True)):
            for token in dict.fromkeys(token for token in drawn if token is not None):
                pairs.append([stream for stream, own in zip(streams, drawn, strict=True) if own == token])
                rows += [2 * number, 2 * number + 1]
                tokens += [token, token]
        if pairs and rows != list(range(2 * len(self.pairs))):
            self.cache.batch_select_indices(torch.tensor(rows, device=self.fed.device))
            self.trackers = [copy.copy(self.trackers[row]) for row in rows]
            self.outcomes = [self.outcomes[row] for row in rows] if self.outcomes else []
        self.pairs = pairs
        self.fed = torch.tensor(tokens, dtype=torch.long, device=self.fed.device)[:, None]


def paired_decoding(
    subject: Subject,
    prompts: tuple[Prompt, Prompt],
    intervention: Intervention,
    *,
    decoding: Decoding | None = None,
    openers: Sequence[Tokens] = (),
    sides: Sequence[Side] = SIDES,
) -> Iterator[TokenComparison]:
    """Answer a prompt unsteered and steered at once. Closing the iterator stops between two tokens.

    Args:
        subject: the model.
        prompts: the prompts of the unsteered and the steered side: the same, or chats with their own earlier answers.
        intervention: of the steered side.
        decoding: length, temperature, seed and system prompt.
        openers: how the behaviour's answers begin, as token ids.
        sides: whose answers are wanted.

    Raises:
        ContextLengthError: a prompt and its answer don't fit the context.
        ModelMismatchError: a circuit was made on another model.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> compared = list(
        ...     paired_decoding(tiny_subject(), ("Hi", "Hi"), Together(()), decoding=Decoding(max_new_tokens=2))
        ... )
        >>> max(token.kl for token in compared) < 1e-6, {token.side for token in compared} == set(SIDES)
        (True, True)
    """
    decoding = decoding or Decoding()
    rendered = subject.render(prompts, system=decoding.system)
    check_context([len(tokens) for tokens in rendered], subject.context_length, extra=decoding.max_new_tokens)
    batches = _batches(subject, prompts, rendered, sides)
    draw = _Draw(decoding, subject.tokenizer, stop_tokens(subject))
    first = torch.tensor(sorted({opener[0] for opener in openers if opener}), dtype=torch.long)
    with contiguous_head(subject), steer_each(subject, [Together(()), intervention]) as steering:
        for step in range(decoding.max_new_tokens):
            batches = [batch for batch in batches if batch.pairs]
            noise = draw.noise(subject)
            for batch in batches:
                table = _log_probs(subject, batch, steering)
                opening = _opening(table, first) if step == 0 and first.numel() else None
                chosen: list[list[int | None]] = []
                for number, streams in enumerate(batch.pairs):
                    pair = table[2 * number : 2 * number + 2]
                    compared = [draw.next_of(stream, pair, noise, opening) for stream in streams]
                    yield from compared
                    chosen.append([None if token.is_end else token.token for token in compared])
                batch.go_on(chosen)


def _batches(
    subject: Subject, prompts: Sequence[Prompt], rendered: Sequence[Tokens], sides: Sequence[Side]
) -> list[_PairBatch]:
    kept_tokens = special_markers(subject.tokenizer, subject.thinking)
    streams = [_Stream(side, TextStream(subject.tokenizer, stop_texts(subject), kept=kept_tokens)) for side in SIDES]
    groups = [streams] if rendered[0] == rendered[1] else [[stream] for stream in streams]
    wanted = [[stream for stream in group if stream.side in sides] for group in groups]
    return [
        _PairBatch(
            torch.tensor([tokens, tokens], device=subject.device),
            [group],
            trackers=[tracker_of(subject, prompt) for _ in SIDES],
        )
        for prompt, tokens, group in zip(prompts, rendered, wanted, strict=False)
        if group
    ]


def _log_probs(subject: Subject, batch: _PairBatch, steering: Steering) -> Float[Tensor, "row vocab"]:
    """Log-probabilities of the next token in each row, on the CPU; the cache grows by the tokens fed."""
    steering.assign([0, 1] * len(batch.pairs))
    steering.follow(batch.trackers)
    if batch.length:
        steering.recall(batch.outcomes)
    rows, tokens = batch.fed.shape
    batch.length += tokens
    mask = torch.ones(rows, batch.length, dtype=torch.long, device=batch.fed.device)
    with torch.no_grad():
        output = subject.model(
            batch.fed, attention_mask=mask, past_key_values=batch.cache, use_cache=True, logits_to_keep=1
        )
    batch.cache = output.past_key_values
    batch.outcomes = list(steering.outcomes)
    raw: Tensor = output.logits[:, -1]
    return raw.to(at_least_float32(raw.dtype)).log_softmax(dim=-1).cpu()


def _opening(table: Float[Tensor, "row vocab"], first: Tensor) -> tuple[float, float]:
    shares = table[:2, first].exp().sum(dim=-1).clamp(max=1.0).tolist()
    return shares[0], shares[1]


class _Draw:
    """Draws tokens, and compares both sides at each."""

    def __init__(self, decoding: Decoding, tokenizer: Any, stops: frozenset[int]) -> None:
        self._decoding, self._tokenizer, self._stops = decoding, tokenizer, stops
        self._generator = torch.Generator().manual_seed(decoding.seed)

    def noise(self, subject: Subject) -> Tensor | None:
        """Gumbel noise for one place, the same for both streams; None where decoding is greedy."""
        if self._decoding.temperature == 0:
            return None
        size = int(subject.model.get_output_embeddings().weight.shape[0])
        uniform = torch.rand(size, generator=self._generator, dtype=torch.float64).clamp_(1e-300, 1 - 1e-16)
        return -torch.log(-torch.log(uniform))

    def next_of(
        self, stream: _Stream, pair: Float[Tensor, "2 vocab"], noise: Tensor | None, opening: tuple[float, float] | None
    ) -> TokenComparison:
        """The stream's next token; `pair` holds log-probabilities, unsteered and steered."""
        own = pair[SIDES.index(stream.side)]
        if noise is None:
            token = int(own.argmax())
        else:
            scaled = _inside(own.double() / self._decoding.temperature, self._decoding.top_p)
            token = int((scaled + noise[: own.numel()]).argmax())
        kl = float((pair[0].exp() * (pair[0] - pair[1])).sum().double())
        stream.divergence += kl
        is_end = token in self._stops
        text = "" if is_end else stream.text.add(token)
        step = stream.tokens
        stream.tokens += 1
        return TokenComparison(
            side=stream.side,
            step=step,
            token=token,
            text=text,
            unsteered=float(pair[0, token].exp()),
            steered=float(pair[1, token].exp()),
            alternatives=self._alternatives(pair, own),
            kl=kl,
            kl_so_far=stream.divergence / (step + 1),
            is_end=is_end or stream.text.is_stopped,
            openers=opening,
        )

    def _alternatives(self, pair: Float[Tensor, "2 vocab"], own: Tensor) -> tuple[Alternative, ...]:
        count = min(TOP, own.numel())
        likely = dict.fromkeys(int(token) for row in pair for token in row.topk(count).indices)
        ranked = sorted(likely, key=lambda token: (-float(own[token]), token))
        return tuple(
            Alternative(self._tokenizer.decode([token]), float(pair[0, token].exp()), float(pair[1, token].exp()))
            for token in ranked
        )


def _inside(scaled: Float[Tensor, "vocab"], top_p: float) -> Float[Tensor, "vocab"]:
    """Scores, with minus infinity outside the nucleus."""
    if top_p >= 1:
        return scaled
    _, tokens = nucleus(scaled, top_p)
    return torch.full_like(scaled, -torch.inf).index_copy(0, tokens, scaled[tokens])
