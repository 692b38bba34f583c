"""From vectors to texts, by a model on this machine or behind an engine that takes embeddings.

1. The template of `nla_meta.yaml` with the marker in it is rendered as one user message and tokenised in one step.
2. The residual stream before the first block is taken as the model makes it, so a factor on embeddings (Gemma's root of
   the width) is in it, and no position but the marker's is touched.
3. There it becomes the vector at the length that the meta file names; that is checked at every prompt.
4. The model answers; what stands between `<explanation>` and `</explanation>` is the text.
"""

from __future__ import annotations

import base64
import io
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from neurodial.errors import VerbaliserError
from neurodial.evaluation.detectors.endpoint import Endpoint, ask_each
from neurodial.generation.decoding import Decoding
from neurodial.generation.generate import sampled_answers
from neurodial.model.hooks import on_embedding
from neurodial.model.subject import Subject
from neurodial.nla.injection import Injection
from neurodial.nla.options import Verbalising
from neurodial.progress import Progress, silent
from neurodial.prompts.render import Tokens

OPEN, CLOSE = "<explanation>", "</explanation>"
_WHOLE = re.compile(f"{OPEN}(.*?){CLOSE}", re.DOTALL)
_ROWS = 16  # answers of one batch
_IDEOGRAPHS = re.compile("[\u3400-\u9fff\uf900-\ufaff]")


class SaidText(NamedTuple):
    """A text about a vector.

    Attributes:
        text: what was said; empty where nothing came.
        problem: what is wrong with it, or None.
    """

    text: str
    problem: str | None = None


def said_text(answer: str) -> SaidText:
    """The explanation in a verbaliser's answer, and what is wrong with it.

    Example:
        >>> said_text("<explanation> on pears </explanation>").text, said_text("<explanation>on pe").problem
        ('on pears', 'cut off: no closing tag')
    """
    whole = _WHOLE.search(answer)
    text = whole[1] if whole else answer.partition(OPEN)[2] or answer
    text = text.strip()
    if not text:
        return SaidText("", "no text came")
    letters = [letter for letter in text if letter.isalpha()]
    if letters and sum(bool(_IDEOGRAPHS.match(letter)) for letter in letters) > len(letters) / 2:
        return SaidText(text, "in Chinese characters, as when the marker itself is read: the injection may have failed")
    if whole:
        return SaidText(text)
    return SaidText(text, "cut off: no closing tag" if OPEN in answer else "no <explanation> tag")


class Verbaliser(ABC):
    """Puts vectors into words."""

    @abstractmethod
    def texts(
        self, vectors: Float[Tensor, "vector hidden"], options: Verbalising, *, progress: Progress = silent
    ) -> list[list[SaidText]]:
        """As many texts for each vector as `options.samples`.

        Raises:
            VerbaliserError: a vector is zero or not finite, or nothing answers.
        """


@dataclass(frozen=True, eq=False)
class LiveVerbaliser(Verbaliser):
    """A verbaliser that is loaded here.

    Attributes:
        subject: the model.
        injection: how vectors are put in.
    """

    subject: Subject
    injection: Injection

    @property
    def prompt(self) -> tuple[Tokens, int]:
        """The rendered prompt, and where the marker stands.

        Raises:
            VerbaliserError: the marker does not stand where the meta file says.
        """
        [tokens] = self.subject.render([self.injection.prompt])
        return tokens, self.injection.place(tokens, self.subject.tokenizer, self.subject.label)

    def texts(
        self, vectors: Float[Tensor, "vector hidden"], options: Verbalising, *, progress: Progress = silent
    ) -> list[list[SaidText]]:
        """Sampled with the vectors in the rows of batches."""
        answers = self.answers(vectors, options, progress=progress)
        said = [said_text(str(self.subject.tokenizer.decode(list(answer)))) for answer in answers]
        return [said[start : start + options.samples] for start in range(0, len(said), options.samples)]

    def answers(
        self, vectors: Float[Tensor, "vector hidden"], options: Verbalising, *, progress: Progress = silent
    ) -> list[Tokens]:
        """The tokens of the same, without their end: all samples of the first vector, then of the next."""
        scaled = self.injection.scaled(vectors).repeat_interleave(options.samples, dim=0)
        tokens, place = self.prompt
        found: list[Tokens] = []
        with progress("putting vectors into words", len(scaled)) as advance:
            for number, rows in enumerate(scaled.split(_ROWS)):
                decoding = Decoding(options.max_tokens, options.temperature, seed=options.seed + number)
                edit = _Replace(rows, len(tokens), place)
                handle = on_embedding(self.subject, edit)
                try:
                    found += sampled_answers(self.subject, tokens, len(rows), decoding)
                finally:
                    handle.remove()
                edit.check()
                advance(len(rows))
        return found


