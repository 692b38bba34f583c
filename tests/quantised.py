"""Tiny checkpoints in the formats of quantising libraries, and what can be done with a model in each."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import torch
from safetensors.torch import load_file, save_file
from tests.subjects import differences, same_bits, snapshot
from tests.zoo_checks import (
    HIDDEN,
    SHOWN,
    TEXTS,
    TOLERANCE,
    circuit_on,
    expect,
    exported,
    gap,
    off_by,
    outputs,
    rows_of,
    told,
)
from tests.zoo_checks import dose as slopes_are_differences

import neurodial as nd
from neurodial.discovery import find
from neurodial.errors import NeurodialError
from neurodial.intervention.scale import Scale
from neurodial.model.plain_weight import plain_parts
from neurodial.model.subject import Subject
from neurodial.model.tiny import tiny_model, tiny_tokenizer

SIZES = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "head_dim": 32,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
"""Wide enough for the blocks that packed weights come in."""
GROUP = 32
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)

Options = dict[str, Any]


@dataclass(frozen=True)
class Format:
    """A format of quantised weights.

    Attributes:
        make: writes a checkpoint into a folder and gives the path to load and the options of `nd.load`.
        package: the library that reads it, None where transformers does alone.
        note: what explains its row in the table.
    """

    make: Callable[[Path], tuple[Path, Options]]
    package: str | None = None
    note: str | None = None

    @property
    def is_here(self) -> bool:
        """Whether its library is installed."""
        if self.package is None:
            return True
        return any(importlib.util.find_spec(name) for name in _IMPORTED.get(self.package, (self.package,)))

    @property
    def version(self) -> str | None:
        """The installed version of its library."""
        return None if self.package is None else importlib.metadata.version(self.package)


_IMPORTED = {"optimum-quanto": ("optimum",), "compressed-tensors": ("compressed_tensors",)}


def plain(folder: Path) -> Path:
    """The checkpoint that is quantised."""
    tiny_model("llama", **SIZES).save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    return folder


def _tokenizer() -> Any:
    return tiny_tokenizer(chat=False)


def _on_loading(settings: Callable[[], Any], *, saved: bool = True) -> Callable[[Path], tuple[Path, Options]]:
    """Quantise with the library while loading; saved and loaded by its path where the library can write."""

    def make(folder: Path) -> tuple[Path, Options]:
        options = {"quantization_config": settings()}
        source = plain(folder / "plain")
        if not saved:
            return source, options
        try:
            subject = nd.load(source, **options)
        except NeurodialError:
            return source, options  # what loads it next is told the same
        subject.model.save_pretrained(folder / "quantised")
        _tokenizer().save_pretrained(folder / "quantised")
        return folder / "quantised", {}

    return make


def _bits_and_bytes(**settings: Any) -> Callable[[], Any]:
    def made() -> Any:
        from transformers import BitsAndBytesConfig

        return BitsAndBytesConfig(**settings)

    return made


def _quanto(weights: str) -> Callable[[], Any]:
    def made() -> Any:
        from transformers import QuantoConfig

        return QuantoConfig(weights=weights)

    return made


def _hqq() -> Any:
    from transformers import HqqConfig

    return HqqConfig(nbits=4, group_size=64)


def _torchao(name: str, **settings: Any) -> Callable[[], Any]:
    def made() -> Any:
        import torchao.quantization
        from transformers import TorchAoConfig

        return TorchAoConfig(getattr(torchao.quantization, name)(**settings))

    return made


# ------------------------------------------------------------------------------------------- written by hand


def _rewritten(
    change: Callable[[str, torch.Tensor], dict[str, torch.Tensor]], settings: dict[str, Any]
) -> Callable[[Path], tuple[Path, Options]]:
    """A checkpoint whose maps' weights are replaced by the tensors that a format keeps them in."""

    def make(folder: Path) -> tuple[Path, Options]:
        plain(folder)
        file, config = folder / "model.safetensors", folder / "config.json"
        tensors = {}
        for name, tensor in load_file(file).items():
            module, _, last = name.rpartition(".")
            packed = last == "weight" and module.endswith("_proj")
            tensors.update(change(module, tensor) if packed else {name: tensor})
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file, metadata={"format": "pt"})
        values = json.loads(config.read_text(encoding="utf-8")) | {"quantization_config": settings}
        config.write_text(json.dumps(values), encoding="utf-8")
        return folder, {}

    return make


