"""`neurodial explain`: everything about a circuit, in one pass over a corpus and some turned dials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from neurodial.circuit.circuit import Circuit
from neurodial.errors import CircuitError
from neurodial.explain.corpus import SIDES, Corpus, Text
from neurodial.explain.dial_effects import CircuitEffects, Measuring, measure_effects
from neurodial.explain.explanation import NO_DIAL, AnswerCourse, CircuitExplanation, Firing, NeuronExplanation, Snippet
from neurodial.explain.likeness import alike_in_writing, correlated, groups_of
from neurodial.explain.options import Explaining
from neurodial.explain.places import TextPlace, middle, window_tokens
from neurodial.explain.put_into_words import Wording, put_into_words
from neurodial.explain.read_corpus import CorpusReading, Watched, activations, read_corpus
from neurodial.explain.vector_section import VectorWording, circuit_vectors
from neurodial.generation.decoding import Decoding
from neurodial.generation.divergence import own_answers
from neurodial.intervention.scale import check_fits
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.tracing.lens import read_tokens
from neurodial.tracing.neuron import tokens_of_write, written_tokens

HIDDEN = "▮"
"""Stands for a word of a harmful prompt."""


def explain_circuit(
    subject: Subject,
    circuit: Circuit,
    corpus: Corpus,
    *,
    measuring: Measuring | None = None,
    options: Explaining | None = None,
    wording: Wording | None = None,
    autoencoder: VectorWording | None = None,
    reading: CorpusReading | None = None,
    show_harmful: bool = False,
    force: bool = False,
    progress: Progress = silent,
) -> CircuitExplanation:
    """What a circuit's neurons read, write, fire on and do, alone and together.

    Args:
        subject: the model.
        circuit: what is explained.
        corpus: texts to watch it on.
        measuring: with what effects are measured; None measures none.
        options: how much is shown and measured.
        wording: a model that puts neurons into words; None for none.
        autoencoder: a pair of models that puts the circuit's vectors into words; None for none.
        reading: what `read` gave for the same circuit, corpus and options, which is then not read again.
        show_harmful: keep the words of harmful prompts.
        force: explain a circuit on a model that it was not made on.
        progress: shown while it runs.

    Raises:
        CircuitError: the circuit has no neurons.
        ModelMismatchError: the circuit was made on another model.
        SteeringError: the model has no such neuron.
        VerbaliserError: the autoencoder is for another model, is damaged, or does not answer.
        ActivationError: an activation is not finite.

    Example:
        >>> from neurodial.circuit.circuit import Circuit, Row
        >>> from neurodial.circuit.site import Neuron
        >>> from neurodial.explain.corpus import corpus_of
        >>> from neurodial.model.tiny import tiny_subject
        >>> subject, circuit = tiny_subject(), Circuit.of([Row(Neuron(0, None, 3), 1.0, 1.0)])
        >>> found = explain_circuit(subject, circuit, corpus_of(subject, None, ["one", "two"], name="two words"))
        >>> found.neurons[0].name, found.texts
        ('layer 0, neuron 3', {'positive': 0, 'negative': 0, 'other': 2})
    """
    options = options or Explaining()
    if not len(circuit):
        raise CircuitError(f"The circuit {circuit.name!r} has no neurons.", wanted="at least one")
    check_fits(circuit, subject, force=force)
    if autoencoder is not None:
        autoencoder.pair.check_subject(subject, force=force)
    reading = reading or read(subject, circuit, corpus, options, progress=progress)
    grouped = groups_of(reading.correlation, options.likeness)
    notes: list[str] = []
    effects = _effects(subject, circuit, measuring, reading, grouped, (options, force, progress), notes)
    shown = _Shown(subject, corpus, reading, options, show_harmful=show_harmful)
    group_of = {channel: number for number, group in enumerate(grouped) for channel in group}
    neurons = tuple(shown.neuron(channel, group_of[channel], effects) for channel in reading.watched.shown)
    up, down = tokens_of_write(subject, reading.watched.direction, options.tokens)
    hidden = sum(text.is_harmful for text in corpus.texts)
    if hidden and not show_harmful:
        notes.append(f"the words of {hidden} harmful prompts are left out")
    explanation = CircuitExplanation(
        name=circuit.name,
        model=subject.label,
        direction=circuit.direction,
        size=len(circuit),
        corpus=corpus.name,
        texts={side: corpus.count(side) for side in SIDES},
        tokens=corpus.tokens,
        passes=reading.passes,
        writes=tuple(up),
        holds_down=tuple(down),
        firing=shown.firing(len(reading.watched.shown)),
        course=_courses(subject, reading.watched, measuring, options, progress),
        groups=tuple(tuple(_place_of(circuit, channel) for channel in group) for group in grouped),
        effects=effects,
        neurons=neurons,
        words=None,
        notes=tuple(notes),
    )
    if autoencoder is not None:
        vectors, more = circuit_vectors(
            subject, circuit, corpus, reading.watched.direction, autoencoder, force=force, progress=progress
        )
        explanation = replace(explanation, vectors=vectors, notes=(*explanation.notes, *more))
    return explanation if wording is None else _worded(explanation, reading, (subject, corpus), wording, progress)


def read(
    subject: Subject, circuit: Circuit, corpus: Corpus, options: Explaining, *, progress: Progress = silent
) -> CorpusReading:
    """Watch a circuit over a corpus, as an explanation needs it.

    Raises:
        ActivationError: an activation is not finite.
    """
    return read_corpus(
        subject, circuit, corpus, shown=options.neurons, places=2 * options.places, seed=options.seed, progress=progress
    )


def _effects(
    subject: Subject,
    circuit: Circuit,
    measuring: Measuring | None,
    reading: CorpusReading,
    groups: list[list[int]],
    how: tuple[Explaining, bool, Progress],
    notes: list[str],
) -> CircuitEffects | None:
    options, force, progress = how
    if measuring is None or not options.measure:
        notes.append(NO_DIAL)
        return None
    real = [group for group in groups if len(group) > 1]
    if len(real) < len(groups):
        notes.append(f"{len(groups) - len(real)} neurons are like no other and stand in no group that is measured")
    return measure_effects(
        subject, circuit, measuring,
        shown=reading.watched.shown, groups=real, options=options, force=force, progress=progress,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Shown:
    """Makes what is shown of a reading."""

    subject: Subject
    corpus: Corpus
    reading: CorpusReading
    options: Explaining
    show_harmful: bool

    def neuron(self, channel: int, group: int, effects: CircuitEffects | None) -> NeuronExplanation:
        row = self.reading.watched.rows[channel]
        up, down = written_tokens(self.subject, row.neuron, self.options.tokens)
        reads = read_tokens(self.subject, row.neuron, self.options.tokens)
        return NeuronExplanation(
            layer=row.neuron.layer,
            index=row.neuron.index,
            expert=row.neuron.expert,
            score=row.score,
            dose=row.dose,
            group=group,
            writes=tuple(up),
            holds_down=tuple(down),
            reads={name: tuple(tokens) for name, tokens in reads.items()},
            firing=self.firing(self.reading.watched.shown.index(channel)),
            correlated=tuple(correlated(self.reading, channel)),
            alike=tuple(alike_in_writing(self.subject, self.reading, channel)),
            effect=None if effects is None else effects.neurons[channel],
        )

    def firing(self, place: int) -> Firing:
        places, count = self.reading.places, self.options.places
        edges, counts = self.reading.histograms.shown(place)
        area, error = self.reading.histograms.auroc(0, 1)
        has_both = not bool(torch.isnan(area[place]))
        return Firing(
            strongest=self._snippets(places.strongest(place)[:count]),
            middle=self._snippets(middle(places.sampled(place), count)),
            weakest=self._snippets(places.weakest(place)[:count]),
            edges=tuple(edges),
            counts=tuple(map(tuple, counts)),
            auroc=float(area[place]) if has_both else None,
            auroc_error=float(error[place]) if has_both else None,
        )

    def _snippets(self, places: Sequence[TextPlace]) -> tuple[Snippet, ...]:
        return tuple(self._snippet(place) for place in places)

    def _snippet(self, place: TextPlace) -> Snippet:
        text = self.corpus.texts[place.text]
        words = snippet_words(self.subject, place, text, show_harmful=self.show_harmful)
        return Snippet(text.side, place.text, words, place.values, place.position - place.start)


def snippet_words(subject: Subject, place: TextPlace, text: Text, *, show_harmful: bool) -> tuple[str, ...]:
    """The tokens of a place's window as text; words of a harmful prompt are left out unless asked for."""
    words = []
    for number, token in enumerate(window_tokens(place, text), start=place.start):
        is_hidden = text.is_harmful and not show_harmful and text.first <= number < text.last
        words.append(HIDDEN if is_hidden else subject.tokenizer.decode([token]))
    return tuple(words)


