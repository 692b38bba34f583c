"""The options of commands that can run a model in another engine. Torch-free, so that help is quick."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from neurodial.cli.console import quiet_libraries
from neurodial.cli.model_options import ModelOptions, tell_setup
from neurodial.errors import OptionError

if TYPE_CHECKING:
    from neurodial.cli.timed_parts import TimedParts
    from neurodial.engines.vllm_engine import VLLM

ENGINE = Group("Engine", sort_key=70)


@Parameter(name="*", group=ENGINE)
@dataclass(frozen=True, kw_only=True)
class WhichEngine:
    """What runs the model.

    Attributes:
        engine: transformers, here; or vllm: an unmodified vLLM in an environment of its own, started for this with any
            of its own options after `--`, such as `-- --tensor-parallel-size 8`. For what needs no slopes: finding by
            method cna, measuring circuits at dials and random controls.
        engine_python: the interpreter of the environment that vLLM is in; by default NEURODIAL_VLLM_PYTHON.
    """

    engine: Literal["transformers", "vllm"] = "transformers"
    engine_python: Annotated[Path | None, Parameter(name="--engine-python")] = None

    def chosen(self, model: str, loading: ModelOptions, passed_on: Sequence[str], folder: Path) -> VLLM | None:
        """The engine that was asked for; None for transformers.

        Args:
            model: that the user named.
            loading: the options of loading, of which an engine takes some.
            passed_on: the engine's own options.
            folder: where what it gathers stays until the command is done.

        Raises:
            OptionError: an option has no meaning for the engine that runs.
        """
        if self.engine == "transformers":
            if passed_on:
                raise OptionError(
                    f"{passed_on[0]!r} came after the model, and transformers takes no such options.",
                    wanted="a model alone, or --engine vllm and its options after --",
                )
            if self.engine_python is not None:
                raise OptionError("--engine-python came without an engine.", wanted="--engine vllm")
            return None
        _refuse_loading(loading)
        from neurodial.engines.vllm_engine import VLLM

        shared: dict[str, Any] = {"revision": loading.revision, "trust_remote_code": loading.trust_remote_code}
        theirs = [
            *(("--dtype", loading.dtype) if loading.dtype != "auto" else ()),
            *(("--revision", loading.revision) if loading.revision else ()),
            *(("--trust-remote-code",) if loading.trust_remote_code else ()),
            *passed_on,
        ]
        shared = {name: value for name, value in shared.items() if value}
        python = None if self.engine_python is None else self.engine_python.expanduser()
        return VLLM(model, tuple(theirs), python, folder, {**shared, "template": loading.template()})


def loaded_there(engine: VLLM, parts: TimedParts) -> VLLM:
    """The engine, its model's shape and tokenizer read in the next step, and what was particular about that told."""
    quiet_libraries()
    with parts.next():
        subject = engine.subject
    tell_setup(subject)
    return engine


def _refuse_loading(loading: ModelOptions) -> None:
    """Options of transformers that would be left unused."""
    fixes = {
        "adapter": "Merge it first: neurodial export --as vllm writes the merged model too.",
        "device": "vLLM chooses devices by CUDA_VISIBLE_DEVICES and its own options, after --.",
        "device_map": "vLLM spreads a model by its own options: -- --tensor-parallel-size 8.",
        "load_in": "vLLM quantises by its own option: -- --quantization fp8.",
    }
    for name, fix in fixes.items():
        if getattr(loading, name) is not None:
            raise OptionError(f"--{name.replace('_', '-')} has no meaning with --engine vllm.", fix=fix)
