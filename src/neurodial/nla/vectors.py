"""Vectors that can be put into words: activations, what steering changes, what a circuit writes, a contrast's vector.

All are vectors of the residual stream after one block. "Layer 20" is the output of block 20, counted from 0, which
transformers lists as hidden state 21.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from neurodial.activations.batches import batches
from neurodial.activations.collect import Reading, collect, pad_id
from neurodial.activations.position import Last, Position, PostInstruction
from neurodial.circuit.circuit import Circuit
from neurodial.circuit.site import Site, places
from neurodial.errors import VerbaliserError
from neurodial.intervention.base import Intervention
from neurodial.intervention.scale import check_fits
from neurodial.intervention.steer import steer
from neurodial.methods.vectors.differences import last_token_vectors
from neurodial.model.hooks import on_block_output
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.pairs import Contrast
from neurodial.prompts.prompt import Prompt
from neurodial.prompts.render import Tokens, check_context

VectorKind = Literal["activation", "direction"]
EARLY = 10
"""Positions up to this one have seen little and decode badly."""


@dataclass(frozen=True, eq=False)
class NamedVector:
    """A vector of the residual stream.

    Attributes:
        name: what it is.
        vector: as it is.
        kind: an activation, which is held against the mean of many; or a direction, such as a difference of two.
        notes: what a reader has to know of it.
    """

    name: str
    vector: Float[Tensor, "hidden"]
    kind: VectorKind
    notes: tuple[str, ...] = ()


@torch.no_grad()
def block_outputs(
    subject: Subject, sequences: Sequence[Tokens], layer: int, *, progress: Progress = silent
) -> list[Float[Tensor, "token hidden"]]:
    """The stream after a block at every token of every sequence, in float32 on the CPU.

    Raises:
        ContextLengthError: a sequence is longer than the context.
        VerbaliserError: a value is not finite.
    """
    check_context([len(sequence) for sequence in sequences], subject.context_length)
    found: list[Tensor] = [torch.empty(0)] * len(sequences)
    seen: list[Tensor] = []
    handle = on_block_output(subject, layer, seen.append)
    try:
        with progress(f"reading block {layer}", len(sequences)) as advance:
            for batch in batches(sequences, pad=pad_id(subject)):
                seen.clear()
                subject.decoder(input_ids=batch.tokens.to(subject.device), use_cache=False)
                states = seen[0].detach().float().cpu()
                for place, (row, length) in enumerate(zip(batch.rows, batch.lengths, strict=True)):
                    found[row] = states[place, :length].clone()
                advance(len(batch.rows))
    finally:
        handle.remove()
    if not all(bool(torch.isfinite(each).all()) for each in found):
        raise VerbaliserError(
            f"Block {layer} of {subject.label} gives NaN or infinite values.", wanted="finite numbers",
            fix="float16 overflows in many models: load with dtype bfloat16 or float32.",
        )  # fmt: skip
    return found


def token_vectors(
    subject: Subject, tokens: Tokens, positions: Sequence[Position], layer: int, *, under: Intervention | None = None
) -> list[NamedVector]:
    """Activations at chosen tokens of a prompt; with an intervention, the difference steered less unsteered.

    Args:
        subject: the model.
        tokens: a rendered prompt.
        positions: which tokens.
        layer: after which block.
        under: what steers.

    Raises:
        ActivationError: the prompt has no such token.
        VerbaliserError: steering changes nothing there.

    Example:
        >>> import neurodial as nd
        >>> from neurodial.model.tiny import tiny_subject
        >>> [found] = nd.token_vectors(tiny_subject(), (256, 65, 66), [nd.Last()], 1)
        >>> found.name, found.kind
        ("token 2 'c'", 'activation')
    """
    [states] = block_outputs(subject, [tokens], layer)
    steered = None
    if under is not None:
        with steer(subject, under):
            [steered] = block_outputs(subject, [tokens], layer)
    found = []
    known = [PostInstruction(subject.post_instruction_length) if p == PostInstruction() else p for p in positions]
    for place in dict.fromkeys(place for position in known for place in position.read(len(tokens))):
        name = f"token {place} {subject.tokenizer.decode([tokens[place]])!r}"
        notes = [f"among the first {EARLY} tokens, which decode badly"] if place < EARLY else []
        if steered is None:
            found.append(NamedVector(name, states[place], "activation", tuple(notes)))
            continue
        change = steered[place] - states[place]
        if not bool(change.any()):
            raise VerbaliserError(
                f"Steering changes nothing after block {layer} at {name}.",
                wanted=f"neurons in the blocks 0 to {layer}, and a dial other than 0",
            )
        share = float(change.norm() / states[place].norm())
        notes.append(f"steering moves the activation by {share:.1%} of its length")
        found.append(NamedVector(f"steered less unsteered, {name}", change, "direction", tuple(notes)))
    return found


def written_vector(
    subject: Subject, circuit: Circuit, contrast: Contrast, layer: int, *, force: bool = False
) -> NamedVector:
    """The sum of what a circuit's neurons write, each times its dose and its difference of means on both sides.

    Neurons after `layer` write into the same stream and are part of the sum; a note says how many.

    Raises:
        ModelMismatchError: the circuit was made on another model.
        VerbaliserError: the sum is zero.
        ModelError: a neuron's column can't be read.
    """
    check_fits(circuit, subject, force=force)
    means = [_means(subject, circuit, [e.prompt for e in side]) for side in (contrast.positive, contrast.negative)]
    written = torch.zeros(subject.hidden_size)
    for site, rows in circuit.sites.items():
        doses = torch.tensor([row.dose for row in rows], dtype=torch.float64)
        change = (doses * (means[0][site] - means[1][site])).float()
        written += subject.down_columns(site, [row.neuron.number(subject.shape(site)) for row in rows]) @ change
    if not bool(written.any()):
        raise VerbaliserError(f"What {circuit.name!r} writes adds up to nothing.", wanted="doses other than 0")
    late = sum(row.neuron.layer > layer for row in circuit)
    notes = (f"{late} of {len(circuit)} neurons lie after block {layer}",) if late else ()
    return NamedVector(f"what {circuit.name} writes", written, "direction", notes)


def _means(subject: Subject, circuit: Circuit, prompts: Sequence[Prompt]) -> dict[Site, Float64[Tensor, "neuron"]]:
    """The mean activation of a circuit's neurons at the last token, by site."""
    sums = {site: torch.zeros(len(rows), dtype=torch.float64) for site, rows in circuit.sites.items()}
    chosen: dict[Site, tuple[Any, ...]] = {
        site: (slice(None), *places(row.neuron for row in rows)) for site, rows in circuit.sites.items()
    }

    def add(site: Site, values: Float[Tensor, "row *neuron"], rows: tuple[int, ...]) -> None:
        del rows
        if site in sums:
            sums[site] += values[chosen[site]].double().sum(dim=0).cpu()

    collect(subject, subject.render(prompts), Reading(Last()), add)
    return {site: total / len(prompts) for site, total in sums.items()}


def contrast_vector(subject: Subject, contrast: Contrast, layer: int, name: str) -> NamedVector:
    """The vector of contrastive activation addition: the difference of means at the last token after a block."""
    vector = last_token_vectors(subject, contrast)[0, layer].float()
    if not bool(vector.any()):
        raise VerbaliserError(f"Both sides of {name} have the same mean after block {layer}.")
    return NamedVector(f"contrast of {name}", vector, "direction")


def stored_vector(path: Path, layer: int, width: int) -> NamedVector:
    """A steering vector from a file, of the pair's layer and width.

    Raises:
        VerbaliserError: the file has none for this layer, or of another width.
        FileError: the file can't be read.
        ExportError: it holds something else.
    """
    from neurodial.export.vector_file import read_vectors

    found = {vector.layer: vector.vector for vector in read_vectors(path)}
    if layer not in found:
        raise VerbaliserError(
            f"{path} holds vectors for the layers {', '.join(map(str, sorted(found)))}.",
            wanted=f"one for block {layer}, which the pair is about",
        )
    if found[layer].numel() != width:
        raise VerbaliserError(f"The vector of {path} has {found[layer].numel()} numbers.", wanted=str(width))
    return NamedVector(f"{path.name}, layer {layer}", found[layer], "direction")
