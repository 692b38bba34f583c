"""What jobs do: each function takes the workshop and a request, and gives the work as a function of its reporter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from neurodial.generation.decoding import Decoding
from neurodial.generation.paired import SIDES, Said, duet
from neurodial.prompts.prompt import Message, Prompt
from neurodial.studio import requests
from neurodial.studio.jobs import Reporter, Run
from neurodial.studio.workshop import Workshop
from neurodial.text.thinking import special_markers, spoken


def answer(workshop: Workshop, asked: requests.Answer) -> Run:
    """Both answers, token by token.

    Raises:
        UnknownNameError: a circuit is not there.
        OptionError: an option makes no sense.
    """
    intervention = workshop.together(asked.circuits)
    intervention.compile(workshop.subject)  # says now, and not in the queue, that it does not fit
    decoding = Decoding(
        max_new_tokens=asked.max_new_tokens,
        temperature=asked.temperature,
        seed=asked.seed,
        system=asked.system or None,
    )
    openers = workshop.opener_tokens(asked.openers)
    chats = (_chat(asked.unsteered), _chat(asked.steered))

    def run(reporter: Reporter) -> dict[str, Any]:
        said: dict[str, list[Said]] = {side: [] for side in SIDES}
        with reporter.stoppable(workshop.subject):
            for one in duet(workshop.subject, chats, intervention, decoding=decoding, openers=openers):
                said[one.side].append(one)
                reporter.say("token", **token_values(one))
        ends = {side: _end(workshop, found) for side, found in said.items()}
        reporter.say("answers", **ends)
        return ends

    return run


def token_values(said: Said) -> dict[str, Any]:
    """A token as plain values, short: there are many."""
    values: dict[str, Any] = {
        "side": said.side,
        "step": said.step,
        "text": said.text,
        "p": [_short(said.unsteered), _short(said.steered)],
        "kl": _nats(said.kl),
        "mean": _nats(said.kl_so_far),
        "top": [[one.text, _short(one.unsteered), _short(one.steered)] for one in said.alternatives],
    }
    if said.is_end:
        values["end"] = True
    if said.openers is not None:
        values["openers"] = [_short(share) for share in said.openers]
    return values


def _end(workshop: Workshop, said: Sequence[Said]) -> dict[str, Any]:
    tokens = [one.token for one in said if not one.is_end]
    subject = workshop.subject
    text = spoken(subject.tokenizer, tokens, special_markers(subject.tokenizer, subject.thinking))
    last = said[-1]
    return {"text": text, "tokens": len(tokens), "finished": last.is_end, "kl": _nats(last.kl_so_far)}


def _chat(messages: Sequence[requests.Said]) -> Prompt:
    if len(messages) == 1:
        return messages[0].content
    return tuple(Message(one.role, one.content) for one in messages)


def _nats(value: float) -> float:
    """A divergence; what is below the rounding of float32 is nothing."""
    return 0.0 if abs(value) < 1e-6 else _short(value)


def _short(value: float) -> float:
    return float(f"{value:.5g}")
