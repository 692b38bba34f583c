"""PEFT adapters that are exactly a circuit (METHOD: exactness of export), written without importing PEFT.

LoRA on the down projection of a layer with neurons j_1 … j_n:
1. `A` (rank, neuron): row k is one-hot at j_k. It picks neuron j_k's activation.
2. `B` (hidden, rank): column k is `-x_k W[:, j_k]`. It takes `x_k` times what the neuron writes back out.
3. Every layer is padded with zeros to the rank of the widest one: engines read one rank best.
4. `lora_alpha = strength * rank`, so that an engine's strength 1 is the default dial.
5. Routed experts are one parameter: `A` holds the rows of every expert, one expert after the other, `B` the columns,
   those of one rank side by side. Their rank is the largest number of neurons in one expert.

IA3 on the down projection's input: the vector of multipliers itself, fixed at the dial it is written for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from neurodial.circuit.site import Site
from neurodial.export.recipe import Recipe
from neurodial.files import write_atomic
from neurodial.model.subject import Subject

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


class LowRank(NamedTuple):
    """A low-rank change of one down projection: `W + scale * up @ down`."""

    down: Float[Tensor, "rank in"]
    up: Float[Tensor, "out rank"]


def low_rank(subject: Subject, recipe: Recipe, site: Site) -> LowRank:
    """The matrices of one layer at strength 1, float32, padded to the recipe's rank.

    Raises:
        ModelError: the columns of the down projection can't be read.
    """
    doses = recipe.doses[site.layer]
    indices = list(doses)
    picks = torch.zeros(recipe.rank, subject.widths[site.layer])
    picks[range(len(indices)), indices] = 1.0
    writes = torch.zeros(subject.hidden_size, recipe.rank)
    dose = torch.tensor(list(doses.values()), dtype=torch.float64)
    writes[:, : len(indices)] = (-dose * subject.down_columns(site, indices).double()).float()
    return LowRank(picks, writes)


def low_rank_experts(subject: Subject, recipe: Recipe, layer: int) -> LowRank:
    """The matrices of a layer's routed experts as PEFT reads them, (rank * expert, neuron) and (hidden, rank * expert).

    Raises:
        ModelError: the experts' down weight can't be read.
    """
    experts, site = subject.experts(layer), Site(layer, routed=True)
    weight = subject.down_weight(site).detach()
    picks = torch.zeros(experts.experts, recipe.rank, experts.width)
    writes = torch.zeros(subject.hidden_size, recipe.rank, experts.experts)
    used = [0] * experts.experts
    for (expert, index), dose in recipe.routed[layer].items():
        picks[expert, used[expert], index] = 1.0
        writes[:, used[expert], expert] = (-dose * weight[expert, :, index].double()).float().cpu()
        used[expert] += 1
    module = subject.blocks[layer].get_submodule(experts.module)
    if experts.transposed and not getattr(module, "is_transposed", False):  # PEFT takes it for (hidden, neuron)
        return LowRank(writes.permute(2, 1, 0).flatten(0, 1), picks.permute(2, 1, 0).flatten(1))
    return LowRank(picks.flatten(0, 1), writes.flatten(1))


def write_lora(subject: Subject, recipe: Recipe, folder: Path, *, base: str) -> None:
    """Write a LoRA adapter for PEFT, transformers and vLLM into an existing folder.

    Args:
        subject: the model whose columns are taken.
        recipe: doses and default strength.
        folder: where the two files go.
        base: what the adapter's configuration calls the base model.
    """
    tensors: dict[str, Tensor] = {}
    parameters = []
    changes = [(f"{subject.down_name(site)}.weight", low_rank(subject, recipe, site)) for site in recipe.sites]
    changes += [(subject.experts_name(layer), low_rank_experts(subject, recipe, layer)) for layer in recipe.routed]
    for parameter, matrices in changes:
        parameters.append(parameter)
        module = parameter.rpartition(".")[0]
        tensors[f"base_model.model.{module}.lora_A.weight"] = matrices.down.contiguous()
        tensors[f"base_model.model.{module}.lora_B.weight"] = matrices.up.contiguous()
    config = {
        "peft_type": "LORA",
        "r": recipe.rank,
        "lora_alpha": recipe.strength * recipe.rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "rank_pattern": {},
        "alpha_pattern": {},
        "use_rslora": False,
    }
    shared = _shared(subject, [parameter.rpartition(".")[0] for parameter in parameters], base)
    if any(block.routed for block in subject.layout.blocks):
        # PEFT takes the names of modules in such models for those of their routed experts; names of parameters stay.
        shared |= {"target_modules": [], "target_parameters": parameters}
    _write(folder, tensors, config | shared)


def read_low_rank(subject: Subject, folder: Path) -> dict[Site, LowRank]:
    """The matrices of a LoRA adapter's files as they act at strength 1, its scale put into `up`."""
    from safetensors.torch import load_file

    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    scale = config["lora_alpha"] / config["r"]
    tensors = load_file(folder / WEIGHTS)
    matrices = {}
    for site in subject.dense_sites:
        key = f"base_model.model.{subject.down_name(site)}"
        if f"{key}.lora_A.weight" in tensors:
            up = tensors[f"{key}.lora_B.weight"] * scale
            matrices[site] = LowRank(tensors[f"{key}.lora_A.weight"], up)
    return matrices


def write_ia3(subject: Subject, recipe: Recipe, folder: Path, *, base: str) -> None:
    """Write an IA3 adapter for PEFT into an existing folder; its dial is fixed."""
    tensors: dict[str, Tensor] = {}
    names = []
    for site in recipe.sites:
        multipliers = recipe.multipliers(site.layer)
        vector = torch.ones(1, subject.widths[site.layer], dtype=torch.float64)
        vector[0, list(multipliers)] = torch.tensor(list(multipliers.values()), dtype=torch.float64)
        name = subject.down_name(site)
        names.append(name)
        tensors[f"base_model.model.{name}.ia3_l"] = vector.float()
    config = {"peft_type": "IA3", "feedforward_modules": names, "init_ia3_weights": True}
    _write(folder, tensors, config | _shared(subject, names, base))


def _shared(subject: Subject, names: list[str], base: str) -> dict[str, Any]:
    return {
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "target_modules": names,
        "fan_in_fan_out": any(site.transposed for _, site in subject.layout.sites),
        "inference_mode": True,
        "modules_to_save": None,
    }


def _write(folder: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    from safetensors.torch import save

    content = save({name: tensor.contiguous() for name, tensor in tensors.items()}, {"format": "pt"})
    write_atomic(folder / WEIGHTS, content)
    write_atomic(folder / CONFIG, json.dumps(config, indent=1) + "\n")
