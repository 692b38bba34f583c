"""What the methods have in common. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Sign = Literal["both", "positive", "negative"]
"""Which neurons may be chosen, by the sign of their score: of either sign, or only those of one."""


def prompt_list_names() -> Sequence[str]:
    """The prompt lists that ship, looked up when they are asked for: options are read before prompts are."""
    from neurodial.prompts import lists

    return lists.prompt_list_names()
