"""`neurodial audit-weights`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from neurodial.cli.console import bars, err, out, print_json
from neurodial.errors import OptionError

if TYPE_CHECKING:
    from neurodial.edits.direction import RemovedDirection
    from neurodial.edits.weight_audit import WeightAudit

EXIT_CODES = {
    "identical": 0,
    "same but for rounding": 0,
    "neurons scaled": 3,
    "a direction was removed": 4,
    "not a neuron scaling": 5,
    "neurons scaled and more": 5,
    "unclear": 6,
}
"""What the command ends with for each verdict; 1 and 2 are errors."""


def audit_weights(
    base: str,
    candidate: str,
    *,
    top: int = 20,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    force: bool = False,
    json: bool = False,
) -> None:
    """Say what was done to a model's weights: neurons scaled and by how much, a direction removed, something else.

    Both are read piece by piece, without loading a model. The exit code is 0 where nothing was done, 3 where neurons
    were scaled, 4 where a direction was removed, 5 for any other edit, 6 where the files can't tell.

    Args:
        base: the model before the edit: a safetensors folder, a GGUF file, a Hub id, or `demo-base`.
        candidate: the edited copy in any of these forms, a LoRA or IA3 adapter's folder, or a GGUF adapter.
        top: how many neurons to list, those moved farthest first; 0 for all.
        output: write the scaling as a circuit to this file: at dial 1 it does to the base what the edit did.
        force: overwrite the file.
        json: print JSON.
    """
    from neurodial.edits.audit_weights import audit_weights as compare
    from neurodial.files import refuse_existing

    if top < 0:
        raise OptionError(f"The number of neurons to list is {top}.", wanted="0 for all, or more")
    if output is not None:
        refuse_existing(output, overwrite=force)
    audit = compare(base, candidate, progress=bars)
    if json:
        print_json(audit.as_json())
    else:
        _show(audit, top or len(audit.neurons))
    if output is not None:
        name = output.name.removesuffix(".json").removesuffix(".circuit")
        err.print(f"written: {audit.circuit(name).write(output, overwrite=force)}", markup=False)
    sys.exit(EXIT_CODES[audit.verdict])


def _show(audit: WeightAudit, top: int) -> None:
    from neurodial.edits.weight_audit import MEANINGS

    out.print(Text.assemble((audit.verdict, "bold"), f": {MEANINGS[audit.verdict]}"))
    counts = ", ".join(f"{count} {name}" for name, count in audit.tensors.items())
    out.print(f"tensors: {counts} ({audit.form})", markup=False)
    if audit.neurons:
        _show_neurons(audit, top)
    if audit.direction is not None:
        _show_direction(audit.direction)
    if audit.changed and not audit.neurons:
        table = Table("tensors", "layers", "relative change", box=None)
        for part in audit.changed[:top]:
            table.add_row(Text(part.title), str(part.layers), f"{part.change:.2e}")
        out.print(table)
    for note in audit.notes:
        out.print(f"note: {note}", markup=False)


def _show_neurons(audit: WeightAudit, top: int) -> None:
    ranked = sorted(audit.neurons, key=lambda row: (-abs(row.multiplier - 1), row.layer, row.index))
    layers = len({row.layer for row in ranked})
    out.print(f"{len(ranked)} neurons in {layers} layers; a multiplier of 0 is a neuron removed")
    table = Table("layer", "neuron", "multiplier", "±", "dose", "where", box=None)
    for row in ranked[:top]:
        dose = "none does this" if row.dose is None else f"{row.dose:.6g}"
        cells = (f"{row.multiplier:.6g}", f"{row.error:.1g}", dose, ", ".join(row.parts))
        table.add_row(str(row.layer), str(row.index), *cells)
    out.print(table)
    if len(ranked) > top:
        out.print(f"… and {len(ranked) - top} more", style="dim")


def _show_direction(direction: RemovedDirection) -> None:
    fit = min(row.fit for row in direction.tensors)
    out.print(
        f"{direction.share:.0%} of it, from {len(direction.tensors)} tensors; their directions agree by "
        f"{direction.agreement:.3f} (1 is one and the same), and the removal is at least {fit:.1%} of each change"
    )
