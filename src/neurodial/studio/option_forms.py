"""Requests and forms derived from the library's dataclasses of options: what the page may ask for, and how it asks.

What a request leaves out keeps the options' own default; null is `none` where an option may be none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model

from neurodial.errors import near_names
from neurodial.options import Option, SpelledForm, options_of

LONGEST_TEXT = 20_000
_LONGEST_SPELLED = 200
_LARGEST = 1_000_000


class GivenOptions(BaseModel):
    """Options as the page gave them; each derived class has one field for each option."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    def given(self) -> dict[str, object]:
        """What was given, by the name of the option."""
        return self.model_dump(exclude_unset=True)


def studio_options(options: Any) -> list[Option]:
    """The options that the studio offers, each name once."""
    offered: dict[str, Option] = {}
    for option in options_of(options):
        if option.notes.in_studio:
            offered.setdefault(option.name, option)
    return list(offered.values())


def request_model(name: str, *declared: Any, module: str = __name__) -> type[GivenOptions]:
    """A class of requests that takes the options of one dataclass's value or of several.

    Names of lists and detectors are those that ship: a page must not have files read, or code run, by their name.
    """
    ways: dict[str, list[Option]] = {}
    for options in declared:
        for option in studio_options(options):
            ways.setdefault(option.name, []).append(option)
    fields: Mapping[str, Any] = {option: (_field_type(same), None) for option, same in ways.items()}
    about = f"Options that differ from the defaults: {name}."
    return create_model(name, __base__=GivenOptions, __module__=module, __doc__=about, **fields)


def _field_type(ways: list[Option]) -> Any:
    first = ways[0]
    choices = [choice for option in ways for choice in option.choices]
    kind: Any
    if choices:
        kind = Literal[tuple(dict.fromkeys(choices))]
    elif first.notes.listed is not None:
        kind = Annotated[str, Field(max_length=_LONGEST_SPELLED), AfterValidator(_one_of(first.notes.listed))]
    elif first.kind is bool:
        kind = Annotated[bool, Field(strict=True)]
    elif first.kind is str:
        longest = LONGEST_TEXT if first.notes.spelling is None else _LONGEST_SPELLED
        kind = Annotated[str, Field(max_length=longest)]
    else:
        kind = Annotated[first.kind, Field(strict=True, ge=-_LARGEST, le=_LARGEST)]
    if first.is_list:
        kind = Annotated[list[kind], Field(max_length=500)]
    return kind | None if any(option.is_optional for option in ways) else kind


def _one_of(listed: Callable[[], Sequence[str]]) -> Callable[[str], str]:
    def check(name: str) -> str:
        if name not in listed():
            raise ValueError(f"there is no {name!r}. {near_names(name, listed())}")
        return name

    return check


def _choices(option: Option) -> list[str]:
    return [*option.choices, *(option.notes.listed() if option.notes.listed is not None else ())]


def form(options: Any) -> list[dict[str, Any]]:
    """The fields of a form: what each is called, what may stand there, and what stands there if nothing is said."""
    return [_field(option) for option in studio_options(options)]


def _field(option: Option) -> dict[str, Any]:
    spelling = option.notes.spelling
    return {
        "name": option.name,
        "label": option.name.replace("_", " ").capitalize(),
        "help": option.help,
        "kind": option.kind.__name__,
        "list": option.is_list,
        "optional": option.is_optional,
        "choices": _choices(option),
        "forms": [] if spelling is None else [_form(way) for way in spelling.forms()],
        "default": option.shown_default,
    }


def _form(way: SpelledForm) -> dict[str, Any]:
    kind = None if way.kind is None else way.kind.__name__
    return {"name": way.name, "meaning": way.meaning, "kind": kind, "example": way.example}
