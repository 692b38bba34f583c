"""The only places where a model is read or edited: a function is installed there, and a handle removes it again.

A function gets a tensor of shape (row, token, feature) and returns its replacement, or None to leave it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import nn

from neurodial.circuit.site import Site
from neurodial.errors import SteeringError
from neurodial.model.experts import TAPS, RoutedEdit, Tap
from neurodial.model.layout import Write
from neurodial.model.subject import Subject

Edit = Callable[[torch.Tensor], torch.Tensor | None]


@runtime_checkable
class Handle(Protocol):
    """Something installed that can be removed again."""

    def remove(self) -> None:
        """Remove it."""
        ...


class Handles:
    """Several handles as one."""

    def __init__(self, handles: Sequence[Handle]) -> None:
        self._handles = list(handles)

    def remove(self) -> None:
        """Remove all of them."""
        for handle in self._handles:
            handle.remove()


def refuse_compiled(subject: Subject) -> None:
    """Refuse a model that torch.compile has already wrapped: it would ignore new hooks in silence.

    Raises:
        SteeringError: the model or a part of it is compiled, or its `generate` has compiled it.
    """
    for module in [subject.model, *subject.decoder.modules()]:
        if _is_compiled(module):
            raise SteeringError(
                f"{subject.label} is compiled ({type(module).__name__}); hooks added now would be ignored in silence.",
                wanted="a model that is compiled inside the `with steer(...)` block, or not at all",
                fix="Load the model again without torch.compile.",
            )


def _is_compiled(module: nn.Module) -> bool:
    """The four ways: a wrapper, `module.compile()`, a compiled `forward`, transformers' own for static caches."""
    own = vars(module)
    return (
        type(module).__name__ == "OptimizedModule"
        or own.get("_compiled_call_impl") is not None
        or own.get("_compiled_call") is not None
        or hasattr(own.get("forward"), "_torchdynamo_orig_callable")
    )


def on_neurons(subject: Subject, site: Site, edit: Edit, *, first: bool = False) -> Handle:
    """Read or replace a site's neurons: the input of its down projection, (row, token, neuron).

    Several edits act in the order in which they were installed; an edit with `first` acts before those.
    """
    if subject.mlp(site).flattens:
        return _on_flat_neurons(subject, site, edit, first=first)

    def hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        del module
        replaced = edit(args[0])
        return None if replaced is None else (replaced, *args[1:])

    return subject.down(site).register_forward_pre_hook(hook, prepend=first)


def on_experts(
    subject: Subject,
    layer: int,
    edit: RoutedEdit,
    *,
    first: bool = False,
    done: Callable[[], None] | None = None,
) -> Handle:
    """Read or replace the neurons of a layer's routed experts: rows of activations, and whose they are.

    In one pass `edit` may be called several times, for one expert or for some; `done` is called at the end of it.
    The order of several edits is as in `on_neurons`.

    Raises:
        SteeringError: at a pass, where a kernel hides the experts' activations.
    """
    site = subject.experts(layer)
    module = subject.blocks[layer].get_submodule(site.module)
    tap = TAPS.get(module)
    if tap is None:
        shape, remember = _remember_shape(subject.blocks[layer])

        def released() -> None:
            remember.remove()
            del TAPS[module]

        tap = TAPS[module] = Tap(module, site.down, shape, released)
    return tap.add(edit, first=first, done=done)


def on_write(subject: Subject, layer: int, sublayer: Literal["attention", "mlp"], edit: Edit) -> Handle:
    """Read or replace what attention or the MLP of a layer adds to the residual stream, (row, token, hidden).

    A layer without such a part gives none; where several stand side by side, each is given by itself.

    Raises:
        SteeringError: the layer's writes could not be told apart when its layout was measured.
    """
    block = subject.layout.blocks[layer]
    if not block.writes_add_up:
        raise SteeringError(
            f"What layer {layer} of {subject.label} adds to the residual stream is not the sum of known writes.",
            wanted="a block whose output is its input plus what attention and MLP write",
            fix="Work on the blocks' outputs instead (where='blocks').",
        )
    part = block.experts if block.site is None else block.site
    mlp = () if part is None or part.write is None else (part.write,)
    writes = block.attention if sublayer == "attention" else mlp
    return Handles([_on_one_write(subject, layer, write, edit) for write in writes])


