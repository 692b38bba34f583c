"""Loading: Hub id, local folder, GGUF file, `demo`, or a live model; a PEFT adapter on top where one is named."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from neurodial.errors import MissingPackageError, ModelError
from neurodial.model.families import family_of
from neurodial.model.identity import adapter_digest, weights_digest
from neurodial.model.subject import Adapter, Subject

_log = logging.getLogger("neurodial")


def load(
    source: str | Path | Any,
    *,
    tokenizer: Any = None,
    adapter: str | Path | None = None,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
    device_map: Any = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    **model_options: Any,
) -> Subject:
    """Load a model to read and steer.

    Args:
        source: a Hub id, a local folder, the path of a GGUF file, `demo` (the small model with the refusal
            organism), `demo-base` (the small model alone), or a live transformers model.
        tokenizer: the tokenizer; needed with a live model, else found beside the model.
        adapter: folder of a PEFT adapter to apply; merged into the weights unless the base is quantised.
        dtype: a torch dtype or its name; by default the checkpoint's own, float32 for GGUF.
        device: where to put the model.
        device_map: passed to transformers, to spread or offload a large model.
        revision: the Hub revision.
        trust_remote_code: run code that the repository brings. Off unless asked.
        model_options: passed to `from_pretrained`, for example `quantization_config`.

    Raises:
        ModelError: nothing is found at `source`, the adapter or the device is not there, or the options contradict
            each other.
        UnknownFamilyError: no family record describes the model; checked before the weights are read.

    Example:
        >>> from neurodial.model.tiny import tiny_model, tiny_tokenizer
        >>> load(tiny_model("qwen2"), tokenizer=tiny_tokenizer()).family.name
        'qwen2'
    """
    if device is not None and device_map is not None:
        raise ModelError("Both device and device_map are given.", wanted="one of them")
    if adapter is not None:
        _check_adapter(Path(adapter))
    if device is not None:
        _check_device(device)
    options = {"device_map": device_map, "revision": revision, "trust_remote_code": trust_remote_code, **model_options}
    options = {key: value for key, value in options.items() if value is not None and value is not False}
    if isinstance(source, str | Path):
        if str(source) in {"demo", "demo-base"}:
            from neurodial.model.demo import demo_parts

            path, demo_adapter = demo_parts(str(source))
            adapter = adapter if adapter is not None else demo_adapter
        else:
            path = Path(source)
        model, found = _from_name(path, _dtype(dtype), options)
        label, place = str(source), str(path)
    else:
        model, found, place = source, None, None
        label = str(getattr(source, "name_or_path", "") or type(source).__name__)
        if tokenizer is None:
            raise ModelError("A live model came without its tokenizer.", fix="Pass tokenizer=…")
    model = model.to(device) if device is not None else model
    return _subject(model, tokenizer or found, adapter, {"label": label, "source": place})


def _subject(model: Any, tokenizer: Any, adapter: str | Path | None, names: dict[str, Any]) -> Subject:
    model.eval()
    if adapter is None:
        return Subject.of(model, tokenizer, **names)
    folder = Path(adapter)
    _check_adapter(folder)
    digest = weights_digest(model)
    model, merged = _apply_adapter(model, folder)
    applied = Adapter(str(folder), adapter_digest(folder), merged)
    return Subject.of(model, tokenizer, adapter=applied, base_digest=digest, **names)


def _check_adapter(folder: Path) -> None:
    if not (folder / "adapter_config.json").is_file():
        raise ModelError(
            f"{folder} is not an adapter.", wanted="a folder with adapter_config.json and adapter_model.safetensors"
        )


def _check_device(device: str | torch.device) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ModelError(
            f"The device {str(device)!r} can't be used: {reason}.", wanted="such as cpu or cuda"
        ) from error


def _apply_adapter(model: Any, folder: Path) -> tuple[Any, bool]:
    from peft import PeftModel

    quantised = bool(getattr(model, "is_quantized", False) or getattr(model, "quantization_method", None))
    wrapped = PeftModel.from_pretrained(model, str(folder))
    if quantised:
        wrapped.eval()
        return wrapped.get_base_model(), False
    return wrapped.merge_and_unload(safe_merge=True).eval(), True


def _from_name(path: Path, dtype: torch.dtype | str, options: dict[str, Any]) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

    is_gguf = path.suffix == ".gguf"
    if is_gguf and not path.is_file():
        raise ModelError(f"There is no GGUF file {path}.", wanted="the path of a GGUF file")
    name = str(path.parent) if is_gguf else str(path)
    shared: dict[str, Any] = {key: options[key] for key in ("revision", "trust_remote_code") if key in options}
    if is_gguf:
        shared["gguf_file"] = path.name
        dtype = torch.float32 if dtype == "auto" else dtype
    try:
        config = AutoConfig.from_pretrained(name, **shared)
        family_of(config.get_text_config())
        kind = AutoModelForCausalLM
        if type(config) not in AutoModelForCausalLM._model_mapping:
            kind = AutoModelForImageTextToText
        model = kind.from_pretrained(name, dtype=dtype, **(options | shared))
        tokenizer = AutoTokenizer.from_pretrained(name, **shared)
    except (OSError, ValueError, ImportError) as error:
        raise _not_loaded(path, error) from error
    if is_gguf:
        _forget_gguf(model)
    return model, tokenizer


def _forget_gguf(model: Any) -> None:
    """The weights are dequantised: an ordinary model, so drop what would keep save_pretrained from working."""
    model.hf_quantizer = None
    if getattr(model.config, "quantization_config", None) is not None:
        del model.config.quantization_config
    model.is_quantized = False
    model.quantization_method = None


def _not_loaded(path: Path, error: Exception) -> ModelError:
    if isinstance(error, ImportError):
        return MissingModelPackageError.of(path, error)
    text = str(error).splitlines()[0]
    local = path.exists()
    return ModelError(
        f"{path} can't be loaded: {text}",
        wanted="a Hub id, a folder with config.json and weights, a GGUF file, demo, or demo-base",
        fix=(
            "Is the folder complete?"
            if local
            else "There is no such local path; for a Hub id, check the spelling, the network (or HF_HUB_OFFLINE) "
            "and, for gated models, your token."
        ),
    )


class MissingModelPackageError(ModelError, MissingPackageError):
    """Loading this model needs a package that is not installed."""

    @classmethod
    def of(cls, path: Path, error: ImportError) -> MissingModelPackageError:
        """The error for what an import said."""
        return cls(f"{path} needs a package that is not installed: {error}", fix="Install it with pip and try again.")


def _dtype(dtype: str | torch.dtype | None) -> torch.dtype | str:
    if dtype is None or dtype == "auto":
        return "auto"
    if isinstance(dtype, torch.dtype):
        return dtype
    found = getattr(torch, dtype.removeprefix("torch."), None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ModelError(f"The dtype is {dtype!r}.", wanted="auto, float32, bfloat16 or float16")
    return found
