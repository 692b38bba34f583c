"""What identifies a model: a digest of a fixed sample of all weights, of any adapter, of the vocabulary."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch

from neurodial.model.plain_weight import packed_buffers, plain_parts, stored_weight
from neurodial.provenance import ModelIdentity, canonical_json, sha256

_SAMPLES = 64
_RARE_SETTINGS = (
    "alpha_pattern",
    "fan_in_fan_out",
    "feedforward_modules",
    "layers_to_transform",
    "rank_pattern",
    "use_dora",
)


def identify(
    model: Any,
    tokenizer: Any,
    *,
    label: str,
    family: str,
    layout: str,
    widths: tuple[int, ...],
    experts: tuple[tuple[int, int] | None, ...],
    base_digest: str | None,
    adapter_digest: str | None,
    setup: dict[str, Any] | None = None,
) -> ModelIdentity:
    """The identity of a loaded model; `base_digest` replaces the digest of the weights where an adapter was merged."""
    template = getattr(tokenizer, "chat_template", None)
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return ModelIdentity(
        label=label,
        family=family,
        layout=layout,
        digest=base_digest or weights_digest(model),
        adapter_digest=adapter_digest,
        tokenizer_hash=sha256(canonical_json(vocabulary)),
        template_hash=None if template is None else sha256(canonical_json(template)),
        dtype=str(model.dtype).removeprefix("torch."),
        widths=widths,
        experts=experts if any(experts) else (),
        setup=setup or {},
    )


def weights_digest(model: torch.nn.Module) -> str:
    """SHA-256 over names, shapes and 64 evenly spaced elements of every weight, rounded to bfloat16.

    The rounding gives a model the same digest in float32 and in bfloat16. Offloaded weights are read from where
    they are stored.
    """
    return tensors_digest(dict(_weights(model)))


def tensors_digest(tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 over names, shapes and 64 evenly spaced elements of each tensor, rounded to bfloat16."""
    digest = hashlib.sha256()
    parts = dict(part for each in tensors.items() for part in plain_parts(*each))
    for name, tensor in sorted(parts.items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        if tensor.is_meta:
            continue
        flat = tensor.detach().reshape(-1)
        places = torch.linspace(0, flat.numel() - 1, min(_SAMPLES, flat.numel()), dtype=torch.float64).long()
        sample = flat[places.to(flat.device)].cpu()
        if sample.is_floating_point():
            sample = sample.to(torch.bfloat16).view(torch.int16)
        digest.update(sample.contiguous().numpy().tobytes())
    return digest.hexdigest()


def adapter_digest(folder: Path) -> str:
    """SHA-256 over an adapter's tensors and the settings that change its effect."""
    import json

    from safetensors.torch import load_file

    settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    effective = {key: settings.get(key) for key in ("peft_type", "r", "lora_alpha", "use_rslora", "target_modules")}
    # Rarer settings are included where they are set, so that a plain adapter's digest does not depend on this list.
    effective |= {key: settings[key] for key in _RARE_SETTINGS if settings.get(key)}
    for key, value in effective.items():
        if isinstance(value, list):
            effective[key] = sorted(value)
    tensors = load_file(folder / "adapter_model.safetensors")
    return sha256(canonical_json(effective) + tensors_digest(tensors))


def _weights(model: torch.nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Named weights, packed ones in buffers too; those that accelerate has offloaded are taken from its map."""
    tensors = [
        (f"{path}.{name}", buffer)
        for path, module in model.named_modules()
        for name, buffer in packed_buffers(module).items()
    ]
    shared = getattr(model, "all_tied_weights_keys", {})
    partners = shared | {source: name for name, source in shared.items()}
    seen: set[str] = set()
    for name, parameter in model.named_parameters():
        if parameter.is_meta and partners.get(name) in seen:
            continue  # one weight with two names, which offloading takes apart
        seen.add(name)
        path, _, own = name.rpartition(".")
        weight = stored_weight(model.get_submodule(path), own) if parameter.is_meta else parameter
        tensors.append((name, parameter if weight is None else weight))
    return tensors