@dataclass(eq=False)
class _Replace:
    """Replaces the stream at the marker while the prompt is read, and only then."""

    rows: Float[Tensor, "row hidden"]
    length: int
    place: int
    times: int = 0

    def __call__(self, hidden: Tensor) -> Tensor | None:
        if hidden.shape[1] != self.length:
            return None  # a generated token
        self.times += 1
        replaced = hidden.clone()
        replaced[:, self.place] = self.rows.to(hidden.device, hidden.dtype)
        return replaced

    def check(self) -> None:
        """Refuse words that were said without the vector.

        Raises:
            VerbaliserError: the prompt did not pass once and whole.
        """
        if self.times != 1:
            raise VerbaliserError(
                f"The prompt passed the first block {self.times} times, so the vector was not put in once.",
                wanted="a model that reads its prompt in one pass",
            )


@dataclass(frozen=True, eq=False)
class ServedVerbaliser(Verbaliser):
    """A verbaliser behind an OpenAI-compatible server that takes `prompt_embeds`, as vLLM's does.

    The server has to be started for it (vLLM: `--enable-prompt-embeds`). Only the first block is loaded here, for what
    comes before it.

    Attributes:
        endpoint: address and name.
        first: the verbaliser's first block, with its tokenizer.
        injection: how vectors are put in.
    """

    endpoint: Endpoint
    first: Subject
    injection: Injection

    def texts(
        self, vectors: Float[Tensor, "vector hidden"], options: Verbalising, *, progress: Progress = silent
    ) -> list[list[SaidText]]:
        """One request for each text."""
        tokens, place = LiveVerbaliser(self.first, self.injection).prompt
        stream = _stream(self.first, tokens)
        bodies = []
        for row in self.injection.scaled(vectors):
            prompt = stream.clone()
            prompt[place] = row.to(prompt.dtype)
            packed = _packed(prompt)
            bodies += [
                {
                    "model": self.endpoint.model, "prompt": "", "prompt_embeds": packed, "seed": options.seed + number,
                    "max_tokens": options.max_tokens, "temperature": options.temperature, "skip_special_tokens": False,
                }
                for number in range(options.samples)
            ]  # fmt: skip
        with progress("putting vectors into words", len(bodies)) as advance:
            answers = ask_each(replace(self.endpoint, max_tokens=options.max_tokens), "completions", bodies, _Text)
            advance(len(bodies))
        said = [
            said_text(answer.text) if isinstance(answer, _Text) else SaidText("", answer.removeprefix("judge "))
            for answer in answers
        ]
        silent_ones = [text.problem for text in said if not text.text and text.problem != "no text came"]
        if silent_ones:
            raise VerbaliserError(
                f"{self.endpoint.url} gave {len(silent_ones)} of {len(said)} texts not: {silent_ones[0]}.",
                wanted="a server whose /completions takes prompt_embeds",
                fix="Is it up, does it serve this model, and was it started with --enable-prompt-embeds (vLLM)?",
            )
        return [said[start : start + options.samples] for start in range(0, len(said), options.samples)]


@dataclass(frozen=True)
class _Text:
    text: str


@torch.no_grad()
def _stream(subject: Subject, tokens: Tokens) -> Float[Tensor, "token hidden"]:
    """The residual stream before the first block."""
    seen: list[Tensor] = []
    handle = on_embedding(subject, seen.append)
    try:
        subject.decoder(input_ids=torch.tensor([tokens], device=subject.device), use_cache=False)
    finally:
        handle.remove()
    return seen[0][0].detach().cpu()


def _packed(prompt: Float[Tensor, "token hidden"]) -> str:
    """A tensor as such servers read it: torch's own file, in base64."""
    buffer = io.BytesIO()
    torch.save(prompt.contiguous().clone(), buffer)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
