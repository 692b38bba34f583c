"""Gathering activations inside an unmodified vLLM. Imports the standard library, torch and vllm alone.

vLLM makes `NeurodialGathering` a base of each of its workers (`worker_extension_cls`) and lets the runner call its
methods there.

1. `vllm_steps` tells which requests lie in a step's flat batch, in which order.
2. A token's row is then where its request starts, plus its place, less what was computed before. The `positions` that
   the model is given must agree, and on the first rank of a pipeline the token ids.
3. A forward pre-hook on each down projection sees its neurons; `vllm_experts` sees those of routed experts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from vllm.distributed.parallel_state import get_pp_group, get_tp_group
from vllm.model_executor.layers.fused_moe.routed_experts import RoutedExperts
from vllm.model_executor.layers.linear import ReplicatedLinear, RowParallelLinear

from neurodial.engines.vllm_experts import replace_hiding_kernels, watch_experts
from neurodial.engines.vllm_rows import TAG, Buffer, RowRead, Scheduled, module_of, rows_read
from neurodial.engines.vllm_steps import Share, follow, neurons_of

replace_hiding_kernels()  # vLLM imports this before it builds the model


class NeurodialGathering:
    """What vLLM's workers can do beside their work."""

    rank: int

    def neurodial_install(self, job: str) -> dict[str, Any]:
        """Find the job's sites among this process's modules and watch them.

        Returns:
            What this process has: its rank, its part of each site, the model runner; or what can't be read, and why.
        """
        try:
            self._neurodial = GatheringWatch(self, json.loads(job))
        except ValueError as error:
            return {"rank": self.rank, "parts": [], "runner": "", "trouble": str(error)}
        return self._neurodial.described()

    def neurodial_begin(self, first: int, last: int) -> None:
        """Start gathering a run of prompts."""
        self._neurodial.begin(first, last)

    def neurodial_take(self, site: str) -> bytes:
        """What was gathered of a site, as safetensors; empty where this process has none of it."""
        return self._neurodial.take(site)

    def neurodial_trouble(self) -> str:
        """What went wrong while the model ran; empty where nothing did."""
        return self._neurodial.trouble


