"""Vectors in words with their scores: several texts each, beside the text of another activation, and the mean.

1. The verbaliser says some texts about each vector, and one about each of some activations that have nothing to do with
   it. Then it is let go, and the reconstructor is loaded.
2. Every text is turned back into a vector and scored against the vector it is about.
3. Controls: the texts about other activations scored against the same vector, and the mean activation itself. Words
   that score no better than these say nothing of the vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from neurodial.errors import PromptError
from neurodial.model.subject import Subject
from neurodial.nla.options import Verbalising
from neurodial.nla.pair import NlaPair
from neurodial.nla.rebuilt import ActivationReference, RebuiltScore, mean_score, rebuilt_score
from neurodial.nla.vectors import NamedVector, block_outputs
from neurodial.progress import Progress, silent
from neurodial.prompts.prompt import Prompt

_ODD = 3.0  # times longer or shorter than an ordinary activation


@dataclass(frozen=True)
class WordSample:
    """One text about a vector.

    Attributes:
        text: what was said.
        score: how well the vector is rebuilt from it; None where no text came.
        problem: what is wrong with the text.
    """

    text: str
    score: RebuiltScore | None
    problem: str | None = None


@dataclass(frozen=True)
class VectorWords:
    """A vector in words.

    Attributes:
        name: what the vector is.
        kind: activation or direction.
        samples: the texts, each with its score.
        score: their mean.
        shuffled: the mean score of texts about other activations.
        mean: the score of the mean activation.
        baseline: squared error that explained variance is counted against.
        notes: what a reader has to know.
    """

    name: str
    kind: str
    samples: tuple[WordSample, ...]
    score: RebuiltScore | None
    shuffled: RebuiltScore | None
    mean: RebuiltScore
    baseline: float
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """How far the words are to be trusted, in words."""
        if self.score is None:
            return "no text could be scored"
        shown = f"variance explained {self.score.explained:.2f} (cosine {self.score.cosine:.2f})"
        controls = max(self.mean.explained, self.shuffled.explained if self.shuffled else self.mean.explained)
        other = "–" if self.shuffled is None else f"{self.shuffled.explained:.2f}"
        told = f"{shown}; another activation's words {other}, the mean {self.mean.explained:.2f}"
        if self.score.explained <= controls:
            return f"{told}: no better than the controls, so the words say nothing of this vector"
        return told


def activation_reference(
    subject: Subject,
    prompts: Sequence[Prompt],
    layer: int,
    options: Verbalising | None = None,
    *,
    name: str = "",
    progress: Progress = silent,
) -> ActivationReference:
    """Activations after a block over ordinary texts: of each text, tokens after the first few, evenly spread.

    Args:
        subject: the model.
        prompts: the texts.
        layer: after which block.
        options: how many texts, and how many tokens are skipped.
        name: where the texts are from.
        progress: shown while it runs.

    Raises:
        PromptError: there are no texts.
        VerbaliserError: all activations are alike.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> activation_reference(tiny_subject(), ["one text", "another"], 1).vectors.shape
        torch.Size([8, 16])
    """
    options = options or Verbalising()
    chosen = list(prompts)[: options.reference]
    if not chosen:
        raise PromptError("There are no texts for the reference.", wanted="a list of prompts (--reference-texts)")
    rows = []
    for states in block_outputs(subject, subject.render(chosen), layer, progress=progress):
        late = states[min(options.skip, len(states) - 1) :]
        rows.append(late[torch.linspace(0, len(late) - 1, min(4, len(late))).round().long()])
    return ActivationReference(torch.cat(rows), name)


def put_vectors_into_words(
    pair: NlaPair,
    vectors: Sequence[NamedVector],
    reference: ActivationReference,
    options: Verbalising | None = None,
    *,
    progress: Progress = silent,
) -> tuple[VectorWords, ...]:
    """What a pair says of some vectors, with scores and controls.

    Args:
        pair: verbaliser and reconstructor; loaded one after the other.
        vectors: what is put into words.
        reference: ordinary activations of the same layer of the same model.
        options: how many texts.
        progress: shown while it runs.

    Raises:
        VerbaliserError: the pair is damaged, a vector is zero or of another width, or the server does not answer.

    Example:
        >>> import tempfile
        >>> import neurodial as nd
        >>> from neurodial.model.tiny import tiny_subject
        >>> texts, few = [f"text number {n}" for n in range(6)], nd.Training(layer=0, steps=1, batch_size=1, judged=2)
        >>> made = nd.train_pair(tiny_subject(), texts, f"{tempfile.mkdtemp()}/pair", options=few)
        >>> pair, subject = nd.read_pair(made.verbaliser, made.reconstructor), tiny_subject()
        >>> vectors = nd.token_vectors(subject, subject.encode("some text"), [nd.Last()], pair.layer)
        >>> ordinary = nd.activation_reference(subject, ["one text", "another"], pair.layer)
        >>> [words] = nd.put_vectors_into_words(pair, vectors, ordinary, nd.Verbalising(samples=2, max_tokens=4))
        >>> len(words.samples)
        2
    """
    options = options or Verbalising()
    others = reference.others(options.controls, options.seed)
    about = torch.stack([named.vector.float() for named in vectors])
    verbaliser = pair.verbaliser()
    said = verbaliser.texts(about, options, progress=progress)
    apart = Verbalising(1, options.max_tokens, options.temperature, options.seed, options.controls)
    controls = [text.text for [text] in verbaliser.texts(others, apart, progress=progress) if text.text]
    del verbaliser  # two models of the base's size need not be held at once
    reconstructor = pair.reconstructor()
    texts = list(dict.fromkeys([*(text.text for row in said for text in row if text.text), *controls]))
    rebuilt = dict(zip(texts, reconstructor.vectors(texts), strict=True)) if texts else {}
    found = []
    for named, row in zip(vectors, said, strict=True):
        baseline = reference.mean_error if named.kind == "activation" else 1.0

        def score(text: str, named: NamedVector = named, baseline: float = baseline) -> RebuiltScore | None:
            return rebuilt_score(named.vector, rebuilt[text], baseline) if text else None

        samples = tuple(WordSample(text.text, score(text.text), text.problem) for text in row)
        found.append(
            VectorWords(
                name=named.name,
                kind=named.kind,
                samples=samples,
                score=mean_score([sample.score for sample in samples if sample.score is not None]),
                shuffled=mean_score([each for text in controls if (each := score(text)) is not None]),
                mean=rebuilt_score(named.vector, reference.mean, baseline),
                baseline=baseline,
                notes=(*named.notes, *_odd_length(named, reference)),
            )
        )
    return tuple(found)


def scale_note(pair: NlaPair, reference: ActivationReference) -> str | None:
    """A sentence where the pair's length for vectors is far from this layer's: it may be of another layer or model."""
    injection = pair.speaker.injection
    if injection is None or 1 / _ODD <= injection.scale / reference.length <= _ODD:
        return None
    return (
        f"the pair takes vectors at length {injection.scale:g}, but block {pair.layer} of this model has a median of "
        f"{reference.length:.3g}: is it the pair of another layer or model?"
    )


def _odd_length(named: NamedVector, reference: ActivationReference) -> tuple[str, ...]:
    ratio = float(named.vector.norm()) / reference.length
    if named.kind == "direction" or 1 / _ODD <= ratio <= _ODD:
        return ()
    return (f"{ratio:.2g} times as long as an ordinary activation: such tokens decode badly",)


def words_json(words: Sequence[VectorWords], pair: NlaPair, reference: ActivationReference) -> dict[str, Any]:
    """All of it, for programs."""
    return {
        "format": "neurodial.words",
        "version": 1,
        "verbaliser": pair.speaker.source,
        "reconstructor": pair.rebuilder.source,
        "layer": pair.layer,
        "reference": {"name": reference.name, "activations": len(reference.vectors), "error": reference.mean_error},
        "vectors": [{**asdict(each), "verdict": each.verdict} for each in words],
    }
