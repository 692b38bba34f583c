"""The steps of a vLLM model runner: which requests lie in each flat batch, in which order, with how many tokens.

What of vLLM's insides it leans on:

1. `model_runner.execute_model(scheduler_output)`, in which a step runs: which requests, how many tokens of each.
2. The order of the requests in the flat batch: `runner.input_batch.req_ids` once `_prepare_inputs` is done, or, in the
   second model runner, `req_ids` of what `prepare_inputs` gives. Both come before the model runs, and where a graph
   is replayed in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol


class Share(NamedTuple):
    """A request's share of one step.

    Attributes:
        request: its id.
        computed: how many of its tokens were computed before.
        size: how many are in this step.
    """

    request: str
    computed: int
    size: int


class Follower(Protocol):
    """What is told of each step."""

    def began(self, requests: Sequence[Any], finished: Sequence[str]) -> None:
        """A step begins: what is new in it, as the scheduler describes requests, and the ids of what is done."""

    def batch(self, shares: Sequence[Share]) -> None:
        """Its inputs are prepared: the requests in the order in which they lie in the batch."""

    def ended(self) -> None:
        """It is over."""

    def fail(self, trouble: str) -> None:
        """The order of the requests is not known."""


def follow(runner: Any, follower: Follower) -> None:
    """Tell a follower of every step of a model runner, from now on; warm-up runs are none."""
    execute = runner.execute_model
    name = "prepare_inputs" if hasattr(runner, "prepare_inputs") else "_prepare_inputs"
    prepare = getattr(runner, name)
    computed: dict[str, int] = {}
    steps: list[Any] = []

    def execute_model(scheduled: Any, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("dummy_run"):
            return execute(scheduled, *args, **kwargs)
        finished = [request for request in scheduled.finished_req_ids if computed.pop(request, None) is not None]
        computed.update((new.req_id, new.num_computed_tokens) for new in scheduled.scheduled_new_reqs)
        cached = scheduled.scheduled_cached_reqs
        computed.update(zip(cached.req_ids, cached.num_computed_tokens, strict=True))
        follower.began(scheduled.scheduled_new_reqs, finished)
        steps.append(scheduled)
        try:
            return execute(scheduled, *args, **kwargs)
        finally:
            steps.pop()
            follower.ended()

    def prepare_inputs(*args: Any, **kwargs: Any) -> Any:
        result = prepare(*args, **kwargs)
        if steps:
            counts = steps[-1].num_scheduled_tokens
            order = list(result.req_ids if name == "prepare_inputs" else runner.input_batch.req_ids)
            if set(order) == set(counts):
                follower.batch([Share(request, computed[request], counts[request]) for request in order])
            else:
                follower.fail("the order of the requests in a step is not known")
        return result

    runner.execute_model = execute_model
    setattr(runner, name, prepare_inputs)


def neurons_of(module: Any, whole: int, name: str) -> range:
    """The neurons of a down projection that this process has.

    Args:
        module: vLLM's linear layer.
        whole: how many there should be over all processes.
        name: of the layer, for the error.

    Raises:
        ValueError: it is of another size.
    """
    if module.input_size != whole:
        raise ValueError(f"layer {name} has {module.input_size} neurons, and {whole} were expected")
    width = int(getattr(module, "input_size_per_partition", whole))
    start = int(module.tp_rank) * width if width < whole else 0
    return range(start, start + width)
