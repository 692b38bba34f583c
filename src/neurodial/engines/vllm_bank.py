"""Dials without LoRA, in a worker of vLLM: neurons are multiplied where the down projection takes them.

Imports the standard library and torch alone. `vllm_patches` installs it once the model is loaded and before it is
compiled.

1. Each layer that a circuit touches has a bank, one row of multipliers for each setting in use; row 0 is all ones.
2. One row number for each token of the flat batch stands in a buffer of fixed size and address, filled where a step's
   inputs are prepared; rows of padding have 0. So what is compiled, or recorded as a graph, stays the same.
3. `x * bank[slot]` goes before the product with the weights, on each tensor-parallel process with its own neurons.
4. Neurons of routed experts are multiplied between their two products, in a model that is not compiled.
5. Another model is told by columns of its down projections: what the layer itself makes of unit vectors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from neurodial.engines.vllm_experts import after_activation, shown_experts
from neurodial.engines.vllm_exports import DOSES
from neurodial.engines.vllm_layer_bank import LayerBank, check_columns
from neurodial.engines.vllm_rows import module_of
from neurodial.engines.vllm_settings import KEY, BankRows, ServedCircuits, dials_of
from neurodial.engines.vllm_steps import Share, follow, neurons_of


def multiplied(layer: Any, given: torch.Tensor) -> torch.Tensor:
    """The neurons (token, neuron) that a layer is given, each token's by the row of the bank that it has.

    Raises:
        TypeError: they come in another form.
    """
    if not isinstance(given, torch.Tensor) or given.dim() != 2:
        raise TypeError("neurodial: a down projection is given something else than a row of neurons for each token")
    rows = layer.neurodial_slot[: given.shape[0]]
    factors: torch.Tensor = layer.neurodial_bank.index_select(0, rows)
    return given * factors


class Bank:
    """The banks of one worker, and which row each request has.

    Args:
        worker: vLLM's, with its model loaded.
        served: the circuits.
        dialled: what down projections of each class become.
        routed: the class of a layer's routed experts.
    """

    def __init__(self, worker: Any, served: ServedCircuits, dialled: Mapping[type, type], routed: type) -> None:
        runner = worker.model_runner
        self._rank, self._config = worker.rank, worker.vllm_config
        self._table = BankRows(served.slots)
        self._setting_of: dict[str, str] = {}
        self._slot = torch.zeros(_most_tokens(self._config), dtype=torch.long, device=runner.device)
        self._is_steered = False
        self._tokens = 0
        self._layers: dict[str, LayerBank] = {}
        self._slots, self._dialled, self._routed = served.slots, dialled, routed
        self.trouble = ""
        try:
            self._install(runner.get_model(), served)
        except (ValueError, RuntimeError, NotImplementedError) as error:
            self.trouble = str(error)
        follow(runner, self)

    def described(self) -> dict[str, Any]:
        """What this process has: its part of each layer, or why it has none."""
        parts = {
            name: {"start": each.neurons.start, "stop": each.neurons.stop, "experts": each.experts}
            for name, each in self._layers.items()
        }
        return {"rank": self._rank, "parts": parts, "trouble": self.trouble}

    # ------------------------------------------------------------------------------------------- the layers

    def _install(self, model: torch.nn.Module, served: ServedCircuits) -> None:
        modules = dict(model.named_modules())
        for name, export in served.exports.items():
            for layer in json.loads((export.folder / DOSES).read_text(encoding="utf-8"))["layers"]:
                is_routed = len(layer["shape"]) == 2
                kinds = self._routed if is_routed else tuple(self._dialled)
                names = [path for path, module in modules.items() if isinstance(module, kinds)]
                found = module_of(names, layer["block"], layer["inside"])
                if found is None:
                    continue  # another rank of the pipeline has it, or none: told from what all have
                if layer["name"] not in self._layers:
                    dial = self._dial_experts if is_routed else self._dial
                    self._layers[layer["name"]] = dial(modules[found], layer)
                bank = self._layers[layer["name"]]
                check_columns(modules[found], bank, layer, name)
                bank.take(name, layer)

    def _dial(self, module: Any, layer: Mapping[str, Any]) -> LayerBank:
        """Give a down projection its bank.

        Raises:
            ValueError: it is none that can take one.
        """
        name, here = layer["name"], neurons_of(module, layer["shape"][0], layer["name"])
        dialled = self._dialled.get(type(module))
        if dialled is None:
            raise ValueError(
                f"layer {name} is a {type(module).__name__}, and an adapter or another change stands on it already"
            )
        if len(here) < module.input_size and not module.input_is_parallel:
            raise ValueError(f"layer {name} is given all neurons by each process, which was not tested")
        rows = self._ones(len(here))
        module.register_buffer("neurodial_bank", rows, persistent=False)
        module.register_buffer("neurodial_slot", self._slot, persistent=False)
        module.requires_unquantized_input = True  # else some models hand over quantised numbers
        module.__class__ = dialled
        return LayerBank(rows, None, here)

    def _dial_experts(self, module: Any, layer: Mapping[str, Any]) -> LayerBank:
        """Give a layer's routed experts their bank, between their two products.

        Raises:
            ValueError: their kernel shows nothing there, or the model is compiled.
        """
        if not self._config.model_config.enforce_eager:
            raise ValueError(
                "neurons of routed experts are dialled where the model is neither compiled nor recorded as a graph "
                "(--enforce-eager)"
            )
        kernel, mine, neurons = shown_experts(layer, module)
        rows = self._ones(len(mine), len(neurons))
        stands = torch.zeros(layer["shape"][0], dtype=torch.long, device=self._slot.device)
        stands[mine] = torch.arange(len(mine), device=self._slot.device)

        def multiply(output: torch.Tensor, call: Mapping[str, Any]) -> None:
            if not self._is_steered:
                return
            ids = call["topk_ids"]
            tokens, choices = ids.shape
            if output.shape[0] != tokens * choices or tokens < self._tokens:
                self.fail(f"the experts of layer {layer['name']} got tokens in parts or in another order")
            slots = self._slot[:tokens].repeat_interleave(choices)
            # What another process's experts give is never read, so that any row does for them.
            output[:, : len(neurons)].mul_(rows[slots, stands[ids.flatten().long()]])

        after_activation(kernel, multiply)
        return LayerBank(rows, mine, neurons)

    def _ones(self, *shape: int) -> torch.Tensor:
        dtype = self._config.model_config.dtype
        return torch.ones(self._slots + 1, *shape, dtype=dtype, device=self._slot.device)

    # ------------------------------------------------------------------------------------------- the steps

    def began(self, requests: Sequence[Any], finished: Sequence[str]) -> None:
        """Take the settings of the new requests."""
        for name in finished:
            self._setting_of.pop(name, None)
        for new in requests:
            setting = (getattr(new.sampling_params, "extra_args", None) or {}).get(KEY)
            if setting:
                self._setting_of[new.req_id] = setting

    def batch(self, shares: Sequence[Share]) -> None:
        """Write the rows of settings that are new, and the row of each token."""
        settings = [self._setting_of.get(each.request, "") for each in shares]
        for setting in self._table.assign(settings):
            for layer in self._layers.values():
                layer.write(self._table.of(setting), dials_of(setting))
        if not any(settings) and not self._is_steered:
            return
        self._is_steered = any(settings)
        self._tokens = sum(each.size for each in shares)
        slots = torch.tensor([self._table.of(setting) for setting in settings])
        rows = torch.zeros(len(self._slot), dtype=torch.long)
        tokens = slots.repeat_interleave(torch.tensor([each.size for each in shares]))
        rows[: len(tokens)] = tokens
        self._slot.copy_(rows)

    def ended(self) -> None:
        """Warm-up runs may follow, of any length."""
        self._tokens = 0

    def fail(self, trouble: str) -> None:
        """Stop rather than answer with another request's dial."""
        raise RuntimeError(f"neurodial: {trouble}")


def _most_tokens(config: Any) -> int:
    """The most rows that a flat batch can have, those of padding too."""
    sizes = config.compilation_config.cudagraph_capture_sizes or [0]
    most: int = max(config.scheduler_config.max_num_batched_tokens, *sizes)
    return -(-most // 512) * 512
