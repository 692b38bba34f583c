"""Several passes through a model, block by block where blocks are offloaded: weights are read once for all passes.

Batch by batch, accelerate reads every offloaded block again for each batch; where a model is larger than memory, that
is nearly all the time. Here:

1. Every pass has a thread of its own; one runs at a time, so nothing runs in parallel and order is given.
2. At the door of an offloaded block a pass waits until all others stand there or are done.
3. accelerate's own hooks bring the block's weights in, once; every pass goes through it; the weights go again.

Between doors a pass holds what the model itself holds there: the residual stream of its batch, masks, positions, and
its cache of keys and values where it has one. It works with any architecture, as no block is called by hand.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from neurodial.model.subject import Subject

HELD = 2 * 1024**3
"""Bytes that the passes which go through the blocks together may hold between blocks."""


def run_passes(
    subject: Subject,
    passes: Sequence[Callable[[], None]],
    turn: Callable[[int], None],
    done: Callable[[int], None],
    *,
    held: Sequence[int],
) -> None:
    """Run passes one after the other; where blocks are offloaded, each block for many passes before the next block.

    Args:
        subject: the model.
        passes: each runs the decoder once, without gradients.
        turn: told whose turn it is, before any module of that pass runs.
        done: told which pass has ended.
        held: bytes that each pass holds between blocks; as many go together as hold no more than `HELD`.

    Raises:
        Exception: what a pass raised; the others are ended, and the model is left as it was.
    """
    blocks = offloaded_blocks(subject)
    if not blocks:
        for number, work in enumerate(passes):
            turn(number)
            work()
            done(number)
        return
    running = [_WaitingPass(number, work) for number, work in enumerate(passes)]
    for numbers in _within(held, HELD):
        _run_together(blocks, [running[number] for number in numbers], turn, done)


def offloaded_blocks(subject: Subject) -> tuple[nn.Module, ...]:
    """The decoder's blocks of which accelerate reads some weights anew in every pass."""
    return tuple(block for block in dict.fromkeys(subject.blocks) if any(offloading(block)))


def _within(sizes: Sequence[int], limit: int) -> Iterator[list[int]]:
    """Numbers that follow one another, as many together as the limit allows, and one at least."""
    group: list[int] = []
    for number, size in enumerate(sizes):
        if group and sum(sizes[one] for one in group) + size > limit:
            yield group
            group = []
        group.append(number)
    if group:
        yield group


def _run_together(
    blocks: Sequence[nn.Module],
    running: Sequence[_WaitingPass],
    turn: Callable[[int], None],
    done: Callable[[int], None],
) -> None:
    with ExitStack() as stack:
        for block in blocks:
            stack.enter_context(_door(block))
        stack.callback(_end, running)
        while waiting := [one for one in running if not one.is_done]:
            door = waiting[0].door
            with _brought_in(door):
                for one in waiting:
                    if one.door is door:
                        turn(one.number)
                        one.step()
                        if one.is_done:
                            done(one.number)


class _WaitingPass(threading.Thread):
    """A pass that runs until the next door when it is told to."""

    def __init__(self, number: int, work: Callable[[], None]) -> None:
        super().__init__(name=f"pass {number}", daemon=True)
        self.number = number
        self.door: nn.Module | None = None
        self.is_done = False
        self._work = work
        self._error: BaseException | None = None
        self._is_ended = False
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)

    def step(self) -> None:
        """Run to the next door, or to the end."""
        if not self.is_alive():
            self.start()
        self._go.release()
        self._stopped.acquire()
        if self._error is not None:
            raise self._error

    def end(self) -> None:
        """Let a pass that waits at a door end there."""
        if self.is_alive() and not self.is_done:
            self._is_ended = True
            self._go.release()
            self._stopped.acquire()

    def wait(self, block: nn.Module) -> None:
        """Stand at a block's door until it is this pass's turn."""
        self.door = block
        self._stopped.release()
        self._go.acquire()
        if self._is_ended:
            raise _Ended

    def run(self) -> None:
        self._go.acquire()
        try:
            with torch.no_grad():  # whether gradients are made is a thread's own matter
                self._work()
        except _Ended:
            pass
        except BaseException as error:  # noqa: BLE001  # raised again where the pass was told to run
            self._error = error
        finally:
            self.is_done = True
            self._stopped.release()


class _Ended(BaseException):
    """A pass is not needed any more, as another one failed."""


def _end(running: Sequence[_WaitingPass]) -> None:
    for one in running:
        one.end()


@contextmanager
def _door(block: nn.Module) -> Iterator[None]:
    def stop(*_: Any) -> None:
        one = threading.current_thread()
        if isinstance(one, _WaitingPass):
            one.wait(block)

    handle = block.register_forward_pre_hook(stop)  # runs before accelerate's, which stands in forward itself
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _brought_in(block: nn.Module | None) -> Iterator[None]:
    """A block's weights in memory; its hooks neither read nor drop them until the end."""
    brought: list[tuple[nn.Module, Any]] = []
    try:
        for module, hook in [] if block is None else offloading(block):
            hook.pre_forward(module)
            hook.offload = False
            brought.append((module, hook))
        yield
    finally:
        for module, hook in brought:
            hook.offload = True
            hook.post_forward(module, None)


def offloading(whole: nn.Module) -> Iterator[tuple[nn.Module, Any]]:
    """Modules whose weights accelerate brings in when they run, with its hook."""
    for module in whole.modules():
        hook = getattr(module, "_hf_hook", None)
        for one in getattr(hook, "hooks", (hook,)):
            if getattr(one, "offload", False):
                yield module, one