def _packed(numbers: torch.Tensor, order: tuple[int, ...] = tuple(range(8))) -> torch.Tensor:
    """Eight numbers of four bits in each int32, along the last axis."""
    eights = numbers.to(torch.int64).unflatten(-1, (-1, 8))
    words = sum(eights[..., place] << (4 * shift) for shift, place in enumerate(order))
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)


def _in_groups(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers 0 to 15 as (in, out), 8 being zero, and scales (group, out)."""
    groups = weight.T.unflatten(0, (-1, GROUP))
    scales = groups.abs().amax(dim=1) / 7
    numbers = (groups / scales[:, None] + 8).round().clamp(0, 15)
    return numbers.flatten(0, 1), scales


def _gptq(module: str, weight: torch.Tensor) -> dict[str, torch.Tensor]:
    numbers, scales = _in_groups(weight)
    zeros = torch.full((len(scales), len(weight)), 7)  # this format keeps the zero less one
    return {
        f"{module}.qweight": _packed(numbers.T).T,
        f"{module}.qzeros": _packed(zeros),
        f"{module}.scales": scales.half(),
        f"{module}.g_idx": torch.arange(weight.shape[1], dtype=torch.int32) // GROUP,
    }


def _awq(module: str, weight: torch.Tensor) -> dict[str, torch.Tensor]:
    numbers, scales = _in_groups(weight)
    return {
        f"{module}.qweight": _packed(numbers, _AWQ_ORDER),
        f"{module}.qzeros": _packed(torch.full((len(scales), len(weight)), 8), _AWQ_ORDER),
        f"{module}.scales": scales.half(),
    }


def _fp8(module: str, weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """Blocks of 128 times 128, each with a scale."""
    rows, columns = weight.shape
    size = [min(128, rows), min(128, columns)]
    blocks = weight.unflatten(0, (-1, size[0])).unflatten(2, (-1, size[1]))
    scales = blocks.abs().amax(dim=(1, 3), keepdim=True) / 448
    numbers = (blocks / scales).flatten(2, 3).flatten(0, 1).to(torch.float8_e4m3fn)
    return {f"{module}.weight": numbers, f"{module}.weight_scale_inv": scales[:, 0, :, 0]}


def _compressed(weights: dict[str, Any], layout: str) -> Callable[[Path], tuple[Path, Options]]:
    """Written by compressed-tensors itself."""

    def make(folder: Path) -> tuple[Path, Options]:
        from compressed_tensors.compressors import ModelCompressor
        from compressed_tensors.quantization import (
            QuantizationArgs,
            QuantizationConfig,
            QuantizationScheme,
            apply_quantization_config,
        )

        scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**weights))
        config = QuantizationConfig(config_groups={"all": scheme}, ignore=["lm_head"], format=layout)
        model = tiny_model("llama", **SIZES)
        apply_quantization_config(model, config)
        largest = 448 if weights.get("type") == "float" else 2 ** (weights["num_bits"] - 1) - 1
        for module in model.modules():
            if hasattr(module, "weight_scale"):
                groups = module.weight.unflatten(1, (-1, weights.get("group_size") or module.weight.shape[1]))
                module.weight_scale.data = groups.abs().amax(dim=2).detach() / largest
        compressor = ModelCompressor(quantization_config=config)
        compressor.compress_model(model)
        model.save_pretrained(folder)
        compressor.update_config(folder)
        _tokenizer().save_pretrained(folder)
        return folder, {}

    return make


def add_shape(writer: gguf.GGUFWriter, config: Any) -> None:
    """What a GGUF header says of the shape of any model of these tests."""
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)


def _gguf(folder: Path) -> tuple[Path, Options]:
    """A llama in Q8_0; the rows of queries and keys as llama.cpp's converter orders them."""
    model = tiny_model("llama", vocab_size=264, **SIZES)
    config, file = model.config, folder / "model.gguf"
    folder.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(file, "llama")
    add_shape(writer, config)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    tokenizer = _tokenizer()
    known = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([*known, "ab", *(f"<{number}>" for number in range(len(known) + 1, config.vocab_size))])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
        rows = tensor if heads is None else tensor.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)
        kind = gguf.GGMLQuantizationType.F32 if tensor.dim() == 1 else gguf.GGMLQuantizationType.Q8_0
        data = gguf.quantize(rows.numpy(), kind)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file, {"tokenizer": _tokenizer()}


