"""The vectors of a circuit in the words of a natural-language autoencoder: which, and how a page shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from neurodial.circuit.circuit import Circuit
from neurodial.evaluation.report.page import Column, Section, Table
from neurodial.explain.corpus import SIDES, Corpus
from neurodial.intervention.scale import Scale
from neurodial.intervention.steer import steer
from neurodial.model.subject import Subject
from neurodial.nla.options import Verbalising
from neurodial.nla.pair import NlaPair
from neurodial.nla.rebuilt import RebuiltScore
from neurodial.nla.vector_words import VectorWords, activation_reference, put_vectors_into_words, scale_note
from neurodial.nla.vectors import NamedVector, block_outputs
from neurodial.progress import Progress, silent
from neurodial.prompts.prompt import Prompt

_TEXTS = 16  # of a side, for the mean change

_VECTOR_COLUMNS = (
    Column("words"),
    Column("variance explained", "Of the vector, rebuilt from the words alone; 1 is all, 0 what the baseline reaches."),
    Column("cosine", "Of the vector and what is rebuilt; where all activations look alike, it says nothing alone."),
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
    pair = wording.pair
    pair.check_subject(subject, force=force)
    layer, notes = pair.layer, []
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
    reference = activation_reference(
        subject, wording.reference, layer, wording.options, name=wording.name, progress=progress
    )
    if (note := scale_note(pair, reference)) is not None:
        notes.append(note)
    return put_vectors_into_words(pair, vectors, reference, wording.options, progress=progress), tuple(notes)


def vector_section(vectors: Sequence[VectorWords]) -> Section:
    """The circuit's vectors in words: every text with its score, and the controls in the same table."""
    tables = []
    for vector in vectors:
        rows: list[tuple[str | float | None, ...]] = [
            (f"{' '.join(s.text.split())}{f' [{s.problem}]' if s.problem else ''}", *_rebuilt(s.score))
            for s in vector.samples
        ]
        rows += [("(words of another activation)", *_rebuilt(vector.shuffled)), ("(the mean)", *_rebuilt(vector.mean))]
        caption = "; ".join((f"{vector.name}: {vector.verdict}", *vector.notes))
        tables.append(Table(_VECTOR_COLUMNS, tuple(rows), caption))
    return Section("Its vectors in words", (_AUTOENCODER,) if tables else (), tables=tuple(tables))


def _rebuilt(score: RebuiltScore | None) -> tuple[float | None, float | None]:
    return (None, None) if score is None else (score.explained, score.cosine)
