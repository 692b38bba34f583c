"""Every error that neurodial raises on purpose.

Each message says what came, what was wanted and what to do. `docs/errors.md` lists them all.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Literal


class NeurodialError(Exception):
    """Base of every error that neurodial raises on purpose.

    Args:
        problem: what came, in one sentence.
        wanted: what was wanted instead.
        fix: what the reader can do now.

    Example:
        >>> str(NeurodialError("The dial is 'high'.", wanted="a number", fix="Try --dial 1."))
        "The dial is 'high'. Wanted: a number. Try --dial 1."
    """

    def __init__(self, problem: str, *, wanted: str | None = None, fix: str | None = None) -> None:
        self.problem, self.wanted, self.fix = problem, wanted, fix
        parts = [problem]
        if wanted:
            parts.append(f"Wanted: {wanted.rstrip('.')}.")
        if fix:
            parts.append(fix)
        super().__init__(" ".join(parts))


class PromptError(NeurodialError):
    """A prompt set is empty, one-sided, malformed or holds a prompt twice."""


class OverlapError(PromptError):
    """The same prompt stands in two splits, or on both sides of a contrast."""


class ContextLengthError(PromptError):
    """A rendered prompt is longer than the model's context."""


class UnknownNameError(NeurodialError):
    """A name (behaviour, option, model) is not known; the message offers near names."""


class OptionError(NeurodialError):
    """An option has a value that makes no sense."""


class ModelError(NeurodialError):
    """A model can't be loaded or used as asked."""


class LayoutError(ModelError):
    """No neurons were found in a model, or it is built in a way that can't be used.

    Attributes:
        mlp: `routed` where all MLPs are routed experts, `none` where there is no MLP, None where another reason holds.
    """

    mlp: Literal["routed", "none"] | None = None


class ModelMismatchError(ModelError):
    """A circuit was made on another model than the one it is put on."""


class ActivationError(NeurodialError):
    """Activations hold NaN or infinite values, or can't be read at the position asked for."""


class TargetError(NeurodialError):
    """A trace's target is several tokens, unknown to the vocabulary, or the same as its foil."""


class TraceFileError(NeurodialError):
    """A trace file is damaged, of an unknown version or not a trace file."""


class SteeringError(NeurodialError):
    """An intervention can't be put on this model or this batch."""


class MarginError(NeurodialError):
    """A behaviour can't be measured by the margin asked for; the message offers others."""


class GradientError(ModelError):
    """A model gives no gradients: a part of it has no backward pass."""


class BudgetError(NeurodialError):
    """A damage budget or a target of the margin can't be met; the message says what was reached."""


class CircuitError(NeurodialError):
    """A circuit is empty, holds a neuron twice, or can't be combined."""


class CircuitFileError(CircuitError):
    """A circuit file is damaged, of an unknown version or not a circuit file."""


class FileError(NeurodialError):
    """A file exists already, can't be read, or can't be written; nothing was lost."""


class ExportError(NeurodialError):
    """A circuit can't be shipped by the route asked for, or a folder is not an export."""


class VerificationError(ExportError):
    """Exported files do not do what the circuit does in the model."""


class VerbaliserError(NeurodialError):
    """A verbaliser or reconstructor is damaged, is for another model or layer, or does not answer."""


class EngineError(NeurodialError):
    """Another engine can't be started, ended early, or did not see every neuron of every prompt once."""


class MissingPackageError(NeurodialError):
    """An optional part needs a package that is not installed; the message says how to get it."""


class ServingError(NeurodialError):
    """The server can't take a request, or can't start."""


class QueueFullError(ServingError):
    """More requests wait than the server's queue holds."""


class ServerClosedError(ServingError):
    """The server is shutting down."""


def near_names(name: str, known: Iterable[str], *, listed_by: str | None = None) -> str:
    """A sentence that offers the known names nearest to `name`, and all of them.

    Args:
        name: what came.
        known: the names that there are.
        listed_by: a command that lists them, where they are too many for a message: it stands in their place.

    Example:
        >>> near_names("refusel", ["refusal", "french"])
        'Did you mean refusal? Known: french, refusal.'
        >>> near_names("lama", ["llama", "mamba", "gpt2"], listed_by="neurodial models")
        'Did you mean llama or mamba? All 3: `neurodial models`.'
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=5 if listed_by else 3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(close)}? " if close else ""
    every = f"All {len(names)}: `{listed_by}`" if listed_by else f"Known: {', '.join(names)}"
    return f"{hint}{every}."