_INTEGERS = {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": True}

FORMATS: dict[str, Format] = {
    "bitsandbytes 8 bit": Format(
        _on_loading(_bits_and_bytes(load_in_8bit=True)),
        "bitsandbytes",
        "It rounds activations to 8 bits, together for a batch: small steps of an activation are lost.",
    ),
    "bitsandbytes 4 bit": Format(
        _on_loading(
            _bits_and_bytes(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
        ),
        "bitsandbytes",
    ),
    "GPTQ 4 bit": Format(
        _rewritten(_gptq, {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": False, "sym": True}),
        "gptqmodel",
    ),
    "AWQ 4 bit": Format(
        _rewritten(
            _awq, {"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm"}
        ),
        "gptqmodel",
    ),
    "FP8 in blocks": Format(
        _rewritten(_fp8, {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"})
    ),
    "compressed-tensors int8": Format(_compressed(_INTEGERS, "int-quantized"), "compressed-tensors"),
    "compressed-tensors int4": Format(
        _compressed({**_INTEGERS, "num_bits": 4, "strategy": "group", "group_size": GROUP}, "pack-quantized"),
        "compressed-tensors",
    ),
    "compressed-tensors FP8": Format(
        _compressed({**_INTEGERS, "type": "float"}, "float-quantized"), "compressed-tensors"
    ),
    "torchao int8, weights": Format(_on_loading(_torchao("Int8WeightOnlyConfig")), "torchao"),
    "torchao int8, activations too": Format(_on_loading(_torchao("Int8DynamicActivationInt8WeightConfig")), "torchao"),
    "torchao int4, weights": Format(
        _on_loading(_torchao("Int4WeightOnlyConfig", group_size=GROUP)), "torchao", "It wants mslk."
    ),
    "quanto int8": Format(_on_loading(_quanto("int8"), saved=False), "optimum-quanto"),
    "quanto int4": Format(_on_loading(_quanto("int4"), saved=False), "optimum-quanto"),
    "quanto float8": Format(_on_loading(_quanto("float8"), saved=False), "optimum-quanto"),
    "HQQ 4 bit": Format(_on_loading(_hqq, saved=False), "hqq"),
    "GGUF": Format(_gguf, "gguf"),
}


class Packed(torch.nn.Module):
    """A quantised map: integers and a scale, no weight to read."""

    def __init__(self, linear: torch.nn.Linear, *, is_differentiable: bool = True) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.is_differentiable = is_differentiable
        scale = linear.weight.detach().abs().amax(dim=1, keepdim=True) / 127
        self.register_buffer("packed", (linear.weight.detach() / scale).round().to(torch.int8))
        self.register_buffer("scale", scale)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        """The product, by a kernel with or without a backward pass."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.is_differentiable):
            return torch.nn.functional.linear(given, self.packed * self.scale)


def packed(model: Any, paths: str = "", *, is_differentiable: bool = True) -> Any:
    """The same model, with its blocks' maps packed whose names end so."""
    for name, module in list(model.model.layers.named_modules()):
        if type(module) is torch.nn.Linear and name.endswith(paths):
            model.model.layers.set_submodule(name, Packed(module, is_differentiable=is_differentiable))
    return model


# ------------------------------------------------------------------------------------------- what works


def steer(subject: Subject) -> None:
    """Dial 0 keeps every bit, steering is scaling the down map's input by hand, rows as by themselves, given back."""
    before, row = held(subject.model), rows_of(subject)[3]
    [natural] = outputs(subject, [row])
    circuit = circuit_on(subject)
    with nd.steer(subject, Scale(circuit, dial=0.0)):
        expect(same_bits(outputs(subject, [row])[0], natural), "dial 0 changes bits")
    with nd.steer(subject, Scale(circuit)):
        [steered] = outputs(subject, [row])
    expect(differences(before, held(subject.model)) == [], "the model is not given back as it was")
    expect(off_by(steered, natural) > 10 * TOLERANCE, "steering changes nothing")
    handles = []
    for site in subject.sites:
        factors = torch.ones(subject.shape(site), dtype=subject.dtype)
        for entry in circuit:
            if entry.neuron.site == site:
                factors[entry.neuron.index] -= entry.dose
        change = lambda _, given, factors=factors: (given[0] * factors, *given[1:])  # noqa: E731
        handles.append(subject.down(site).register_forward_pre_hook(change))
    expect(same_bits(outputs(subject, [row])[0], steered), "steering is not scaling the down map's input")
    for handle in handles:
        handle.remove()
    rows, dials = rows_of(subject), [0.0, 1.0, -1.0, 0.5]
    with nd.steer(subject, Scale(circuit, dial=dials)):
        together = outputs(subject, rows)
    for each, dial, found in zip(rows, dials, together, strict=True):
        with nd.steer(subject, Scale(circuit, dial=dial)):
            error = off_by(found, outputs(subject, [each])[0])
        expect(error < bound(subject), f"a row of a batch is off from itself alone by {error:.1g}")


def held(model: torch.nn.Module) -> dict[str, Any]:
    """`snapshot`, the plain tensors instead of those of a library's class."""
    found: dict[str, Any] = {}
    for key, value in snapshot(model).items():
        found |= dict(plain_parts(key, value)) if isinstance(value, torch.Tensor) else {key: value}
    return found


def bound(subject: Subject) -> float:
    """The tolerance of the zoo in the precision that the model computes in, or what a batch does to it unsteered."""
    rounding = TOLERANCE * torch.finfo(subject.dtype).eps / torch.finfo(torch.float32).eps
    return max(rounding, 2 * by_batch(subject))


def by_batch(subject: Subject) -> float:
    """How far a row of a batch is off from itself alone, unsteered: what the library's own rounding does."""
    rows = rows_of(subject)
    pairs = zip(outputs(subject, rows), (outputs(subject, [row])[0] for row in rows), strict=True)
    return max(off_by(together, alone) for together, alone in pairs)


def discover(subject: Subject) -> None:
    """The scores of CNA are those read by hand, one prompt at a time."""
    contrast = nd.Contrast.of([text + SHOWN for text in TEXTS], [text + HIDDEN for text in TEXTS])
    found = find(subject, contrast, method=nd.CNA(universal=None, folds=0), select=nd.Count(1))
    for site in subject.sites:
        error = off_by(found.scores[site], gap(subject, site))
        expect(error < bound(subject), f"scores are off from those read by hand by {error:.1g}")


CHECKS: dict[str, Callable[[Subject], None]] = {
    "discover": discover,
    "steer": steer,
    "dose": slopes_are_differences,
    "lora": exported("lora"),
    "weights": exported("weights"),
    "gguf": exported("gguf"),
}


def quantised_row(name: str) -> dict[str, Any]:
    """A format's row of the table: how its weights are held, and each capability."""
    form = FORMATS[name]
    found: dict[str, Any] = {"library": form.package, "version": form.version, "note": form.note}
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        source, options = form.make(Path(folder))
        try:
            subject = nd.load(source, **options)
        except NeurodialError as error:
            return found | {"absent": error.problem.replace(str(source), "It")}
        packed = (
            {type(subject.down(site)).__name__ for site in subject.dense_sites} if subject.quantised_maps else set()
        )
        found["weights are"] = f"packed ({', '.join(packed)})" if packed else "dequantised on loading"
        found["a batch moves a row by"] = float(f"{by_batch(subject):.1g}")
        return found | {check: told(each, subject).replace(str(source), "The model") for check, each in CHECKS.items()}
