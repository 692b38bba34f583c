"""What was tried on every causal model type of transformers: `known_models.json`, made by the tests. Torch-free."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from neurodial.errors import UnknownNameError, near_names

if TYPE_CHECKING:
    from neurodial.model.layout import Layout

CAPABILITIES = ("discover", "steer", "dose", "trace", "lora", "ia3", "weights", "gguf")
"""What is tried on each type; `dose` stands for everything that needs gradients at the neurons."""
Mlp = Literal["dense", "mixed", "routed", "none"]
YES = "yes"
TABLE = Path(__file__).with_name("known_models.json")


@dataclass(frozen=True)
class BlockNames:
    """What the blocks of a model type call their parts, so that tensors in files can be told without the model.

    Attributes:
        blocks: the list that they stand in, such as `layers`.
        down: the maps whose inputs are neurons, as paths in the block.
        up: the maps that feed them.
        gate: the maps that feed them through the activation, where there is a gate.
        writes: where attention writes.
        fused: gate and up are the first and the second half of one map.
        transposed: weights are stored as (in, out).
        up_rows_scale: scaling a row of up scales its neuron exactly.
        adds_one: norms multiply by one plus their weight.
    """

    blocks: str
    down: tuple[str, ...]
    up: tuple[str, ...]
    gate: tuple[str, ...]
    writes: tuple[str, ...]
    fused: bool
    transposed: bool
    up_rows_scale: bool
    adds_one: bool

    @classmethod
    def of(cls, layout: Layout) -> BlockNames:
        """Those of a measured layout.

        Example:
            >>> from neurodial.model.tiny import tiny_subject
            >>> names = BlockNames.of(tiny_subject("phi3").layout)
            >>> names.blocks, names.up, names.fused
            ('layers', ('mlp.gate_up_proj',), True)
        """
        sites = [site for _, site in layout.sites]
        halves = all(not site.fused or (site.gate and site.gate.part) == "first" for site in sites)
        feeding = {
            name: tuple(dict.fromkeys(rows.path for rows in every if rows is not None and halves))
            for name, every in (("up", [site.up for site in sites]), ("gate", [site.gate for site in sites]))
        }
        fused = halves and any(site.fused for site in sites)
        return cls(
            blocks=layout.blocks[0].path.split(".")[-2],
            down=tuple(dict.fromkeys(site.down for site in sites)),
            up=feeding["up"],
            gate=() if fused else feeding["gate"],
            writes=tuple(dict.fromkeys(write.path for block in layout.blocks for write in block.attention)),
            fused=fused,
            transposed=any(site.transposed for site in sites),
            up_rows_scale=bool(sites) and all(site.up_rows_scale for site in sites),
            adds_one=any("plus_one" in norm.kind for block in layout.blocks for norm in block.norms),
        )


@dataclass(frozen=True)
class KnownModel:
    """A model type and what can be done with it.

    Attributes:
        name: `model_type` of its configuration.
        kind: `text`, or `image and text`, of which the text part is used.
        neurons: the maps whose inputs are neurons, those of routed experts too, and what is not covered; empty where
            nothing was found.
        mlp: what its MLPs are: `dense` (shared ones too), `mixed` with routed experts beside, `routed` experts alone,
            `none`; None where it could not be tried.
        told: for each capability `yes`, or why not; empty where nothing could be tried.
        absent: why nothing could be tried, None otherwise.
        block_names: what its blocks call their parts; None where nothing was found.
    """

    name: str
    kind: Literal["text", "image and text"]
    neurons: str
    mlp: Mlp | None
    told: Mapping[str, str]
    absent: str | None
    block_names: BlockNames | None = None

    @property
    def works(self) -> bool:
        """Whether neurons can be found and steered."""
        return self.told.get("discover") == YES and self.told.get("steer") == YES

    @property
    def reasons(self) -> dict[str, str]:
        """Why each capability is absent."""
        return {name: text for name, text in self.told.items() if text != YES}


@cache
def known_models() -> tuple[KnownModel, ...]:
    """Every type that was tried, text first.

    Example:
        >>> next(model for model in known_models() if model.name == "llama").neurons
        'mlp.down_proj'
    """
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    kinds: tuple[Literal["text", "image and text"], ...] = ("text", "image and text")
    return tuple(_model(name, kind, row) for kind in kinds for name, row in table[kind].items())


def tried_with() -> str:
    """The version of transformers whose types were tried."""
    return str(json.loads(TABLE.read_text(encoding="utf-8"))["transformers"])


def tried_model(name: str) -> KnownModel | None:
    """The row of a model type, text first; None where no such type was tried."""
    return next((model for model in known_models() if model.name == name), None)


def known_model(name: str, others: Iterable[str] = ()) -> KnownModel:
    """The row of a model type.

    Args:
        name: `model_type` of its configuration.
        others: further names that could have been meant.

    Raises:
        UnknownNameError: no such type was tried.
    """
    model = tried_model(name)
    if model is None:
        names = {*(known.name for known in known_models()), *others}
        near = near_names(name, names, listed_by="neurodial models")
        raise UnknownNameError(
            f"The model type {name!r} was not tried.",
            fix=f"{near} Other types work where a layout is found: load the model and see.",
        )
    return model


def _model(name: str, kind: Literal["text", "image and text"], row: Mapping[str, Any]) -> KnownModel:
    absent = row.get("refused") or row.get("not built")
    told = {capability: row[capability] for capability in CAPABILITIES if capability in row}
    if "not built" in row:
        absent = f"No small model of it could be built to try: {absent}"
    named = row.get("block_names")
    fields: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in (named or {}).items()}
    names = BlockNames(**fields) if fields else None
    return KnownModel(name, kind, row.get("neurons", ""), row.get("mlp"), told, absent, names)
