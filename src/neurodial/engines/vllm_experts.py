"""The neurons of routed experts in vLLM, between their two grouped products.

`RoutedExperts.quant_method.moe_kernel.fused_experts` has `apply`, which is told where each token goes, and
`activation`, which writes one row for each token and choice, token by token. Both are wrapped on the instance. Kernels
that fuse all of it into one call show nothing, and are refused by name. On a processor there is only such a kernel;
plain torch runs in its place.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from neurodial.engines.vllm_rows import Buffer

if TYPE_CHECKING:
    from neurodial.engines.vllm_worker import GatheringWatch

SHOWING = ("TritonExperts", "TritonWNA16Experts", "MarlinExperts", "CPUUnquantizedExperts", "X86CPUUnquantizedExperts")
"""Kernels that write activations token by token before the second product."""


class ShownExperts(NamedTuple):
    """The routed experts of a layer that this process has, in a kernel that shows their neurons.

    Attributes:
        kernel: with `apply` and `activation`.
        experts: their numbers.
        neurons: those of each.
    """

    kernel: Any
    experts: list[int]
    neurons: range


def shown_experts(site: Mapping[str, Any], module: Any) -> ShownExperts:
    """A layer's routed experts, as far as they are here.

    Args:
        site: its name and shape.
        module: vLLM's `RoutedExperts`.

    Raises:
        ValueError: they are of another number than wanted, or their kernel or scaling was not tested.
    """
    kernel = getattr(getattr(module.quant_method, "moe_kernel", None), "fused_experts", None)
    if kernel is None or type(kernel).__name__ not in SHOWING:
        raise ValueError(
            f"the kernel {type(kernel if kernel is not None else module.quant_method).__name__} shows no activations "
            f"of experts; wanted: {', '.join(SHOWING)} (--moe-backend triton, or marlin for weights of few bits)"
        )
    if module.routed_scaling_factor not in {None, 1}:
        raise ValueError(f"outputs of experts are scaled by {module.routed_scaling_factor}, which was not tested")
    number, whole = site["shape"]
    if module.global_num_experts != number:
        raise ValueError(f"layer {site['name']} has {module.global_num_experts} experts, and {number} were expected")
    parallel = kernel.moe_config.moe_parallel_config
    width = whole // parallel.tp_size  # what the kernel pads them to comes after
    here = module.expert_map
    mine = [expert for expert in range(number) if here is None or int(here[expert]) >= 0]
    start = parallel.tp_rank * width if parallel.tp_size > 1 else 0
    return ShownExperts(kernel, mine, range(start, start + width))


def after_activation(kernel: Any, act: Callable[[torch.Tensor, Mapping[str, Any]], None]) -> None:
    """Call a function between the two products of a kernel's experts.

    Args:
        kernel: of one layer.
        act: is given the neurons (token and choice, neuron), token by token, and what the kernel was called with.
    """
    apply, activation = kernel.apply, kernel.activation
    signature = inspect.signature(apply)
    call: dict[str, Any] = {}

    def new_apply(*args: Any, **kwargs: Any) -> Any:
        call.update(signature.bind(*args, **kwargs).arguments)
        return apply(*args, **kwargs)

    def new_activation(kind: Any, output: torch.Tensor, given: torch.Tensor, **kwargs: Any) -> Any:
        result = activation(kind, output, given, **kwargs)
        act(output, call)
        return result

    kernel.apply, kernel.activation = new_apply, new_activation


def watch_experts(site: Mapping[str, Any], module: Any, watch: GatheringWatch) -> Buffer | None:
    """Watch a layer's routed experts, those that this process has.

    Raises:
        ValueError: they are of another number than the job names, or their kernel or scaling was not tested.
    """
    kernel, mine, neurons = shown_experts(site, module)
    buffer = Buffer(site["name"], neurons.start, neurons.stop, mine, visits=int(module.top_k))
    number = site["shape"][0]

    def gather(output: torch.Tensor, call: Mapping[str, Any]) -> None:
        index = watch.rows_of_step()
        if index is None:
            return
        ids = call["topk_ids"]
        tokens, choices = ids.shape
        if output.shape[0] != tokens * choices or tokens < watch.tokens_of_step:
            watch.fail(f"the experts of layer {buffer.site} got tokens in parts or in another order")
            return
        chosen = ids.index_select(0, index).long()
        is_mine = torch.zeros(number, dtype=torch.bool, device=ids.device)
        is_mine[mine] = True
        row, choice = is_mine[chosen].nonzero(as_tuple=True)
        values = output.view(tokens, choices, -1)[index[row], choice, : len(neurons)].float()
        if not call["apply_router_weight_on_input"]:  # else they hold it already
            values = values * call["topk_weights"][index[row], choice].float()[:, None]
        buffer.step.append((values, row, chosen[row, choice]))

    after_activation(kernel, gather)
    return buffer


def replace_hiding_kernels() -> None:
    """On a processor, let plain torch run experts: vLLM's kernel there is one call, and packs the weights for it."""
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        from vllm.model_executor.layers.fused_moe.experts.cpu_moe import CPUUnquantizedExperts

        CPUUnquantizedExperts.process_weights_after_loading = _leave_weights
        CPUUnquantizedExperts.apply = _apply_plainly


def _leave_weights(self: Any, layer: Any) -> None:
    """The weights stay as they were loaded."""
    del layer
    self._use_zentorch = False


def _apply_plainly(
    self: Any,
    output: torch.Tensor,
    hidden_states: torch.Tensor,
    w1: torch.Tensor,
    w2: torch.Tensor,
    topk_weights: torch.Tensor,
    topk_ids: torch.Tensor,
    activation: Any,
    global_num_experts: int,
    expert_map: torch.Tensor | None,
    a1q_scale: Any,
    a2_scale: Any,
    workspace13: Any,
    workspace2: Any,
    expert_tokens_meta: Any,
    apply_router_weight_on_input: bool,  # noqa: FBT001  # vLLM's own interface
) -> None:
    """What the kernel computes: up, activation, down, and the weighted sum over each token's experts here."""
    del global_num_experts, a1q_scale, a2_scale, workspace13, workspace2, expert_tokens_meta
    tokens, choices = topk_ids.shape
    ids = topk_ids.long().flatten()
    slots = ids if expert_map is None else expert_map[ids].long()
    source = torch.arange(tokens).repeat_interleave(choices)
    first = hidden_states.new_zeros(tokens * choices, w1.shape[1])
    acted = hidden_states.new_zeros(tokens * choices, w2.shape[2])
    written = hidden_states.new_zeros(tokens * choices, w2.shape[1])
    used = [slot for slot in slots.unique().tolist() if slot >= 0]
    for slot in used:
        at = (slots == slot).nonzero()[:, 0]
        first[at] = torch.nn.functional.linear(hidden_states[source[at]], w1[slot], _of(self.w1_bias, slot))
    self.activation(activation, acted, first)
    for slot in used:
        at = (slots == slot).nonzero()[:, 0]
        written[at] = torch.nn.functional.linear(acted[at], w2[slot], _of(self.w2_bias, slot))
    if not apply_router_weight_on_input:
        written = written * topk_weights.reshape(-1, 1).to(written.dtype)
    output.copy_(written.view(tokens, choices, -1).sum(1))


def _of(bias: torch.Tensor | None, slot: int) -> torch.Tensor | None:
    return None if bias is None else bias[slot]
