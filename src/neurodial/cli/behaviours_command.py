"""`neurodial behaviours`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from neurodial.cli.console import out, print_json
from neurodial.cli.options import TwoLists
from neurodial.errors import OptionError

if TYPE_CHECKING:
    from neurodial.prompts.prompt import Prompt


def behaviours(name: str | None = None, *, count: int = 5, json: bool = False, lists: TwoLists | None = None) -> None:
    """List the contrast sets that ship with neurodial, or preview one.

    Args:
        name: a shipped behaviour, or the path of a prompt file (which is checked); all are listed without it.
        count: how many pairs to preview.
        json: print JSON.
        lists: the behaviour as two files.
    """
    from neurodial.prompts.behaviours import behaviour_names, describe_behaviour

    if count < 0:
        raise OptionError(f"The number of pairs to preview is {count}.", wanted="0 or more")
    lists = lists or TwoLists()
    if name is None and lists == TwoLists():
        rows = [(known, *describe_behaviour(known)) for known in behaviour_names()]
        if json:
            print_json([{"name": known, "title": title, "description": text} for known, title, text in rows])
            return
        table = Table("behaviour", "what it contrasts", box=None)
        for known, title, _ in rows:
            table.add_row(known, Text(title))
        out.print(table)
        out.print("\nPreview one: neurodial behaviours NAME. Your own: a file of prompts.", style="dim")
        return
    _preview(lists.pairs(name), count, as_json=json)


def _preview(pairs: object, count: int, *, as_json: bool) -> None:
    from neurodial.prompts.pairs import SPLITS, PairSet, few_prompts

    assert isinstance(pairs, PairSet)  # noqa: S101  # the type is imported late, so that help is quick
    present = [(name, split) for name, split in zip(SPLITS, pairs.splits, strict=True) if split is not None]
    shown = present[0][1]
    examples = [(_text(p.prompt), _text(n.prompt)) for p, n in zip(shown.positive, shown.negative, strict=False)][
        :count
    ]
    behaviour = pairs.behaviour
    few = None if pairs.splits[0] is None else few_prompts(pairs.splits[0])
    notes = (*pairs.notes, *([few] if few else []))
    if as_json:
        print_json(
            {
                "name": behaviour.name,
                "title": behaviour.title,
                "description": behaviour.description,
                "margin": behaviour.margin,
                "detector": behaviour.detector,
                "rate_on": behaviour.rate_on,
                "hash": pairs.hash,
                "splits": {name: {"positive": len(s.positive), "negative": len(s.negative)} for name, s in present},
                "notes": list(notes),
                "preview": [{"positive": positive, "negative": negative} for positive, negative in examples],
            }
        )
        return
    said = "".join(f"\n{text}" for text in (behaviour.title, behaviour.description) if text)
    out.print(Text.assemble((behaviour.name, "bold"), said))
    for name, split in present:
        out.print(f"  {name}: {len(split.positive)} positive, {len(split.negative)} negative")
    detector = behaviour.detector or "none named (--detectors names one, else one is derived from the prompts)"
    out.print(
        f"  margin: {behaviour.margin}; detector: {detector}; rate measured on: {behaviour.rate_on} prompts\n",
        markup=False,
    )
    if few:
        out.print(f"note: {few}\n", markup=False)
    table = Table("shows the behaviour", "its opposite", show_lines=True)
    for positive, negative in examples:
        table.add_row(Text(positive), Text(negative))
    out.print(table)


def _text(prompt: Prompt) -> str:
    """A prompt as a preview shows it: a chat of several messages with their roles."""
    if isinstance(prompt, str) or len(prompt) == 1:
        return prompt if isinstance(prompt, str) else prompt[0].content
    return "\n".join(f"{message.role}: {message.content}" for message in prompt)
