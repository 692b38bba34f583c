"""What jobs do: each function takes the studio and a request, and gives the work as a function of its reporter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from neurodial.errors import OptionError
from neurodial.generation.decoding import Decoding
from neurodial.generation.paired import SIDES, TokenComparison, paired_decoding
from neurodial.intervention.base import Together
from neurodial.prompts.prompt import Message, Prompt
from neurodial.studio import requests
from neurodial.studio.jobs import Reporter, Run
from neurodial.studio.studio_state import StudioState
from neurodial.text.thinking import special_markers, spoken


def answer(studio: StudioState, asked: requests.AnswerRequest) -> Run:
    """Both answers, token by token.

    Raises:
        UnknownNameError: a circuit is not there.
        OptionError: an option makes no sense.
    """
    intervention = studio.together(asked.circuits)
    intervention.compile(studio.subject)  # says now, and not in the queue, that it does not fit
    decoding = _decoding(asked)
    openers = studio.opener_tokens(asked.openers)
    chats = (_chat(asked.unsteered), _chat(asked.steered))

    def run(reporter: Reporter) -> dict[str, Any]:
        tokens: dict[str, list[TokenComparison]] = {side: [] for side in SIDES}
        with reporter.stoppable(studio.subject):
            for token in paired_decoding(studio.subject, chats, intervention, decoding=decoding, openers=openers):
                tokens[token.side].append(token)
                reporter.say("token", **token_values(token))
        ends = {side: _end(studio, of_side) for side, of_side in tokens.items()}
        reporter.say("answers", **ends)
        return ends

    return run


def strip(studio: StudioState, asked: requests.StripRequest) -> Run:
    """Answers with one circuit at several dials, one after the other, each token by token.

    Raises:
        UnknownNameError: a circuit is not there.
        OptionError: the circuit to move is none of the request's, or an option makes no sense.
    """
    if asked.moved not in [turned.id for turned in asked.circuits]:
        raise OptionError(f"The circuit {asked.moved!r} has no dial.", wanted="one that is on the steered side")

    def at(dial: float) -> Together:
        moved = {"dial": dial}
        return studio.together([c.model_copy(update=moved) if c.id == asked.moved else c for c in asked.circuits])

    columns = [at(dial) for dial in asked.dials]
    for column in columns:
        column.compile(studio.subject)
    decoding = _decoding(asked)
    chat = _chat(asked.chat)

    def run(reporter: Reporter) -> dict[str, Any]:
        ends = []
        with reporter.stoppable(studio.subject), reporter.progress("answering at each dial", len(columns)) as advance:
            for number, column in enumerate(columns):
                tokens: list[TokenComparison] = []
                both = (chat, chat)
                for token in paired_decoding(studio.subject, both, column, decoding=decoding, sides=["steered"]):
                    tokens.append(token)
                    reporter.say("token", column=number, **token_values(token))
                ends.append(_end(studio, tokens))
                advance(1)
        reporter.say("strip", columns=ends)
        return {"columns": ends}

    return run


def token_values(token: TokenComparison) -> dict[str, Any]:
    """A token as plain values, short: there are many."""
    values: dict[str, Any] = {
        "side": token.side,
        "step": token.step,
        "text": token.text,
        "p": [_short(token.unsteered), _short(token.steered)],
        "kl": _nats(token.kl),
        "mean": _nats(token.kl_so_far),
        "top": [[likely.text, _short(likely.unsteered), _short(likely.steered)] for likely in token.alternatives],
    }
    if token.is_end:
        values["end"] = True
    if token.openers is not None:
        values["openers"] = [_short(share) for share in token.openers]
    return values


def _end(studio: StudioState, tokens: Sequence[TokenComparison]) -> dict[str, Any]:
    ids = [token.token for token in tokens if not token.is_end]
    subject = studio.subject
    text = spoken(subject.tokenizer, ids, special_markers(subject.tokenizer, subject.thinking))
    last = tokens[-1]
    return {"text": text, "tokens": len(ids), "finished": last.is_end, "kl": _nats(last.kl_so_far)}


def _decoding(asked: requests.AnswerRequest | requests.StripRequest) -> Decoding:
    return Decoding(
        max_new_tokens=asked.max_new_tokens,
        temperature=asked.temperature,
        seed=asked.seed,
        system=asked.system or None,
    )


def _chat(messages: Sequence[requests.ChatTurn]) -> Prompt:
    if len(messages) == 1:
        return messages[0].content
    return tuple(Message(message.role, message.content) for message in messages)


def _nats(value: float) -> float:
    """A divergence; what is below the rounding of float32 is nothing."""
    return 0.0 if abs(value) < 1e-6 else _short(value)


def _short(value: float) -> float:
    return float(f"{value:.5g}")
