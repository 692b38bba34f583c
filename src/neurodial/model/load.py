"""Loading: Hub id, local folder, GGUF file, `demo`, or a live model; a PEFT adapter on top where one is named."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from neurodial.errors import LayoutError, MissingPackageError, ModelError
from neurodial.model.adapter import apply_adapter, check_adapter
from neurodial.model.damage import DAMAGE, error_text
from neurodial.model.gguf_header import expert_widths, read_once
from neurodial.model.known_models import tried_model
from neurodial.model.plain_weight import is_quantised
from neurodial.model.quiet import quiet_bars
from neurodial.model.subject import Subject
from neurodial.model.which_model import DEMO_NAMES, refuse_no_model
from neurodial.prompts.template import PLAIN, Template


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
    template: Template = PLAIN,
    may_lack_head: bool = False,
    **model_options: Any,
) -> Subject:
    """Load a model to read and steer.

    Args:
        source: a Hub id, a local folder, the path of a GGUF file, `demo` (the small model with the refusal
            organism), `demo-base` (the small model alone), or a live transformers model.
        tokenizer: the tokenizer; needed with a live model, else found beside the model.
        adapter: folder of a PEFT adapter to apply; merged into the weights (a live model's too) unless the base is
            quantised.
        dtype: a torch dtype or its name; by default the checkpoint's own, float32 for GGUF.
        device: where to put the model.
        device_map: passed to transformers, to spread or offload a large model.
        revision: the Hub revision.
        trust_remote_code: run code from the repository; off by default.
        template: variables of the chat template, and the markers of thinking where they can't be found.
        may_lack_head: take a checkpoint that lacks weights behind its blocks (final norm, output head), which are
            then random: for models whose blocks alone are read.
        model_options: passed to `from_pretrained`, for example `quantization_config`.

    Raises:
        ModelError: nothing is found at `source`, it is damaged, the adapter or the device is not there or does not
            fit, or the options contradict each other.
        OptionError: the chat template has no variable of a name in `template`.
        LayoutError: no neurons are found in the model, or it is built in a way that can't be used.

    Example:
        >>> from neurodial.model.tiny import tiny_model, tiny_tokenizer
        >>> load(tiny_model("qwen2"), tokenizer=tiny_tokenizer()).layout.label
        'qwen2'
    """
    if device is not None and device_map is not None:
        raise ModelError("Both device and device_map are given.", wanted="one of them")
    if adapter is not None:
        check_adapter(Path(adapter).expanduser())
    if device is not None:
        _check_device(device)
    options = {"device_map": device_map, "revision": revision, "trust_remote_code": trust_remote_code, **model_options}
    options = {key: value for key, value in options.items() if value is not None and value is not False}
    if isinstance(source, str | Path):
        refuse_no_model(str(source))
        if str(source) in DEMO_NAMES:
            from neurodial.model.demo import demo_parts

            path, demo_adapter = demo_parts(str(source))
            adapter = adapter if adapter is not None else demo_adapter
        else:
            path = Path(source).expanduser()
        model, tokenizer, unused = _from_name(path, _dtype(dtype), options, (tokenizer, may_lack_head))
        label, place = str(source), str(path)
    else:
        model, place, unused = source, None, ()
        label = str(getattr(source, "name_or_path", "") or type(source).__name__)
        if not isinstance(model, torch.nn.Module):
            raise ModelError(f"The model is {label}.", wanted="a Hub id, a path, demo, or a live transformers model")
        if tokenizer is None:
            raise ModelError("A live model came without its tokenizer.", fix="Pass tokenizer=…")
    model = model.to(device) if device is not None else model
    return _subject(
        model, tokenizer, adapter, {"label": label, "source": place, "template": template, "unused": unused}
    )


def _subject(model: Any, tokenizer: Any, adapter: str | Path | None, names: dict[str, Any]) -> Subject:
    model.eval()
    if adapter is None:
        subject = Subject.of(model, tokenizer, **names)
        if getattr(model.config, "quantization_config", None) is not None:  # some dequantise in the first pass
            _forget_quantisation(model)
        return subject
    model, applied, digest = apply_adapter(model, Path(adapter).expanduser(), label=names["label"])
    return Subject.of(model, tokenizer, adapter=applied, base_digest=digest, **names)


def _check_device(device: str | torch.device) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        usable = ["cpu", *(name for name in ("cuda", "mps") if getattr(torch, name).is_available())]
        raise ModelError(
            f"The device {str(device)!r} can't be used: {error_text(error)}",
            wanted=f"a device that is here: {', '.join(usable)}",
            fix="Leave --device out for the CPU. For a GPU, install a torch built for it (https://pytorch.org); "
            "torch.cuda.is_available() says whether it sees one.",
        ) from error


def _from_name(
    path: Path, dtype: torch.dtype | str, options: dict[str, Any], given: tuple[Any, bool]
) -> tuple[Any, Any, tuple[str, ...]]:
    is_gguf = path.suffix == ".gguf"
    with quiet_bars(), read_once() if is_gguf else nullcontext():
        model, tokenizer, unused = _read(path, dtype, options, given, is_gguf=is_gguf)
    return model, tokenizer, unused


def _read(
    path: Path, dtype: torch.dtype | str, options: dict[str, Any], given: tuple[Any, bool], *, is_gguf: bool
) -> tuple[Any, Any, tuple[str, ...]]:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.quantizers import AutoHfQuantizer

    name = str(path.parent) if is_gguf else str(path)
    shared: dict[str, Any] = {key: options[key] for key in ("revision",) if key in options}
    shared["trust_remote_code"] = bool(options.get("trust_remote_code"))  # unsaid, transformers asks at the terminal
    if is_gguf:
        shared["gguf_file"] = path.name
        dtype = torch.float32 if dtype == "auto" else dtype
    quantised: Any = options.get("quantization_config")
    try:
        config = AutoConfig.from_pretrained(name, **shared)
        _refuse_without_neurons(config)
        widths = expert_widths(path, config) if is_gguf else {}
        quantised = quantised or getattr(config, "quantization_config", None)
        if isinstance(quantised, dict) and not AutoHfQuantizer.supports_quant_method(quantised):
            # It would only warn, and take packed numbers for weights.
            raise ValueError("transformers knows no such format")
        kind = AutoModelForCausalLM
        if type(config) not in AutoModelForCausalLM._model_mapping:
            kind = AutoModelForImageTextToText
        model, info = kind.from_pretrained(name, dtype=dtype, output_loading_info=True, **(widths | options | shared))
    except torch.OutOfMemoryError:
        raise
    except DAMAGE as error:
        raise _not_loaded(path, error, quantised) from error
    if info.get("mismatched_keys"):
        raise _of_other_shape(path, sorted(info["mismatched_keys"]))
    if is_gguf or quantised is not None:
        _forget_quantisation(model)
    tokenizer, may_lack_head = given
    missing = [key for key in sorted(info["missing_keys"]) if not (may_lack_head and _is_behind_blocks(model, key))]
    if missing:
        raise _incomplete(path, missing)
    return model, tokenizer or _tokenizer(name, path, shared), tuple(sorted(info["unexpected_keys"]))


def _refuse_without_neurons(config: Any) -> None:
    """Refuse, before weights are read, a model type in which no MLP was found when it was tried.

    Raises:
        LayoutError: says what was found.
    """
    model_type = str(getattr(config.get_text_config(), "model_type", ""))
    known = tried_model(model_type)
    if known is not None and known.absent is not None and known.mlp in {"routed", "none"}:
        reason = known.absent.partition(" Wanted:")[0]
        raise LayoutError(
            f"Models of the type {model_type} have no neurons that can be read: {reason}",
            wanted="one of the types that `neurodial models` lists",
        )


def _tokenizer(name: str, path: Path, options: dict[str, Any]) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name, **options)
    except DAMAGE as error:
        raise ModelError(
            f"{path} has no tokenizer that can be loaded: {error_text(error)}",
            wanted="the tokenizer's files beside the weights",
            fix="Copy them from where the model came from, or pass tokenizer=…",
        ) from error


def _forget_quantisation(model: Any) -> None:
    """Make a model whose weights were all dequantised an ordinary one, which save_pretrained writes as it is."""
    if any(map(is_quantised, model.modules())):
        return
    if getattr(model.config, "quantization_config", None) is not None:
        del model.config.quantization_config
    model.hf_quantizer = model._weight_conversions = model.quantization_method = None  # no other way
    model.is_quantized = False


def _not_loaded(path: Path, error: Exception, quantised: Any) -> ModelError:
    if isinstance(error, ImportError):
        return MissingModelPackageError.of(path, error)
    if "trust_remote_code" in str(error):
        return ModelError(
            f"{path} can't be loaded without code that comes with it.",
            wanted="a model type of transformers itself, or your trust in that code: it runs with all your rights",
            fix="Read it, then say --trust-remote-code (trust_remote_code=True).",
        )
    if quantised is not None:
        settings = quantised if isinstance(quantised, dict) else quantised.to_dict()
        method = str(getattr(settings.get("quant_method"), "value", settings.get("quant_method")))
        return ModelError(
            f"{path} can't be loaded quantised ({method}): {error_text(error)}",
            wanted="a format that transformers reads on this device",
            fix="`neurodial models` lists the formats that were tried, and what each needs. The unquantised model "
            "always works: name its folder or Hub id instead.",
        )
    local = path.exists()
    return ModelError(
        f"{path} can't be loaded: {error_text(error)}",
        wanted="a Hub id, a folder with config.json and weights, a GGUF file, demo, or demo-base",
        fix=(
            "Is it complete?"
            if local
            else "There is no such local path; for a Hub id, check the spelling, the network (or HF_HUB_OFFLINE) "
            "and, for gated models, your token."
        ),
    )


def _of_other_shape(path: Path, mismatched: list[tuple[str, Any, Any]]) -> ModelError:
    name, stored, expected = mismatched[0]
    return ModelError(
        f"{len(mismatched)} weights of {path} have another shape than its configuration asks for, such as {name}: "
        f"{tuple(stored)} against {tuple(expected)}.",
        wanted="weights of the architecture that the configuration names",
    )


def _is_behind_blocks(model: Any, key: str) -> bool:
    """Whether a weight belongs neither to a numbered block nor to the input embedding."""
    embedding = model.get_input_embeddings().weight
    is_embedding = any(key == name and weight is embedding for name, weight in model.named_parameters())
    return not is_embedding and not any(part.isdigit() for part in key.split("."))


def _incomplete(path: Path, missing: list[str]) -> ModelError:
    """Transformers fills such weights with random numbers and only warns."""
    return ModelError(
        f"{path} lacks {len(missing)} weights, such as {missing[0]}.",
        wanted="every weight that the configuration asks for",
        fix="Is it complete, and of the architecture that its configuration names?",
    )


class MissingModelPackageError(ModelError, MissingPackageError):
    """Loading this model needs a package that is not installed."""

    @classmethod
    def of(cls, path: Path, error: ImportError) -> MissingModelPackageError:
        """The error for an import that failed."""
        return cls(f"{path} needs a package that is not installed: {error}", fix="Install it with pip and try again.")


def _dtype(dtype: str | torch.dtype | None) -> torch.dtype | str:
    if dtype is None or dtype == "auto":
        return "auto"
    if isinstance(dtype, torch.dtype):
        return dtype
    named = getattr(torch, dtype.removeprefix("torch."), None)
    if not isinstance(named, torch.dtype) or not named.is_floating_point:
        raise ModelError(f"The dtype is {dtype!r}.", wanted="auto, float32, bfloat16 or float16")
    return named
