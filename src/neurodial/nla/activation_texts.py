"""Activations of a layer over texts, each with the text around its token: what a pair is trained and judged on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from neurodial.errors import OptionError, PromptError
from neurodial.model.subject import Subject
from neurodial.nla.train_options import Training
from neurodial.nla.vectors import block_outputs
from neurodial.progress import Progress, silent
from neurodial.prompts.render import Tokens
from neurodial.provenance import canonical_json, sha256


@dataclass(frozen=True, eq=False)
class ActivationTexts:
    """Activations with words.

    Attributes:
        vectors: one for each token that was chosen.
        around: the text around that token.
        near: the text around a token some way off, in the same text.
    """

    vectors: Float[Tensor, "vector hidden"]
    around: tuple[str, ...]
    near: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.around)


@dataclass(frozen=True, eq=False)
class SplitTexts:
    """What is learned from, and what is held out: no text is on both sides.

    Attributes:
        train: to learn from.
        held_out: to judge by.
        digest: SHA-256 of the texts.
    """

    train: ActivationTexts
    held_out: ActivationTexts
    digest: str


def layer_of(subject: Subject, options: Training) -> int:
    """The layer: as asked for, or at two thirds of the depth.

    Raises:
        OptionError: the model has no such block.
    """
    layer = max(0, round(2 * subject.layers / 3) - 1) if options.layer is None else options.layer
    if layer >= subject.layers:
        raise OptionError(f"layer is {layer}.", wanted=f"0 to {subject.layers - 1}, the blocks of {subject.label}")
    return layer


def read_activation_texts(
    subject: Subject, texts: Sequence[str], layer: int, options: Training, *, progress: Progress = silent
) -> SplitTexts:
    """Activations at a few tokens of every text.

    Args:
        subject: the model.
        texts: to read.
        layer: after which block.
        options: which tokens, how much around them.
        progress: shown while it runs.

    Raises:
        PromptError: there are too few texts to learn from some and judge by others.
    """
    unique = list(dict.fromkeys(text for text in texts if text.strip()))
    held = max(2, round(options.held_out * len(unique)))
    if len(unique) < held + 2:
        raise PromptError(
            f"There are {len(unique)} different texts.",
            wanted=f"at least {held + 2}: some to learn from, {held} to judge by",
        )
    order = random.Random(options.seed).sample(range(len(unique)), len(unique))
    rendered = subject.render(unique) if options.chat else [subject.encode(text) for text in unique]
    sequences = [tokens[: options.context] for tokens in rendered]
    parts = [
        _read(subject, [sequences[number] for number in sorted(part)], layer, options, progress)
        for part in (order[held:], order[:held])
    ]
    return SplitTexts(parts[0], parts[1], sha256(canonical_json(unique)))


def _read(
    subject: Subject, sequences: list[Tokens], layer: int, options: Training, progress: Progress
) -> ActivationTexts:
    generator = random.Random(options.seed)
    vectors, around, near = [], [], []
    for tokens, states in zip(sequences, block_outputs(subject, sequences, layer, progress=progress), strict=True):
        places = range(min(options.skip, len(tokens) - 1), len(tokens))
        for place in sorted(generator.sample(places, min(options.per_text, len(places)))):
            vectors.append(states[place])
            around.append(_around(subject, tokens, place, options))
            other = place - options.neighbour if place >= options.neighbour else place + options.neighbour
            near.append(_around(subject, tokens, min(other, len(tokens) - 1), options))
    return ActivationTexts(torch.stack(vectors), tuple(around), tuple(near))


def _around(subject: Subject, tokens: Tokens, place: int, options: Training) -> str:
    shown = tokens[max(0, place - options.before + 1) : place + options.after + 1]
    text = str(subject.tokenizer.decode(list(shown), skip_special_tokens=True)).strip()
    return text.replace("<explanation>", "").replace("</explanation>", "") or "nothing"
