"""A verbaliser and its reconstructor: checked by their files first, then loaded one at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from neurodial.errors import VerbaliserError
from neurodial.evaluation.detectors.endpoint import Endpoint
from neurodial.model.damage import DAMAGE, error_text
from neurodial.model.load import load
from neurodial.model.shortened import shortened_config
from neurodial.model.stored_shape import StoredShape, shape_of, stored_shape
from neurodial.model.subject import Subject
from neurodial.nla.meta import NlaMeta, read_meta
from neurodial.nla.reconstructor import HEAD_FILE, Reconstructor, read_head
from neurodial.nla.verbaliser import LiveVerbaliser, ServedVerbaliser, Verbaliser


@dataclass(frozen=True)
class NlaPair:
    """A verbaliser and its reconstructor, not loaded yet.

    Attributes:
        speaker: what the verbaliser's files say of it.
        rebuilder: what the reconstructor's files say of it.
        layer: the block whose output both are about, from 0.
        shape: of the verbaliser, which is a tuned copy of the base.
        endpoint: a server that runs the verbaliser; None to load it here.
        loading: how both are loaded: arguments of `neurodial.load`, such as dtype and device.
    """

    speaker: NlaMeta
    rebuilder: NlaMeta
    layer: int
    shape: StoredShape
    endpoint: Endpoint | None = None
    loading: Mapping[str, Any] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """Of the vectors."""
        return self.speaker.width

    def check_base(self, shape: StoredShape, label: str, *, force: bool = False) -> None:
        """Refuse a model that the pair was not made for, as far as sizes tell.

        Args:
            shape: of the model.
            label: how the user named it.
            force: use the pair all the same, where the width allows.

        Raises:
            VerbaliserError: says what differs.
        """
        ours = self.shape
        differ = [
            f"{name} {theirs} against {mine}"
            for name, theirs, mine in (
                ("model type", shape.model_type, ours.model_type), ("width", shape.width, self.width),
                ("blocks", shape.layers, ours.layers), ("vocabulary", shape.vocabulary, ours.vocabulary),
            )
            if theirs != mine
        ]  # fmt: skip
        if differ and (not force or shape.width != self.width or self.layer >= shape.layers):
            raise VerbaliserError(
                f"{self.speaker.source} was not made for {label}: {'; '.join(differ)}.",
                wanted=f"a pair for {label}",
                fix="A model that has none gets one by `neurodial nla train`. A model of the same width can be tried "
                "with --force-model (of the studio: --force; in Python: force=True).",
            )

    def check_subject(self, subject: Subject, *, force: bool = False) -> None:
        """The same for a loaded model; a pair that says which weights it was made for is held to that.

        Raises:
            VerbaliserError: says what differs.
        """
        self.check_base(shape_of(subject.model.config), subject.label, force=force)
        base, label = self.speaker.base, self.speaker.base.get("label")
        theirs = {"digest": subject.identity.digest, "adapter_digest": subject.identity.adapter_digest}
        differ = [
            f"{name} {_short(base[name])} against {_short(d)}" for name, d in theirs.items() if base.get(name, d) != d
        ]
        if differ and not force:
            raise VerbaliserError(
                f"{self.speaker.source} was made for {label} with other weights than {subject.label} "
                f"({'; '.join(differ)}).",
                wanted=f"the model that it was made for: {label}",
                fix="For a fine-tuned copy, say --force-model (of the studio: --force; in Python: force=True) and look "
                "at the scores.",
            )

    def verbaliser(self) -> Verbaliser:
        """Load the verbaliser, its tokenizer first.

        Raises:
            VerbaliserError: its tokenizer does not put the marker where the meta file says.
            ModelError: it can't be loaded.
        """
        from transformers import AutoConfig, AutoTokenizer

        source, injection = self.speaker.source, self.speaker.injection
        if injection is None:
            raise VerbaliserError(f"{source} is no verbaliser.", wanted="one that says how vectors are put in")
        try:
            tokenizer = AutoTokenizer.from_pretrained(source)
        except DAMAGE as error:
            raise VerbaliserError(f"The tokenizer of {source} can't be loaded: {error_text(error)}") from error
        injection.check(tokenizer, source)
        if self.endpoint is None:
            return LiveVerbaliser(load(source, tokenizer=tokenizer, **self.loading), injection)
        config = shortened_config(AutoConfig.from_pretrained(source), 1)
        first = load(source, tokenizer=tokenizer, config=config, may_lack_head=True, **self.loading)
        return ServedVerbaliser(self.endpoint, first, injection)

    def reconstructor(self) -> Reconstructor:
        """Load the reconstructor, its map first.

        Raises:
            VerbaliserError: the map is missing or of another width, or the blocks are not as many as the layer asks.
            ModelError: it can't be loaded.
        """
        head = read_head(_folder_of(self.rebuilder.source), self.width)
        subject = load(self.rebuilder.source, may_lack_head=True, **self.loading)
        return Reconstructor(subject, head.to(subject.device, subject.dtype), self.rebuilder.template)


def read_pair(
    verbaliser: str | Path, reconstructor: str | Path, *, endpoint: Endpoint | None = None, **loading: Any
) -> NlaPair:
    """A pair by what its small files say; no weight is read.

    Args:
        verbaliser: Hub id or folder with `nla_meta.yaml`.
        reconstructor: the same, of the model that rebuilds vectors.
        endpoint: a server that runs the verbaliser.
        loading: how both are loaded later: arguments of `neurodial.load`.

    Raises:
        VerbaliserError: a file is missing or damaged, or the two are of different width or layer.
        ModelError: a configuration can't be read.

    Example:
        >>> import tempfile
        >>> import neurodial as nd
        >>> from neurodial.model.tiny import tiny_subject
        >>> texts, few = [f"text number {n}" for n in range(6)], nd.Training(layer=0, steps=1, batch_size=1, judged=2)
        >>> made = nd.train_pair(tiny_subject(), texts, f"{tempfile.mkdtemp()}/pair", options=few)
        >>> nd.read_pair(made.verbaliser, made.reconstructor).layer
        0
    """
    speaker, rebuilder = read_meta(verbaliser, "verbaliser"), read_meta(reconstructor, "reconstructor")
    if speaker.width != rebuilder.width:
        raise VerbaliserError(
            f"{speaker.source} has vectors of width {speaker.width}, {rebuilder.source} of {rebuilder.width}.",
            wanted="a verbaliser and a reconstructor that were made together",
        )
    shapes = []
    for meta in (speaker, rebuilder):
        shape = stored_shape(meta.source)
        if shape is None or shape.width != meta.width:
            width = "unknown" if shape is None else shape.width
            raise VerbaliserError(
                f"The weights of {meta.source} are of width {width}, its nla_meta.yaml says {meta.width}.",
                wanted="the file that came with the weights",
            )
        shapes.append(shape)
    layer = shapes[1].layers - 1
    for meta in (speaker, rebuilder):
        if meta.layer not in {None, layer}:
            raise VerbaliserError(
                f"{meta.source} is about the output of block {meta.layer}; {rebuilder.source} has {layer + 1} blocks, "
                f"so it rebuilds that of block {layer}.",
                wanted="a verbaliser and a reconstructor of one layer",
            )
    if layer >= shapes[0].layers:
        raise VerbaliserError(
            f"{speaker.source} has {shapes[0].layers} blocks; its reconstructor is about block {layer}.",
            wanted="a layer that the base has",
        )
    return NlaPair(replace(speaker, layer=layer), replace(rebuilder, layer=layer), layer, shapes[0], endpoint, loading)


def _short(digest: object) -> str:
    return "none" if digest is None else str(digest)[:12]


def _folder_of(source: str) -> Path:
    """The local folder of a reconstructor's map; fetched where the source is a Hub id."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(source, HEAD_FILE)).parent
    except DAMAGE as error:
        raise VerbaliserError(f"{source} has no {HEAD_FILE} that can be read: {error_text(error)}") from error
