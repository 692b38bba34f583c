"""From texts back to vectors: the base's first blocks, read where they end, and one linear map.

The stream after the last block is read at the last token of a short prompt around the text. It is read at the block
itself, so a final norm in the checkpoint changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from neurodial.activations.batches import TOKEN_BUDGET, batches
from neurodial.activations.collect import pad_id
from neurodial.errors import VerbaliserError
from neurodial.model.hooks import on_block_output
from neurodial.model.subject import Subject
from neurodial.prompts.render import Tokens, check_context

HEAD_FILE = "value_head.safetensors"


@dataclass(frozen=True, eq=False)
class Reconstructor:
    """Rebuilds vectors from texts.

    Attributes:
        subject: the base's first blocks.
        head: (hidden, hidden), applied to the stream after the last of them.
        template: a prompt with a place for the text.
    """

    subject: Subject
    head: Float[Tensor, "hidden hidden"]
    template: str

    def tokens(self, text: str) -> Tokens:
        """The prompt around a text, with the tokenizer's special tokens before it."""
        return self.subject.encode(self.template.replace("{explanation}", text))

    @torch.no_grad()
    def vectors(self, texts: Sequence[str]) -> Float[Tensor, "text hidden"]:
        """A vector for each text, in float32 on the CPU.

        Raises:
            ContextLengthError: a text is too long.
        """
        sequences = [self.tokens(text) for text in texts]
        check_context([len(sequence) for sequence in sequences], self.subject.context_length)
        found = torch.zeros(len(texts), self.head.shape[0])
        for batch in batches(sequences, pad=pad_id(self.subject), budget=TOKEN_BUDGET):
            ends = last_states(self.subject, batch.tokens, batch.lengths)
            found[list(batch.rows)] = (ends.to(self.head) @ self.head.T).float().cpu()
        return found


def last_states(subject: Subject, tokens: Tensor, lengths: Sequence[int]) -> Float[Tensor, "row hidden"]:
    """The stream after the last block at each row's last token; rows are padded on the right."""
    seen: list[Tensor] = []
    handle = on_block_output(subject, subject.layers - 1, seen.append)
    try:
        subject.decoder(input_ids=tokens.to(subject.device), use_cache=False)
    finally:
        handle.remove()
    return seen[0][torch.arange(len(lengths)), torch.tensor(lengths) - 1]


def read_head(folder: Path, width: int) -> Float[Tensor, "hidden hidden"]:
    """The linear map of a reconstructor's folder.

    Raises:
        VerbaliserError: the file is missing, damaged or of another width.
    """
    from neurodial.model.damage import DAMAGE, error_text

    path = folder / HEAD_FILE
    try:
        from safetensors.torch import load_file

        tensors = load_file(path)
    except DAMAGE as error:
        raise VerbaliserError(
            f"{path} can't be read: {error_text(error)}", wanted="the map of a reconstructor, beside its weights"
        ) from error
    [head] = tensors.values() if len(tensors) == 1 else [torch.empty(0)]
    if tuple(head.shape) != (width, width):
        raise VerbaliserError(
            f"{path} holds {', '.join(f'{name} {tuple(tensor.shape)}' for name, tensor in tensors.items())}.",
            wanted=f"one matrix of {width} by {width}",
        )
    return head
