"""What is changed in vLLM's classes so that requests carry circuits and dials without LoRA.

It imports the standard library and vllm alone. The plugin installs all of it in each of vLLM's processes, before any
engine is made; each process uses its part.

1. Options under which answers would be wrong, and versions of vLLM that were not tested, are refused.
2. The key of compiled code holds ours: what was compiled without a bank, or with another, is never taken.
3. Where a request comes in, its setting is read and its `cache_salt` made; the engine refuses one without it.
4. Once a worker has loaded its model, its layers get their banks; the engine asks all workers for what they have.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from neurodial.engines.vllm_exports import DOSES, FOLDERS
from neurodial.engines.vllm_range import check_version
from neurodial.engines.vllm_settings import DESCRIBED, KEY, Admission, ServedCircuits, check_parts
from neurodial.engines.vllm_start import Refused, refuse_options
from neurodial.errors import EngineError

REFUSED: Refused = {
    "enable_lora": ((None, False), "an adapter and a bank on one layer were not tried together"),
    "data_parallel_size": ((None, 1), "copies of the model were not tried here"),
    "speculative_config": ((None,), "speculative decoding was not tried here"),
    "spec_model": ((None,), "speculative decoding was not tried here"),
    "kv_sharing_fast_prefill": ((None, False), "fast prefill leaves out tokens in the later layers"),
    "enable_dbo": ((None, False), "dual batches change the order of tokens"),
    "prefill_context_parallel_size": ((None, 1), "context parallelism spreads a prompt's tokens"),
    "decode_context_parallel_size": ((None, 1), "context parallelism spreads a prompt's tokens"),
    "kv_transfer_config": ((None,), "keys and values that come from elsewhere may be of another dial"),
}
_FIX = "Leave it out, or serve the circuit as an adapter (--as vllm) or in the weights (--as weights)."

logger = logging.getLogger("vllm.neurodial")


def install_bank(served: ServedCircuits) -> None:
    """Change vLLM's classes in this process.

    Raises:
        EngineError: vLLM was not tested in this version.
    """
    import vllm
    from vllm.v1.worker.worker_base import WorkerWrapperBase

    check_version(vllm.__version__)
    if hasattr(WorkerWrapperBase, DESCRIBED):
        return  # a plugin may be loaded twice
    sites = sites_of(served)
    _refuse_options(served)
    _key_compiled_code(key_of(served, sites))
    _read_requests(served)
    _refuse_beams()
    _hold_to_salt(served)
    _install_in_workers(served, is_routed=any(len(shape) == 2 for shape in sites.values()))
    _ask_workers(served, sites)


def sites_of(served: ServedCircuits) -> dict[str, list[int]]:
    """The shape of each layer that a circuit touches."""
    layers = (
        layer
        for export in served.exports.values()
        for layer in json.loads((export.folder / DOSES).read_text(encoding="utf-8"))["layers"]
    )
    return {layer["name"]: layer["shape"] for layer in layers}


def key_of(served: ServedCircuits, sites: dict[str, list[int]]) -> str:
    """What the compiled code depends on: our own source, the layers with a bank, and how many rows it has."""
    sources = [
        (Path(__file__).parent / name).read_bytes() for name in ("vllm_layers.py", "vllm_bank.py", "vllm_experts.py")
    ]
    parts = [*(hashlib.sha256(source).hexdigest() for source in sources), sorted(sites.items()), served.slots]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _refuse_options(served: ServedCircuits) -> None:
    from vllm import EngineArgs

    create = EngineArgs.create_engine_config

    @functools.wraps(create)
    def create_engine_config(self: Any, *args: Any, **kwargs: Any) -> Any:
        refuse_options(self, self.model, REFUSED, _FIX)
        config = create(self, *args, **kwargs)
        if self._api_process_count > 1 and config.scheduler_config.max_num_seqs > served.slots:
            raise EngineError(
                f"{self._api_process_count} API servers do not know of each other's settings, and "
                f"{config.scheduler_config.max_num_seqs} requests run at once, with room for {served.slots}.",
                wanted="one API server, or room for as many settings as requests",
                fix="Leave --api-server-count out, or set NEURODIAL_VLLM_SLOTS to --max-num-seqs.",
            )
        return config

    EngineArgs.create_engine_config = create_engine_config


def _key_compiled_code(key: str) -> None:
    from vllm.config import VllmConfig

    compute = VllmConfig.compute_hash

    @functools.wraps(compute)
    def compute_hash(self: Any, *args: Any, **kwargs: Any) -> str:
        return hashlib.sha256(f"{compute(self, *args, **kwargs)} neurodial {key}".encode()).hexdigest()[:10]

    VllmConfig.compute_hash = compute_hash


def _read_requests(served: ServedCircuits) -> None:
    from vllm.exceptions import VLLMValidationError
    from vllm.v1.engine.input_processor import InputProcessor
    from vllm.v1.engine.output_processor import OutputProcessor

    process, add = InputProcessor.process_inputs, OutputProcessor.add_request
    may_fill_up = True

    @functools.wraps(process)
    def process_inputs(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal may_fill_up
        # Settings count where they are computed, in one step: no more than requests that run at once.
        may_fill_up = self.vllm_config.scheduler_config.max_num_seqs > served.slots
        request = process(self, *args, **kwargs)
        try:
            steer_request(request, served)
        except ValueError as error:
            raise VLLMValidationError(str(error), parameter=KEY) from error
        return request

    @functools.wraps(add)
    def add_request(self: Any, request: Any, *args: Any, **kwargs: Any) -> None:
        setting = setting_of(request)
        if setting and may_fill_up:
            if not hasattr(self, "neurodial_admission"):
                self.neurodial_admission = Admission(served.slots)
            try:
                self.neurodial_admission.admit(request.request_id, setting, self.request_states)
            except ValueError as error:
                raise VLLMValidationError(str(error), parameter=KEY) from error
        add(self, request, *args, **kwargs)

    InputProcessor.process_inputs = process_inputs
    OutputProcessor.add_request = add_request


def _refuse_beams() -> None:
    """Beam search makes requests of its own, which carry nothing of this one's."""
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.entrypoints.openai.completion.protocol import CompletionRequest
    from vllm.exceptions import VLLMValidationError

    def refusing(make: Any) -> Any:
        @functools.wraps(make)
        def to_beam_search_params(self: Any, *args: Any, **kwargs: Any) -> Any:
            if KEY in (self.vllm_xargs or {}):
                raise VLLMValidationError("Beam search carries no circuits and dials: sample instead.", parameter=KEY)
            return make(self, *args, **kwargs)

        return to_beam_search_params

    for kind in (ChatCompletionRequest, CompletionRequest):
        kind.to_beam_search_params = refusing(kind.to_beam_search_params)


