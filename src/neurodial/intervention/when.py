"""Which tokens steering acts on. Torch-free: the command line reads this too."""

from __future__ import annotations

from typing import NamedTuple

from neurodial.errors import OptionError, UnknownNameError, near_names
from neurodial.text.answer_parts import Part

When = str
"""Which tokens: a name in `PHASES`, and perhaps `:k`, only the first k generated ones of those (`generated:8`)."""
PHASES: dict[str, tuple[bool, bool, bool, bool]] = {
    "all": (True, True, True, True),
    "prompt": (True, False, False, False),
    "generated": (False, True, True, True),
    "thinking": (False, False, True, False),
    "answer": (False, True, False, False),
    "tools": (False, False, False, True),
}
"""For each phase, whether steering acts in it: the prompt, the answer, thinking, tool calls."""
PHASE_OF: dict[Part, int] = {"answer": 1, "thinking": 2, "tools": 3}
LATE = 3
"""What is added to the phase of a generated token after the first k."""


class First(NamedTuple):
    """Only the first tokens that are generated, or the first of each part.

    Attributes:
        tokens: how many.
        of_part: counted from where thinking, the answer or tool calls begin, not from the end of the prompt.
    """

    tokens: int
    of_part: bool


class Acting(NamedTuple):
    """Which tokens steering acts on: the phases, and how many of the generated tokens."""

    phases: tuple[bool, bool, bool, bool]
    first: First | None


def read_when(when: When) -> Acting:
    """Which tokens a `when` names.

    Example:
        >>> read_when("answer:8").first
        First(tokens=8, of_part=True)

    Raises:
        UnknownNameError: no part has that name.
        OptionError: what follows the colon is no number of generated tokens.
    """
    part, colon, count = str(when).partition(":")
    if part not in PHASES:
        raise UnknownNameError(f"`when` is {when!r}.", fix=near_names(part, PHASES))
    if not colon:
        return Acting(PHASES[part], None)
    if part == "prompt" or not count.isdecimal() or int(count) < 1:
        raise OptionError(
            f"`when` is {when!r}.", wanted="a number of generated tokens, 1 or more, as in generated:8 or answer:8"
        )
    return Acting(PHASES[part], First(int(count), of_part=part in PHASE_OF))
