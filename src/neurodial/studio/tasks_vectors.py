"""Vectors in the words of the pair of models that the studio was started with; what was said is remembered.

A pair takes long to load, so all vectors of a page are put into words together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import PurePath

from neurodial.activations.position import Position
from neurodial.circuit.circuit import Circuit
from neurodial.errors import OptionError
from neurodial.explain.corpus import Corpus
from neurodial.explain.explanation import CircuitExplanation
from neurodial.explain.read_corpus import CorpusReading
from neurodial.explain.vector_section import VectorWording, circuit_directions, neuron_vectors, vectors_in_words
from neurodial.nla.vectors import NamedVector, token_vectors
from neurodial.studio.jobs import Reporter
from neurodial.studio.studio_state import StudioState

Vectors = tuple[Sequence[NamedVector], Sequence[str]]
"""Vectors, and notes on what is not among them."""


def pair_name(studio: StudioState) -> str:
    """What the pair is called, with its layer; empty for none."""
    if studio.autoencoder is None:
        return ""
    pair = studio.autoencoder.pair
    return f"{PurePath(pair.speaker.source).name}, block {pair.layer}"


def autoencoder_of(studio: StudioState) -> VectorWording:
    """The pair of models.

    Raises:
        OptionError: the studio was started without one.
    """
    if studio.autoencoder is None:
        raise OptionError(
            "The studio was started without a pair of models that puts vectors into words.",
            fix="Start it with --verbaliser and --reconstructor.",
        )
    return studio.autoencoder


def with_vectors(
    studio: StudioState,
    explanation: CircuitExplanation,
    key: object,
    make: Callable[[int], Vectors],
    asked: tuple[bool, Reporter],
) -> CircuitExplanation:
    """An explanation with vectors in words: said where that is asked for, else those of an earlier page."""
    is_wanted, reporter = asked
    place = ("vectors", key)
    if is_wanted and place not in studio.readings:
        wording = autoencoder_of(studio)
        vectors, notes = make(wording.pair.layer)
        said, more = vectors_in_words(studio.subject, vectors, wording, progress=reporter.progress)
        studio.readings[place] = (said, (*notes, *more))
    if place not in studio.readings:
        return explanation
    said, notes = studio.readings[place]
    return replace(explanation, vectors=said, notes=(*explanation.notes, *notes))


def of_circuit(studio: StudioState, circuit: Circuit, corpus: Corpus, reading: CorpusReading, layer: int) -> Vectors:
    """What a circuit writes, and what its dial changes."""
    return circuit_directions(studio.subject, circuit, corpus, reading.watched.direction, layer, force=studio.force)


def of_neuron(
    studio: StudioState, shown: int, corpus: Corpus, reading: CorpusReading, layer: int, *, show_harmful: bool
) -> Vectors:
    """What a shown neuron writes, and the activation where it is strongest; of no harmful prompt unless asked for."""
    neuron = reading.watched.rows[reading.watched.shown[shown]].neuron
    strongest = reading.places.strongest(shown)
    seen = [place for place in strongest if show_harmful or not corpus.texts[place.text].is_harmful]
    notes = []
    if not seen:
        notes.append("its strongest places are all in harmful prompts, so no activation there is put into words")
    elif seen[0] != strongest[0]:
        notes.append("the activation in words is that of its strongest place outside harmful prompts")
    return neuron_vectors(studio.subject, neuron, next(iter(seen), None), corpus, layer), notes


def at_tokens(studio: StudioState, prompt: str, positions: Sequence[Position], layer: int) -> Sequence[NamedVector]:
    """The activations at some tokens of a prompt, as a user's message."""
    return token_vectors(studio.subject, studio.subject.render([prompt])[0], positions, layer)