def _on_one_write(subject: Subject, layer: int, write: Write, edit: Edit) -> Handle:
    shape, remember = _remember_shape(subject.blocks[layer])

    def whole(output: torch.Tensor) -> torch.Tensor | None:
        seen = output.reshape(*shape, output.shape[-1])
        replaced = edit(seen if write.factor == 1 else seen * write.factor)
        if replaced is None:
            return None
        return (replaced if write.factor == 1 else replaced / write.factor).reshape(output.shape)

    module = subject.blocks[layer].get_submodule(write.path)
    return Handles([remember, module.register_forward_hook(_output_hook(whole))])


def _refuse_streams(subject: Subject) -> None:
    if not subject.layout.has_one_stream:
        raise SteeringError(
            f"{subject.label} has several residual streams for each token.",
            wanted="one stream, (row, token, hidden), to read or change",
            fix="Neurons can be read and steered all the same.",
        )


def on_block_output(subject: Subject, layer: int, edit: Edit) -> Handle:
    """Read or replace the residual stream after a block, (row, token, hidden).

    Raises:
        SteeringError: there are several streams for each token.
    """
    _refuse_streams(subject)
    return subject.blocks[layer].register_forward_hook(_output_hook(edit))


@contextmanager
def contiguous_head(subject: Subject) -> Iterator[None]:
    """Give the output head contiguous rows, also where only the logits of the last position are needed.

    Generation asks for the last position's logits only: a slice. For a slice, torch's linear layer repeats the head's
    whole weight once for every row, which in bfloat16 on a CPU can take longer than everything else.
    """
    if any(_is_compiled(module) for module in (subject.model, subject.decoder)):
        yield  # compiled code copies nothing, and a new hook would compile it again
        return
    if subject.layout.head.path is None:
        yield
        return
    head = subject.head
    handle: Handle = head.register_forward_pre_hook(lambda _module, args: (args[0].contiguous(), *args[1:]))
    try:
        yield
    finally:
        handle.remove()


