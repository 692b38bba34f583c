"""The vectors of a circuit in the words of a natural-language autoencoder: which, and how a page shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from neurodial.activations.position import Index
from neurodial.circuit.circuit import Circuit
from neurodial.circuit.site import Neuron
from neurodial.evaluation.report.page import Column, Section, Table
from neurodial.explain.corpus import SIDES, Corpus
from neurodial.explain.places import TextPlace
from neurodial.intervention.scale import Scale
from neurodial.intervention.steer import steer
from neurodial.model.subject import Subject
from neurodial.nla.options import Verbalising
from neurodial.nla.pair import NlaPair
from neurodial.nla.rebuilt import RebuiltScore
from neurodial.nla.vector_words import VectorWords, activation_reference, put_vectors_into_words, scale_note
from neurodial.nla.vectors import NamedVector, block_outputs, token_vectors
from neurodial.progress import Progress, silent
from neurodial.prompts.prompt import Prompt

_TEXTS = 16  # of a side, for the mean change

_VECTOR_COLUMNS = (
    Column("variance explained", "Of the vector, rebuilt from the words alone; 1 is all, 0 what the baseline reaches."),
    Column("cosine", "Of the vector and what is rebuilt; where all activations look alike, it says nothing alone."),
    Column("words"),
)
_AUTOENCODER = (
    "One model says what a vector holds, another rebuilds the vector from these words. Details and quotes are often "
    "made up: trust no words that score like the controls, and nothing that stands in one text alone."
)


@dataclass(frozen=True)
class VectorWording:
    """With what a circuit's vectors are put into words.

    Attributes:
        pair: verbaliser and reconstructor.
        reference: ordinary prompts, for the mean activation and the controls.
        name: where those are from.
        options: how many texts, and how long.
    """

    pair: NlaPair
    reference: tuple[Prompt, ...]
    name: str = ""
    options: Verbalising = Verbalising()  # noqa: RUF009  # a frozen value


def circuit_vectors(
    subject: Subject,
    circuit: Circuit,
    corpus: Corpus,
    direction: Float[Tensor, "hidden"],
    wording: VectorWording,
    *,
    force: bool = False,
    progress: Progress = silent,
) -> tuple[tuple[VectorWords, ...], tuple[str, ...]]:
    """What the circuit writes, and what dial 1 changes after the pair's block, in words; and notes.

    Args:
        subject: the model.
        circuit: what is explained.
        corpus: texts at whose last token the change is measured, those of the positive side where there are some.
        direction: the sum of what the circuit writes.
        wording: with what.
        force: use a circuit or a pair of another model.
        progress: shown while it runs.

    Raises:
        VerbaliserError: the pair is for another model, is damaged, or does not answer.
    """
    wording.pair.check_subject(subject, force=force)
    vectors, notes = circuit_directions(subject, circuit, corpus, direction, wording.pair.layer, force=force)
    said, more = vectors_in_words(subject, vectors, wording, progress=progress)
    return said, (*notes, *more)


def circuit_directions(
    subject: Subject,
    circuit: Circuit,
    corpus: Corpus,
    direction: Float[Tensor, "hidden"],
    layer: int,
    *,
    force: bool = False,
) -> tuple[list[NamedVector], tuple[str, ...]]:
    """What the circuit writes, and what dial 1 changes after a block; and notes."""
    notes = []
    late = sum(row.neuron.layer > layer for row in circuit)
    of_late = (f"{late} of {len(circuit)} neurons lie after block {layer}",) if late else ()
    vectors = [NamedVector("what the circuit writes", direction, "direction", of_late)]
    side = next(side for side in SIDES if corpus.count(side))
    sequences = [text.tokens for text in corpus.texts if text.side == side][:_TEXTS]
    with steer(subject, Scale(circuit, 1.0, force=force)):
        steered = block_outputs(subject, sequences, layer)
    change = torch.stack(
        [
            after[-1] - before[-1]
            for after, before in zip(steered, block_outputs(subject, sequences, layer), strict=True)
        ]
    ).mean(dim=0)
    if bool(change.any()):
        what = f"steered less unsteered at dial 1, mean of {len(sequences)} {side} texts"
        vectors.append(NamedVector(what, change, "direction"))
    else:
        notes.append(f"dial 1 changes nothing after block {layer}: all neurons lie after it")
    return vectors, tuple(notes)


def neuron_vectors(
    subject: Subject, neuron: Neuron, place: TextPlace | None, corpus: Corpus, layer: int
) -> list[NamedVector]:
    """What a unit of a neuron's activation writes, and the activation after a block at a place where it fires.

    Args:
        subject: the model.
        neuron: which.
        place: where it fires; None for nowhere.
        corpus: the texts of the place.
        layer: of the activation.

    Raises:
        ModelError: the neuron's column can't be read.
    """
    column = subject.down_columns(neuron.site, [neuron.number(subject.shape(neuron.site))])[:, 0]
    late = (f"it lies after block {layer}",) if neuron.layer > layer else ()
    vectors = [NamedVector("what a unit of the neuron's activation writes", column, "direction", late)]
    if place is not None:
        tokens = corpus.texts[place.text].tokens
        [found] = token_vectors(subject, tokens, [Index(place.position)], layer)
        vectors.append(replace(found, name=f"the activation where it fires strongest, {found.name}"))
    return vectors


def vectors_in_words(
    subject: Subject, vectors: Sequence[NamedVector], wording: VectorWording, *, progress: Progress = silent
) -> tuple[tuple[VectorWords, ...], tuple[str, ...]]:
    """Some vectors in words; and a note where the pair may be of another layer.

    Raises:
        VerbaliserError: the pair is damaged, a vector is zero, or the server does not answer.
    """
    pair, layer = wording.pair, wording.pair.layer
    reference = activation_reference(
        subject, wording.reference, layer, wording.options, name=wording.name, progress=progress
    )
    note = scale_note(pair, reference)
    said = put_vectors_into_words(pair, vectors, reference, wording.options, progress=progress)
    return said, () if note is None else (note,)


def vector_section(vectors: Sequence[VectorWords]) -> Section:
    """The circuit's vectors in words: every text with its score, and the controls in the same table."""
    tables = []
    for vector in vectors:
        rows: list[tuple[str | float | None, ...]] = [
            (*_rebuilt(s.score), f"{' '.join(s.text.split())}{f' [{s.problem}]' if s.problem else ''}")
            for s in vector.samples
        ]
        rows += [(*_rebuilt(vector.shuffled), "(words of another activation)"), (*_rebuilt(vector.mean), "(the mean)")]
        caption = "; ".join((f"{vector.name}: {vector.verdict}", *vector.notes))
        tables.append(Table(_VECTOR_COLUMNS, tuple(rows), caption))
    return Section("Its vectors in words", (_AUTOENCODER,) if tables else (), tables=tuple(tables))


def _rebuilt(score: RebuiltScore | None) -> tuple[float | None, float | None]:
    return (None, None) if score is None else (score.explained, score.cosine)
