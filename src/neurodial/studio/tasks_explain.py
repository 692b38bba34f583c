"""What `neurodial explain` writes, as the studio shows it: of a neuron, or of a circuit as a whole.

1. The circuit is watched over the prompts once; every other page of it needs no other pass.
2. A neuron's dial alone is turned only where that is asked for: it needs a margin and answers, which take longer.
3. So are words: the model itself, or the one that the studio was started with, says them, and they are scored.
4. So are vectors in words: the pair of models that the studio was started with says them, scored too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, TypeVar

from neurodial.activations.position import parse_position
from neurodial.circuit.circuit import Circuit, Row
from neurodial.circuit.site import Neuron
from neurodial.evaluation.report.html_page import render_page
from neurodial.evaluation.report.page import Page
from neurodial.explain.corpus import Corpus, Text, corpus_of
from neurodial.explain.dial_effects import Effect, measure_effects, measuring_of
from neurodial.explain.explain_circuit import explain_circuit, read
from neurodial.explain.explain_page import drive_page, neuron_page
from neurodial.explain.explainer import Explainer, LocalExplainer
from neurodial.explain.explanation import CircuitExplanation
from neurodial.explain.judged_words import JudgedWords
from neurodial.explain.options import Explaining
from neurodial.explain.put_into_words import Wording, put_into_words
from neurodial.explain.read_corpus import CorpusReading
from neurodial.intervention.scale import check_neurons
from neurodial.prompts.pairs import PairSet
from neurodial.studio import requests
from neurodial.studio.jobs import Reporter, Run
from neurodial.studio.studio_state import StudioState
from neurodial.studio.tasks_vectors import (
    Vectors,
    at_tokens,
    autoencoder_of,
    of_circuit,
    of_neuron,
    pair_name,
    with_vectors,
)
from neurodial.studio.views import neuron_of

EACH = 60
"""Prompts of each side that are read."""
KEPT = 8
"""Readings that are remembered."""
_OPTIONS = Explaining(neurons=0, measure=False)
T = TypeVar("T")


@dataclass(frozen=True)
class ExplainedPage:
    """A page, and what the studio says beside it."""

    html: str
    has_hidden: bool
    speaker: str
    pair: str
    is_worded: bool
    has_vectors: bool
    in_circuit: bool = True
    is_measured: bool = False

    def view(self) -> dict[str, Any]:
        """All but the page itself."""
        return {
            "in_circuit": self.in_circuit, "measured": self.is_measured, "worded": self.is_worded,
            "vectors": self.has_vectors, "hidden": self.has_hidden, "speaker": self.speaker, "pair": self.pair,
        }  # fmt: skip


@dataclass(frozen=True)
class _Watched:
    """A circuit that was watched over prompts: the texts, what was read, and what is known by that."""

    corpus: Corpus
    reading: CorpusReading
    explanation: CircuitExplanation

    def page(self, studio: StudioState, page: Page, asked: requests.Explained, **facts: bool) -> ExplainedPage:
        """What is shown."""
        hidden = any(text.is_harmful for text in self.corpus.texts) and not asked.show_harmful
        return ExplainedPage(render_page(page), hidden, explainer_of(studio).name, pair_name(studio), **facts)


def whole(studio: StudioState, asked: requests.WholeRequest) -> Run:
    """What a circuit writes and drives on, and on demand words for that; with a prompt, its activations in words.

    Raises:
        UnknownNameError: there is no such circuit or prompt set.
        OptionError: there is no pair of models, or the tokens of the prompt are not named as they can be.
    """
    circuit, pairs = studio.collection.circuit(asked.circuit), studio.collection.pairs(asked.prompts)
    positions = [parse_position(text.strip()) for text in asked.at.split(",")]
    wants_vectors = asked.vectors or bool(asked.prompt)
    if wants_vectors:
        autoencoder_of(studio)
    key = (circuit.rows, circuit.direction, asked.prompts)

    def run(reporter: Reporter) -> ExplainedPage:
        with reporter.stoppable(studio.subject):
            watched = _watched(studio, circuit, pairs, asked, (key, reporter))
            drive = len(watched.reading.watched.shown)
            words = _words(studio, watched, drive, (key, asked.words, reporter))

            def vectors(layer: int) -> Vectors:
                own, notes = of_circuit(studio, circuit, watched.corpus, watched.reading, layer)
                said = at_tokens(studio, asked.prompt, positions, layer) if asked.prompt else []
                return [*said, *own], notes

            place = (key, asked.prompt, asked.at if asked.prompt else "")
            explanation = with_vectors(studio, watched.explanation, place, vectors, (wants_vectors, reporter))
        page = drive_page(replace(explanation, words=words))
        has = bool(explanation.vectors)
        return watched.page(studio, page, asked, is_worded=words is not None, has_vectors=has)

    return run


def neuron(studio: StudioState, asked: requests.NeuronRequest) -> Run:
    """What a neuron reads, writes, fires on, and on demand what its dial alone does, and words for it.

    Raises:
        SteeringError: the model has no such neuron.
        UnknownNameError: there is no such circuit or prompt set.
        OptionError: there is no pair of models.
    """
    wanted = neuron_of(asked.layer, asked.index, studio.subject.everything)
    check_neurons(frozenset({wanted}), studio.subject)
    complete = studio.collection.circuit(asked.circuit)
    pairs = studio.collection.pairs(asked.prompts)
    if asked.vectors:
        autoencoder_of(studio)
    in_circuit = any(row.neuron == wanted for row in complete)
    circuit = complete if in_circuit else _alone(wanted, complete)
    channel = [row.neuron for row in circuit].index(wanted)
    key = (circuit.rows, circuit.direction, asked.prompts)

    def run(reporter: Reporter) -> ExplainedPage:
        with reporter.stoppable(studio.subject):
            watched = _watched(studio, circuit, pairs, asked, (key, reporter))
            corpus, reading = watched.corpus, watched.reading
            shown = reading.watched.shown.index(channel)
            effect = _effect(studio, circuit, channel, pairs, (key, asked.measure, reporter))
            words = _words(studio, watched, shown, (key, asked.words, reporter))

            def vectors(layer: int) -> Vectors:
                own, notes = of_neuron(studio, shown, corpus, reading, layer, show_harmful=asked.show_harmful)
                others, more = of_circuit(studio, circuit, corpus, reading, layer) if in_circuit else ([], ())
                return [*own, *others], [*notes, *more]

            place = (key, channel, asked.show_harmful)
            explanation = with_vectors(studio, watched.explanation, place, vectors, (asked.vectors, reporter))
        found = next(one for one in explanation.neurons if one.neuron == wanted)
        page = neuron_page(replace(found, effect=effect, words=words), explanation)
        return watched.page(
            studio, page, asked, is_worded=words is not None, has_vectors=bool(explanation.vectors),
            in_circuit=in_circuit, is_measured=effect is not None,
        )  # fmt: skip

    return run


def _watched(
    studio: StudioState, circuit: Circuit, pairs: PairSet, asked: requests.Explained, how: tuple[object, Reporter]
) -> _Watched:
    """A circuit over the first prompts of each side, watched now or for an earlier page."""
    key, reporter = how
    subject = studio.subject
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
    return _Watched(corpus, reading, explanation)


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
    studio: StudioState, watched: _Watched, shown: int, how: tuple[object, bool, Reporter]
) -> JudgedWords | None:
    """Words for a shown channel with their scores: made where that is asked for, else those of an earlier page."""
    key, is_wanted, reporter = how
    place = ("words", key, shown)
    if not is_wanted:
        known: JudgedWords | None = studio.readings.get(place)
        return known
    wording = Wording(explainer_of(studio), _OPTIONS.places, _OPTIONS.places)
    corpus, places = watched.corpus, watched.reading.places
    return _remembered(
        studio,
        place,
        lambda: put_into_words(studio.subject, corpus, places, [shown], wording, progress=reporter.progress)[0],
    )


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