class GatheringWatch:
    """The hooks in one process, from the start of a job to its end."""

    def __init__(self, worker: Any, job: Mapping[str, Any]) -> None:
        self._worker, self._runner = worker, worker.model_runner
        self._tokens = [prompt["tokens"] for prompt in job["prompts"]]
        self._read = [prompt["read"] for prompt in job["prompts"]]
        self._is_first = get_pp_group().is_first_rank
        self.tp_rank = get_tp_group().rank_in_group
        self._first = 0
        self._prompt_of: dict[str, int] = {}
        self._seen: set[tuple[int, int]] = set()
        self._rows: list[RowRead] = []
        self._index = torch.zeros(0, dtype=torch.long)
        self.tokens_of_step = 0
        self.trouble = ""
        model = self._runner.get_model()
        self.buffers = {buffer.site: buffer for buffer in self._sites(model, job["sites"])}
        model.register_forward_pre_hook(self._check, with_kwargs=True)
        follow(self._runner, self)

    def fail(self, trouble: str) -> None:
        """Remember what went wrong first; raised here, it would end vLLM without a word to the user."""
        self.trouble = self.trouble or trouble

    def described(self) -> dict[str, Any]:
        """What this process has."""
        parts = [
            {
                "site": each.site, "start": each.start, "stop": each.stop, "experts": each.experts,
                "visits": each.visits,
            }
            for each in self.buffers.values()
        ]  # fmt: skip
        return {"rank": self._worker.rank, "parts": parts, "runner": type(self._runner).__module__}

    def begin(self, first: int, last: int) -> None:
        """Start a run of prompts."""
        self._first = first
        for buffer in self.buffers.values():
            buffer.begin(last - first)

    def take(self, site: str) -> bytes:
        """What was gathered of a site, which is then forgotten."""
        from safetensors.torch import save

        buffer = self.buffers.get(site)
        if buffer is None:
            return b""
        content: bytes = save({name: tensor.contiguous() for name, tensor in buffer.tensors().items()})
        buffer.begin(0)
        return content

    # ------------------------------------------------------------------------------------------- where neurons are

    def _sites(self, model: torch.nn.Module, sites: Sequence[Mapping[str, Any]]) -> list[Buffer]:
        """A buffer for each site that is here, watched. On other ranks of a pipeline the rest is."""
        modules = dict(model.named_modules())
        found = []
        for site in sites:
            kind: Any = RoutedExperts if len(site["shape"]) == 2 else (RowParallelLinear, ReplicatedLinear)
            names = [name for name, module in modules.items() if isinstance(module, kind)]
            name = module_of(names, site["block"], site["inside"])
            if name is None:
                continue
            is_routed = len(site["shape"]) == 2
            buffer = (watch_experts if is_routed else watch_dense)(site, modules[name], self)
            found += [] if buffer is None else [buffer]
        return found

    # ------------------------------------------------------------------------------------------- which rows are read

    def began(self, requests: Sequence[Any], finished: Sequence[str]) -> None:
        """Take the numbers of the new requests' prompts."""
        for name in finished:
            self._prompt_of.pop(name, None)
        for new in requests:
            tag = (getattr(new.sampling_params, "extra_args", None) or {}).get(TAG)
            if tag is not None:
                self._prompt_of[new.req_id] = int(tag)
                if list(new.prompt_token_ids) != self._tokens[int(tag)]:
                    self.fail(f"prompt {tag} came with other tokens than the job has")

    def batch(self, shares: Sequence[Share]) -> None:
        """Find the rows that are read in this step."""
        batch = [Scheduled(self._prompt_of.get(each.request), each.computed, each.size) for each in shares]
        # A request that was set aside and began anew is computed twice, and counts once.
        self._rows = [row for row in rows_read(batch, self._read) if (row.prompt, row.place) not in self._seen]
        self.tokens_of_step = sum(each.size for each in shares)
        self._index = torch.tensor([row.row for row in self._rows], device=self._runner.device)

    def ended(self) -> None:
        """Keep what the step gave."""
        if self._rows:
            read = torch.tensor([row.prompt - self._first for row in self._rows])
            shares = torch.tensor([1 / len(self._read[row.prompt]) for row in self._rows])
            for buffer in self.buffers.values():
                buffer.keep(read, shares)
            self._seen.update((row.prompt, row.place) for row in self._rows)
        self._rows = []

    def rows_of_step(self) -> torch.Tensor | None:
        """Which rows of the flat batch are read in this step, on the device; None where there are none."""
        return self._index if self._rows else None

    def _check(self, _: Any, __: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Hold the rows against what the model is given."""
        index = self.rows_of_step()
        if index is None:
            return
        positions, ids = kwargs.get("positions"), kwargs.get("input_ids")
        if positions is None:
            self.fail("the model is given no positions to check rows by")
            return
        flat = positions[0] if positions.ndim == 2 else positions
        if flat[index].tolist() != [row.place for row in self._rows]:
            self.fail("the positions that the model is given are not those of the rows read")
        # The first model runner hands stale ids to later ranks of a pipeline.
        if ids is not None and self._is_first:
            wanted = [self._tokens[row.prompt][row.place] for row in self._rows]
            if ids[index].tolist() != wanted:
                self.fail("the tokens that the model is given are not those of the rows read")


def watch_dense(site: Mapping[str, Any], module: Any, watch: GatheringWatch) -> Buffer | None:
    """Watch what is given to a down projection; None where another rank has all of it.

    Raises:
        ValueError: it is of another size than the job names.
    """
    whole = site["shape"][0]
    here = neurons_of(module, whole, site["name"])
    if len(here) == whole and watch.tp_rank > 0:
        return None
    buffer = Buffer(site["name"], here.start, here.stop)
    module.requires_unquantized_input = True  # else some models hand over quantised numbers

    def hook(_: Any, args: tuple[Any, ...]) -> None:
        index = watch.rows_of_step()
        if index is None:
            return
        given = args[0] if args else None
        if not isinstance(given, torch.Tensor) or given.shape[-1] != len(here):
            watch.fail(f"the neurons of layer {buffer.site} come in a form that can't be read")
            return
        buffer.step.append((given.index_select(0, index).detach(),))

    module.register_forward_pre_hook(hook)
    return buffer
