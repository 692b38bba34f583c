"""`neurodial models`: which model types and quantised formats work, and what can be done with each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from neurodial.cli.console import out, print_json

if TYPE_CHECKING:
    from neurodial.model.known_models import KnownModel
    from neurodial.model.quantised_formats import QuantisedFormat


def models(*names: str, json: bool = False) -> None:
    """List the model types and the formats of quantised weights that were tried, and what works with each.

    Args:
        names: model types (`model_type` in config.json) or formats of quantised weights ("GPTQ 4 bit", or GPTQ), each
            with its reasons; by default all in tables.
        json: print JSON, with every reason.
    """
    from neurodial.model.known_models import known_models
    from neurodial.model.quantised_formats import quantised_formats

    found = [row for name in names for row in _named(name)] or [*known_models(), *quantised_formats()]
    types, formats = _by_kind(found)
    if json:
        print_json([*map(_plain, types), *map(_plain_format, formats)])
    elif names:
        for row in types:
            _show(row)
        for form in formats:
            _show_format(form)
    else:
        _list(types)
        _list_formats(formats)


def _named(name: str) -> Sequence[KnownModel | QuantisedFormat]:
    from neurodial.model.known_models import known_model
    from neurodial.model.quantised_formats import formats_named, quantised_formats

    return formats_named(name) or [known_model(name, [form.name for form in quantised_formats()])]


def _by_kind(rows: Sequence[KnownModel | QuantisedFormat]) -> tuple[list[KnownModel], list[QuantisedFormat]]:
    from neurodial.model.quantised_formats import QuantisedFormat

    formats = [row for row in rows if isinstance(row, QuantisedFormat)]
    return [row for row in rows if not isinstance(row, QuantisedFormat)], formats


def _plain(row: KnownModel) -> dict[str, object]:
    found = {"name": row.name, "kind": row.kind, "neurons": row.neurons, "mlp": row.mlp, "absent": row.absent}
    return {**found, **row.told}


def _plain_format(row: QuantisedFormat) -> dict[str, object]:
    found = {"name": row.name, "kind": "quantised base", "library": row.package, "held": row.held}
    return {**found, "by_batch": row.by_batch, "absent": row.absent, "note": row.note, **row.told}


def _list(rows: Sequence[KnownModel]) -> None:
    from neurodial.model.known_models import CAPABILITIES, YES, tried_with

    table = Table("model type", *CAPABILITIES, "neurons at", box=None)
    for row in rows:
        if row.absent is None:
            table.add_row(row.name, *("yes" if row.told[name] == YES else "-" for name in CAPABILITIES), row.neurons)
    out.print(table)
    working = sum(row.works for row in rows)
    absent = [row.name for row in rows if row.absent is not None]
    out.print(
        f"\n{working} of {len(rows)} types of transformers {tried_with()} can be searched and steered, each tried on a "
        "small random model. Other types work where a layout is found on loading.",
        markup=False,
    )
    out.print(f"Without: {', '.join(absent)}. `neurodial models TYPE` says why.", markup=False)


def _list_formats(rows: Sequence[QuantisedFormat]) -> None:
    from neurodial.model.known_models import YES
    from neurodial.model.quantised_formats import QUANTISED_CAPABILITIES, untried_formats

    table = Table("quantised base", "library", *QUANTISED_CAPABILITIES, "weights are", box=None)
    for row in rows:
        cells = ("yes" if row.told.get(name) == YES else "-" for name in QUANTISED_CAPABILITIES)
        table.add_row(row.name, row.package or "none needed", *cells, row.held or "can't be loaded")
    out.print("\nQuantised bases, tried on the processor; `neurodial models FORMAT` says why:", markup=False)
    out.print(table)
    out.print(f"Not tried: {', '.join(untried_formats())}.", markup=False)


def _show(row: KnownModel) -> None:
    out.print(f"{row.name} ({row.kind}): {row.absent or f'neurons at {row.neurons}'}", markup=False)
    for name, text in row.told.items():
        out.print(f"  {name}: {text}", markup=False)


def _show_format(row: QuantisedFormat) -> None:
    held = row.absent or f"weights are {row.held}"
    out.print(f"{row.name} (quantised base, {row.package or 'no library needed'}): {held}", markup=False)
    for name, text in row.told.items():
        out.print(f"  {name}: {text}", markup=False)
    if row.note is not None:
        out.print(f"  {row.note}", markup=False)
