"""Down projections of vLLM's whose neurons are multiplied before the product. Imports torch and vllm alone."""

from __future__ import annotations

from typing import Any

import torch
from vllm.model_executor.layers.fused_moe.routed_experts import RoutedExperts
from vllm.model_executor.layers.linear import ReplicatedLinear, RowParallelLinear

from neurodial.engines.vllm_bank import multiplied


class DialledRowParallelLinear(RowParallelLinear):  # type: ignore[misc]  # vllm is not installed where types are checked
    """A down projection whose neurons are multiplied first; a layer that is built already becomes one."""

    def forward(self, input_: torch.Tensor) -> Any:
        """Multiply, then the layer as it was."""
        return RowParallelLinear.forward(self, multiplied(self, input_))


class DialledReplicatedLinear(ReplicatedLinear):  # type: ignore[misc]  # the same
    """The same of a down projection that each process has whole."""

    def forward(self, x: torch.Tensor) -> Any:
        """Multiply, then the layer as it was."""
        return ReplicatedLinear.forward(self, multiplied(self, x))


DIALLED: dict[type, type] = {
    RowParallelLinear: DialledRowParallelLinear,
    ReplicatedLinear: DialledReplicatedLinear,
}
"""What the layers of each class become; one of another class has something on it already."""

ROUTED: type = RoutedExperts
"""The class of a layer's routed experts."""
