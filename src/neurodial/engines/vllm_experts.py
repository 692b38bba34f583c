"""The neurons of routed experts in vLLM, between their two grouped products.

`RoutedExperts.quant_method.moe_kernel.fused_experts` has `apply`, which is told where each token goes, and
`activation`, which writes one row for each token and choice, token by token. Both are wrapped on the instance. Kernels
that fuse all of it into one call show nothing, and are refused by name. On a processor there is only such a kernel;
plain torch runs in its place.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from neurodial.engines.vllm_rows import Buffer

if TYPE_CHECKING:
    from neurodial.engines.vllm_worker import GatheringWatch

SHOWING = ("TritonExperts", "TritonWNA16Experts", "MarlinExperts", "CPUUnquantizedExperts", "X86CPUUnquantizedExperts")
"""Kernels that write activations token by token before the second product."""


def watch_experts(site: Mapping[str, Any], module: Any, watch: GatheringWatch) -> Buffer | None:
    """Watch a layer's routed experts, those that this process has.

    Raises:
        ValueError: they are of another number than the job names, or their kernel or scaling was not tested.
    """
    kernel = getattr(module.quant_method, "moe_kernel", None)
    experts = getattr(kernel, "fused_experts", None)
    if experts is None or type(experts).__name__ not in SHOWING:
        raise ValueError(
            f"the kernel {type(experts if experts is not None else module.quant_method).__name__} shows no activations "
            f"of experts; wanted: {', '.join(SHOWING)} (--moe-backend triton, or marlin for weights of few bits)"
        )
    if module.routed_scaling_factor not in {None, 1}:
        raise ValueError(f"outputs of experts are scaled by {module.routed_scaling_factor}, which was not tested")
    number, whole = site["shape"]
    if module.global_num_experts != number:
        raise ValueError(f"layer {site['name']} has {module.global_num_experts} experts, and the job {number}")
    parallel = experts.moe_config.moe_parallel_config
    width = whole // parallel.tp_size  # what the kernel pads them to comes after
    here = module.expert_map
    mine = [expert for expert in range(number) if here is None or int(here[expert]) >= 0]
    start = parallel.tp_rank * width if parallel.tp_size > 1 else 0
    buffer = Buffer(site["name"], start, start + width, mine, visits=int(module.top_k))
    _wrap(experts, buffer, watch, mine, number)
    return buffer


def _wrap(experts: Any, buffer: Buffer, watch: GatheringWatch, mine: list[int], number: int) -> None:
    apply, activation = experts.apply, experts.activation
    signature = inspect.signature(apply)
    call: dict[str, Any] = {}

    def new_apply(*args: Any, **kwargs: Any) -> Any:
        call.update(signature.bind(*args, **kwargs).arguments)
        return apply(*args, **kwargs)

    def new_activation(kind: Any, output: torch.Tensor, given: torch.Tensor, **kwargs: Any) -> Any:
        result = activation(kind, output, given, **kwargs)
        index = watch.rows_of_step()
        if index is None:
            return result
        ids = call["topk_ids"]
        tokens, choices = ids.shape
        if output.shape[0] != tokens * choices or tokens < watch.tokens_of_step:
            watch.fail(f"the experts of layer {buffer.site} got tokens in parts or in another order")
            return result
        chosen = ids.index_select(0, index).long()
        is_mine = torch.zeros(number, dtype=torch.bool, device=ids.device)
        is_mine[mine] = True
        row, choice = is_mine[chosen].nonzero(as_tuple=True)
        values = output.view(tokens, choices, -1)[index[row], choice, : buffer.stop - buffer.start].float()
        if not call["apply_router_weight_on_input"]:  # else they hold it already
            values = values * call["topk_weights"][index[row], choice].float()[:, None]
        buffer.step.append((values, row, chosen[row, choice]))
        return result

    experts.apply, experts.activation = new_apply, new_activation


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
