"""What an export format is: one record of all that command, studio, card and check need. Torch-free."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from neurodial.errors import ExportError
from neurodial.export.engines import EngineNote
from neurodial.model.engine_names import EngineNames

if TYPE_CHECKING:
    from neurodial.export.loaded import Loaded
    from neurodial.export.manifest import AdapterInfo, Manifest
    from neurodial.export.recipe import Recipe
    from neurodial.model.subject import Subject

DIALLED = (1.0, 0.5, -1.0)
"""The strengths at which files are checked whose strength an engine turns."""
FIXED = (1.0,)
"""The same for files that are fixed at their dial."""


class WrittenFiles(NamedTuple):
    """What a format wrote.

    Attributes:
        precision: the coarsest dtype that the changed weights went through.
        adapter: how the adapter that the model carried goes along.
    """

    precision: str
    adapter: AdapterInfo | None = None


def refuse_nothing(subject: Subject, recipe: Recipe) -> None:
    """The check of a format that takes every model and circuit."""
    del subject, recipe


@dataclass(frozen=True)
class ExportFormat:
    """One form that a circuit leaves in.

    Attributes:
        name: what it is asked for by: `--as`, `route=`, and `route` in the manifest.
        title: what the studio calls it.
        content: what the files are; the card goes on with the dial.
        loaded_by: which engines load it, in a few words.
        is_dialled: whether an engine can turn the files' strength; else they are fixed at their dial.
        hub_library: `library_name` of the card.
        relation: `base_model_relation` of the card.
        write: writes the files into a folder.
        load: loads them onto, or beside, the model, to be compared with the hook.
        engines: what to say about each engine, of a model's names, a rank, and whether it carries an adapter.
        usage: how the files are used, as a Markdown block.
        check: refuses, before any work, what the format can't do.
        detail: what else there is to know before choosing it: sentences.
        takes_experts: whether it can hold neurons of routed experts.

    Example:
        >>> from neurodial.export.formats import export_format
        >>> export_format("ia3").strengths
        (1.0,)
    """

    name: str
    title: str
    content: str
    loaded_by: str
    is_dialled: bool
    hub_library: str
    relation: Literal["adapter", "finetune", "quantized"]
    write: Callable[[Subject, Recipe, Path], WrittenFiles]
    load: Callable[[Subject, Manifest, Path], AbstractContextManager[Loaded]]
    engines: Callable[[EngineNames, int, bool], Sequence[EngineNote]]
    usage: Callable[[Manifest], str]
    check: Callable[[Subject, Recipe], None] = refuse_nothing
    detail: str = ""
    takes_experts: bool = False

    def check_all(self, subject: Subject, recipe: Recipe) -> None:
        """Refuse, before any work, what the format can't do.

        Raises:
            ExportError: says what, and what to do instead.
        """
        if recipe.routed and not self.takes_experts:
            raise ExportError(
                f"The circuit has {sum(map(len, recipe.routed.values()))} neurons in routed experts; the format "
                f"{self.name} holds neurons of dense and shared MLPs only.",
                fix="Scale them in the model's weights (--as weights), or write a LoRA for PEFT (--as lora).",
            )
        self.check(subject, recipe)

    @property
    def strengths(self) -> tuple[float, ...]:
        """The strengths at which the files are checked."""
        return DIALLED if self.is_dialled else FIXED

    @property
    def description(self) -> str:
        """What the card says it is."""
        return self.content + (". Its strength is the dial." if self.is_dialled else ", fixed at its dial.")

    @property
    def summary(self) -> str:
        """What command, studio and reference say to somebody who chooses."""
        strength = "Its strength is the dial." if self.is_dialled else "Fixed at its dial."
        return " ".join(part for part in (f"{self.loaded_by}.", strength, self.detail) if part)


def python_block(line: str) -> str:
    """A line of Python as a Markdown block."""
    return f"```python\n{line}\n```"


def console_block(lines: str) -> str:
    """Lines for a terminal as a Markdown block."""
    return f"```console\n{lines}\n```"