def steer_request(request: Any, served: ServedCircuits) -> None:
    """Put a request's setting into one form, and make its salt.

    Raises:
        ValueError: it asks for what is not there.
    """
    params = request.sampling_params
    if params is None:
        if KEY in (getattr(request.pooling_params, "extra_kwargs", None) or {}):
            raise ValueError("Only requests that generate are steered.")
        return
    extra = dict(params.extra_args or {})
    asked = extra.pop(KEY, None)
    setting = "" if asked is None else served.setting(asked)
    request.cache_salt = served.salt(setting, request.cache_salt)
    if asked is not None:
        params.extra_args = extra | ({KEY: setting} if setting else {})


def setting_of(request: Any) -> str:
    """The setting of a request that went through `steer_request`; empty for the unsteered model."""
    params = request.sampling_params
    return str((getattr(params, "extra_args", None) or {}).get(KEY, ""))


def _hold_to_salt(served: ServedCircuits) -> None:
    from vllm.v1.request import Request

    make = Request.from_engine_core_request

    @functools.wraps(make)
    def from_engine_core_request(cls: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        del cls
        refuse_unsalted(request, served)
        return make(request, *args, **kwargs)

    Request.from_engine_core_request = classmethod(from_engine_core_request)


def refuse_unsalted(request: Any, served: ServedCircuits) -> None:
    """Refuse a steered request whose `cache_salt` is not that of its setting.

    Raises:
        EngineError: it came by a way that our plugin is not on.
    """
    setting = setting_of(request)
    if setting and not served.is_salted(setting, request.cache_salt):
        raise EngineError(
            f"The request {request.request_id} asks for {setting!r} without the cache_salt of that.",
            wanted="requests that came in where neurodial's plugin is loaded",
            fix=f"Set {FOLDERS} for every process of vLLM, and leave the plugin neurodial in VLLM_PLUGINS.",
        )


def _install_in_workers(served: ServedCircuits, *, is_routed: bool) -> None:
    from vllm.v1.worker.worker_base import WorkerWrapperBase

    init = WorkerWrapperBase.init_device

    @functools.wraps(init)
    def init_device(self: Any) -> None:
        init(self)
        load = self.worker.load_model

        def load_model(*args: Any, **kwargs: Any) -> Any:
            from neurodial.engines.vllm_bank import Bank
            from neurodial.engines.vllm_experts import replace_hiding_kernels
            from neurodial.engines.vllm_layers import DIALLED, ROUTED

            if is_routed:
                replace_hiding_kernels()
            result = load(*args, **kwargs)
            self.neurodial_bank = Bank(self.worker, served, DIALLED, ROUTED)
            return result

        self.worker.load_model = load_model

    WorkerWrapperBase.init_device = init_device
    setattr(WorkerWrapperBase, DESCRIBED, lambda self: self.neurodial_bank.described())


def _ask_workers(served: ServedCircuits, sites: dict[str, list[int]]) -> None:
    from vllm.v1.executor.abstract import Executor

    init = Executor.__init__

    @functools.wraps(init)
    def new_init(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if getattr(self.parallel_config, "node_rank_within_dp", 0) > 0:
            return  # the first machine asks
        try:
            described = self.collective_rpc(DESCRIBED)
        except Exception as error:
            raise EngineError(
                f"A process of vLLM has no circuits: {error}",
                wanted="neurodial's plugin in every process, on every machine",
                fix=f"Set {FOLDERS} on each machine, and leave the plugin neurodial in VLLM_PLUGINS.",
            ) from error
        trouble = check_parts(described, sites)
        if trouble:
            raise EngineError(f"In vLLM {trouble}.", wanted="the model that the circuits were made on")
        for name, export in served.exports.items():
            logger.info("neurodial: %s, as %s or %s@DIAL within ±%g", export.folder, name, name, served.limit)

    Executor.__init__ = new_init
