"""A neuron's page, as `neurodial explain` writes it, for one neuron at a time.

1. The circuit is watched over the prompts once; every other neuron of it has its page without another pass.
2. Its dial alone is turned only where that is asked for: it needs a margin and answers, which take longer.
3. So are words: the model itself, or the one that the studio was started with, says them, and they are scored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, TypeVar

from neurodial.circuit.circuit import Circuit, Row
from neurodial.circuit.site import Neuron
from neurodial.evaluation.report.html_page import render_page
from neurodial.explain.corpus import Corpus, Text, corpus_of
from neurodial.explain.dial_effects import Effect, measure_effects, measuring_of
from neurodial.explain.explain_circuit import explain_circuit, read
from neurodial.explain.explain_page import neuron_page
from neurodial.explain.explainer import Explainer, LocalExplainer
from neurodial.explain.judged_words import JudgedWords
from neurodial.explain.options import Explaining
from neurodial.explain.put_into_words import Wording, put_into_words
from neurodial.explain.read_corpus import CorpusReading
from neurodial.intervention.scale import check_neurons
from neurodial.prompts.pairs import PairSet
from neurodial.studio import requests
from neurodial.studio.jobs import Reporter, Run
from neurodial.studio.studio_state import StudioState
from neurodial.studio.views import neuron_of

EACH = 60
"""Prompts of each side that are read."""
KEPT = 8
"""Readings that are remembered."""
_OPTIONS = Explaining(neurons=0, measure=False)
T = TypeVar("T")


@dataclass(frozen=True)
class NeuronPage:
    """A neuron's page, and what the studio says beside it."""

    html: str
    in_circuit: bool
    is_measured: bool
    is_worded: bool
    has_hidden: bool
    speaker: str

    def view(self) -> dict[str, Any]:
        """All but the page itself."""
        return {
            "in_circuit": self.in_circuit, "measured": self.is_measured, "worded": self.is_worded,
            "hidden": self.has_hidden, "speaker": self.speaker,
        }  # fmt: skip


def neuron(studio: StudioState, asked: requests.NeuronRequest) -> Run:
    """What a neuron reads, writes, fires on, and on demand what its dial alone does, and words for it.

    Raises:
        SteeringError: the model has no such neuron.
        UnknownNameError: there is no such circuit or prompt set.
    """
    wanted = neuron_of(asked.layer, asked.index, studio.subject.everything)
    check_neurons(frozenset({wanted}), studio.subject)
    whole = studio.collection.circuit(asked.circuit)
    pairs = studio.collection.pairs(asked.prompts)
    in_circuit = any(row.neuron == wanted for row in whole)
    circuit = whole if in_circuit else _alone(wanted, whole)
    channel = [row.neuron for row in circuit].index(wanted)
    key = (circuit.rows, circuit.direction, asked.prompts)

    def run(reporter: Reporter) -> NeuronPage:
        subject = studio.subject
        with reporter.stoppable(subject):
            corpus = _first_of_each(corpus_of(subject, pairs), pairs)
            reading = _remembered(
                studio, ("reading", key), lambda: read(subject, circuit, corpus, _OPTIONS, progress=reporter.progress)
            )
            explanation = _remembered(
                studio,
                ("explanation", key, asked.show_harmful),
                lambda: explain_circuit(
                    subject, circuit, corpus,
                    options=_OPTIONS, reading=reading, show_harmful=asked.show_harmful, force=studio.force,
                ),
            )  # fmt: skip
            effect = _effect(studio, circuit, channel, pairs, (key, asked.measure, reporter))
            words = _words(studio, corpus, reading, channel, (key, asked.words, reporter))
        found = next(one for one in explanation.neurons if one.neuron == wanted)
        page = neuron_page(replace(found, effect=effect, words=words), explanation)
        hidden = any(text.is_harmful for text in corpus.texts) and not asked.show_harmful
        speaker = explainer_of(studio).name
        return NeuronPage(render_page(page), in_circuit, effect is not None, words is not None, hidden, speaker)

    return run


def _effect(
    studio: StudioState, circuit: Circuit, channel: int, pairs: PairSet, how: tuple[object, bool, Reporter]
) -> Effect | None:
    """What the neuron's dial alone does: measured where that is asked for, else what an earlier page measured."""
    key, is_wanted, reporter = how
    place = ("effect", key, channel)
    if not is_wanted:
        known: Effect | None = studio.readings.get(place)
        return known
    subject, progress = studio.subject, reporter.progress
    measuring = _remembered(
        studio, ("measuring", key), lambda: measuring_of(subject, circuit, pairs, progress=progress)
    )
    return _remembered(
        studio,
        place,
        lambda: measure_effects(
            subject, circuit, measuring,
            shown=[channel], groups=[], options=_OPTIONS, force=studio.force, progress=progress,
        ).neurons[channel],
    )  # fmt: skip


def explainer_of(studio: StudioState) -> Explainer:
    """Who puts neurons into words: the one that the studio was started with, or the model itself."""
    return studio.explainer or LocalExplainer(studio.subject)


def _words(
    studio: StudioState, corpus: Corpus, reading: CorpusReading, channel: int, how: tuple[object, bool, Reporter]
) -> JudgedWords | None:
    """Words for a neuron with their scores: made where that is asked for, else those of an earlier page."""
    key, is_wanted, reporter = how
    place = ("words", key, channel)
    if not is_wanted:
        known: JudgedWords | None = studio.readings.get(place)
        return known
    wording = Wording(explainer_of(studio), _OPTIONS.places, _OPTIONS.places)
    shown = reading.watched.shown.index(channel)
    return _remembered(
        studio,
        place,
        lambda: put_into_words(
            studio.subject, corpus, reading.places, [shown], wording, progress=reporter.progress
        )[0],
    )  # fmt: skip


def _alone(wanted: Neuron, circuit: Circuit) -> Circuit:
    """A neuron that is in no circuit, at dose 1."""
    name = f"{wanted.layer}.{wanted.index}, which is not in {circuit.name}"
    return Circuit.of([Row(wanted, 0.0, 1.0)], name=name, direction=circuit.direction, origin=circuit.origin)


def _first_of_each(corpus: Corpus, pairs: PairSet) -> Corpus:
    def some() -> Iterator[Text]:
        for _, of_side in groupby(sorted(corpus.texts, key=lambda text: text.side), key=lambda text: text.side):
            yield from list(of_side)[:EACH]

    return Corpus(tuple(some()), f"up to {EACH} prompts of each side of {pairs.behaviour.name}")


def _remembered(studio: StudioState, key: object, make: Callable[[], T]) -> T:
    """What was made before under this key, or is made now; the oldest of a kind is forgotten."""
    if key not in studio.readings:
        studio.readings[key] = make()
        kind = key[0] if isinstance(key, tuple) else key
        of_kind = [known for known in studio.readings if isinstance(known, tuple) and known[0] == kind]
        for old in of_kind[:-KEPT] if kind not in {"effect", "words"} else []:
            del studio.readings[old]
    found: T = studio.readings[key]
    return found