def _courses(
    subject: Subject, watched: Watched, measuring: Measuring | None, options: Explaining, progress: Progress
) -> tuple[AnswerCourse, ...]:
    """The circuit's drive along the model's own answers to development prompts of both sides."""
    if measuring is None or not options.measure:
        return ()
    development = measuring.pairs.development
    decoding = Decoding(max_new_tokens=options.answer_tokens)
    courses = []
    for side, examples in (("positive", development.positive), ("negative", development.negative)):
        prompts = [example.prompt for example in examples[: options.prompts]]
        passages = own_answers(subject, prompts, decoding=decoding, progress=progress)
        sums, counts = [0.0] * (options.answer_tokens + 1), [0] * (options.answer_tokens + 1)
        for rows, lengths, values in activations(subject, watched, [passage.tokens for passage in passages]):
            drive = values @ watched.drive
            for place, (row, length) in enumerate(zip(rows, lengths, strict=True)):
                start = passages[row].prompt_length - 1
                for step, value in enumerate(drive[place, start:length].tolist()):
                    sums[step] += value
                    counts[step] += 1
        reached = [step for step, count in enumerate(counts) if count]
        means = tuple(sums[step] / counts[step] for step in reached)
        courses.append(AnswerCourse(side, len(passages), means, tuple(counts[step] for step in reached)))
    return tuple(courses)


def _worded(
    explanation: CircuitExplanation,
    reading: CorpusReading,
    where: tuple[Subject, Corpus],
    wording: Wording,
    progress: Progress,
) -> CircuitExplanation:
    """The same with what a model says of each shown neuron, and of the circuit's drive."""
    subject, corpus = where
    places = range(len(reading.watched.channels))
    judged = put_into_words(subject, corpus, reading.places, list(places), wording, progress=progress)
    neurons = [replace(neuron, words=words) for neuron, words in zip(explanation.neurons, judged, strict=False)]
    return replace(explanation, neurons=tuple(neurons), words=judged[-1])


def _place_of(circuit: Circuit, channel: int) -> tuple[int, ...]:
    neuron = circuit.rows[channel].neuron
    return (neuron.layer, *neuron.place)