def on_embedding(subject: Subject, edit: Edit) -> Handle:
    """Read or replace the residual stream before the first block, (row, token, hidden).

    Raises:
        SteeringError: there are several streams for each token.
    """
    _refuse_streams(subject)

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        del module
        hidden = args[0] if args else kwargs["hidden_states"]
        replaced = edit(hidden)
        if replaced is None:
            return None
        return ((replaced, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": replaced})

    return subject.blocks[0].register_forward_pre_hook(hook, with_kwargs=True)


class DecoderPass(NamedTuple):
    """A pass of the decoder that begins.

    Attributes:
        rows: of the batch.
        tokens: of each row, padding included.
        cached: tokens that are cached already.
        inputs: what the decoder is called with, by name.
    """

    rows: int
    tokens: int
    cached: int
    inputs: Mapping[str, Any]

    @property
    def ids(self) -> torch.Tensor | None:
        """The token ids; None for embeddings."""
        return self.inputs.get("input_ids")


def on_forward(subject: Subject, look: Callable[[int, int, int], None]) -> Handle:
    """Call `look` before each pass of the decoder with the number of rows, of tokens, and of tokens already cached."""
    return on_pass(subject, lambda fed: look(fed.rows, fed.tokens, fed.cached))


def on_pass(subject: Subject, look: Callable[[DecoderPass], None]) -> Handle:
    """Call `look` before each pass of the decoder."""

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        del module
        inputs = {**({"input_ids": args[0]} if args else {}), **kwargs}
        ids = inputs.get("input_ids")
        tokens = inputs.get("inputs_embeds") if ids is None else ids
        if tokens is None:
            raise SteeringError("The decoder was called without input_ids or inputs_embeds.")
        cache = inputs.get("past_key_values")
        cached = 0 if cache is None else int(cache.get_seq_length())
        look(DecoderPass(int(tokens.shape[0]), int(tokens.shape[1]), cached, inputs))

    return subject.decoder.register_forward_pre_hook(hook, with_kwargs=True)


def watchers(subject: Subject) -> int:
    """How many `on_forward` hooks are on the model: one for every block that steers it."""
    return len(subject.decoder._forward_pre_hooks)  # torch has no public way to ask


Adjoint = Callable[[torch.Tensor], torch.Tensor]


class _WithAdjoint(torch.autograd.Function):
    """Gives `output` as it is; in the backward pass its gradient goes through `adjoint` to `inputs`."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, output: torch.Tensor, adjoint: Adjoint) -> torch.Tensor:
        del inputs
        ctx.adjoint = adjoint
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return ctx.adjoint(gradients[0]), None, None


def on_derivative(module: nn.Module, rule: Callable[[torch.Tensor, torch.Tensor], Adjoint]) -> Handle:
    """Replace how a module's gradient is computed; its values stay as they are, bit for bit.

    Args:
        module: takes one tensor and gives one.
        rule: gets input and output, and gives the function from the gradient of the output to that of the input.
    """
    seen: list[torch.Tensor] = []

    def before(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        del module
        seen[:] = [args[0]]
        return (args[0].detach(), *args[1:])

    def after(module: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        del module, args
        inputs = seen.pop()
        with torch.no_grad():
            adjoint = rule(inputs.detach(), output)
        replaced: torch.Tensor = _WithAdjoint.apply(inputs, output, adjoint)  # type: ignore[no-untyped-call]
        return replaced

    return Handles([module.register_forward_pre_hook(before), module.register_forward_hook(after)])


def on_gradient(module: nn.Module, adjoint: Adjoint | None) -> Handle:
    """Change the gradient that arrives at a module's output; None: no gradient passes it."""

    def hook(module: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor | None:
        del module, args
        if adjoint is None:
            return output.detach()
        if output.requires_grad:
            output.register_hook(adjoint)
        return None

    return module.register_forward_hook(hook)


@contextmanager
def installed(handles: Callable[[list[Handle]], None]) -> Iterator[None]:
    """Install what `handles` appends to its list; remove all of it at the end, after errors too."""
    placed: list[Handle] = []
    try:
        handles(placed)
        yield
    finally:
        for handle in reversed(placed):
            handle.remove()


def _output_hook(edit: Edit) -> Callable[[nn.Module, tuple[Any, ...], Any], Any]:
    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        del module, args
        if isinstance(output, tuple):
            replaced = edit(output[0])
            return None if replaced is None else (replaced, *output[1:])
        return edit(output)

    return hook


def _remember_shape(block: nn.Module) -> tuple[list[int], Handle]:
    """A list that holds (rows, tokens) of the block's present input, for parts that flatten the two."""
    shape: list[int] = []

    def look(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        del module
        hidden = args[0] if args else kwargs["hidden_states"]
        shape[:] = hidden.shape[:2]

    return shape, block.register_forward_pre_hook(look, with_kwargs=True)


def _on_flat_neurons(subject: Subject, site: Site, edit: Edit, *, first: bool) -> Handle:
    shape, remember = _remember_shape(subject.blocks[site.layer])

    def hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        del module
        neurons = args[0]
        replaced = edit(neurons.view(*shape, neurons.shape[-1]))
        return None if replaced is None else (replaced.reshape(neurons.shape), *args[1:])

    return Handles([remember, subject.down(site).register_forward_pre_hook(hook, prepend=first)])
