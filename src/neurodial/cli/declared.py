"""Command options derived from the library's dataclasses of options. Torch-free, so that help is quick.

An option appears once on the command line, even if several dataclasses have it; an option that is not given keeps the
default of the dataclass that is used.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from cyclopts import Group, Parameter

from neurodial.circuit.selection import SELECTION_RULES, Select, default_value, parse_select, value_type
from neurodial.errors import OptionError
from neurodial.options import Option, options_of

_TYPES = {bool: "FLAG", int: "INT", float: "FLOAT", str: "TEXT"}
OUTPUT = Group("Output", sort_key=90)
SELECTION = Group("Which neurons", sort_key=10)


@dataclass(frozen=True, kw_only=True)
class Given:
    """Options as typed: a derived class has one field for each option, None where nothing was typed."""

    def values(self) -> dict[str, object]:
        """The typed values, by the names of the options; `none` as that word."""
        values = ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))
        return {name: value for name, value in values if value is not None}


Typed = TypeVar("Typed", bound=Given)


def command_options(
    name: str, declared: Mapping[str, Any], *, shared: str, leave_out: Sequence[str] = (), module: str = __name__
) -> type[Given]:
    """A class of command options from dataclasses of options.

    Args:
        name: of the class.
        declared: the dataclasses, by the names that users know them by; a name is the heading of the options that only
            this dataclass has.
        shared: the heading of the options that several have.
        leave_out: names of options that the command takes in another way.
        module: the module of the class.
    """
    places: dict[str, list[tuple[str, Option]]] = {}
    for title, options in declared.items():
        for option in options_of(options):
            if option.name not in leave_out:
                places.setdefault(option.name, []).append((title, option))
    order = [shared, *declared]
    fields = []
    for option_name, declarations in places.items():
        titles = list(dict.fromkeys(title for title, _ in declarations))
        heading = shared if len(titles) > 1 or len(declared) == 1 else f"Of method {titles[0]}"
        group = Group(heading, sort_key=20 + (order.index(titles[0]) if len(titles) == 1 else 0))
        fields.append((option_name, _annotation(declarations, group), None))
    return _command_class(name, fields, Given, module)


def _command_class(name: str, fields: list[Any], base: type[Typed], module: str) -> type[Typed]:
    made = dataclasses.make_dataclass(name, fields, bases=(base,), frozen=True, kw_only=True)
    made.__module__ = module  # cyclopts evaluates a class's annotations in its module
    named: type[Typed] = Parameter(name="*")(made)
    return named


def _annotation(declarations: Sequence[tuple[str, Option]], group: Group) -> Any:
    first = declarations[0][1]
    default = _joined(declarations, lambda option: option.shown_default, "; ")
    parameter: dict[str, Any] = {"help": _joined(declarations, _help, "\n\n"), "group": group}
    parameter["show_default"] = lambda _: default
    choices = list(dict.fromkeys(choice for _, option in declarations for choice in option.choices))
    spelling = first.notes.spelling
    is_optional = any(option.is_optional for _, option in declarations)
    kind: Any = Literal[tuple(choices)] if choices else first.kind
    if choices and is_optional:
        kind = Literal[(*choices, "none")]
    elif first.is_list or spelling is not None or is_optional or kind is str:  # text, which the library reads
        kind = list[str] if first.is_list else str
        shape = _TYPES[first.kind] + (",..." if first.is_list else "")
        parameter |= {"metavar": shape if spelling is None else spelling.shape, "n_tokens": 1, "negative": ()}
        parameter["converter"] = every_text if first.is_list else _untouched
    if first.kind in {int, float} or spelling is not None:
        parameter["allow_leading_hyphen"] = True  # -2 is a value
    return Annotated[kind | None, Parameter(**parameter)]


def _help(option: Option) -> str:
    """The help, with the forms of a spelled value."""
    forms = () if option.notes.spelling is None else option.notes.spelling.forms()
    words = [f"{form.name}{'' if form.kind is None else f':{form.example}'} ({form.meaning})" for form in forms]
    listed = " Several between commas, or the option again for each." if option.is_list else ""
    return option.help + listed + (f" One of: {'; '.join(words)}." if words else "")


def _untouched(_: object, tokens: Sequence[Any]) -> str:
    """The text as typed, also `none`: the library reads it."""
    return str(tokens[0].value)


def every_text(_: object, tokens: Sequence[Any]) -> list[str]:
    """The texts of an option that may be given several times, as typed."""
    return [str(token.value) for token in tokens]


def _joined(declarations: Sequence[tuple[str, Option]], text_of: Callable[[Option], str], between: str) -> str:
    """A text for each declaration of an option; one text if all are the same."""
    texts = [text_of(option) for _, option in declarations]
    if len(set(texts)) == 1:
        return texts[0]
    titles = [title for title, _ in declarations]
    if len(set(titles)) == 1:  # fields of one dataclass, in several that it contains
        titles = [option.path[0] for _, option in declarations]
    return between.join(f"{title}: {text}" for title, text in zip(titles, texts, strict=True))


@dataclass(frozen=True, kw_only=True)
class SelectOptions(Given):
    """Which neurons are chosen; each derived class has a shorthand for each rule."""

    select: str | None = None

    def chosen(self) -> Select | None:
        """The rule that was typed, or None.

        Raises:
            OptionError: several were typed, or the rule is not valid.
        """
        typed = [("--select", self.select)] if self.select is not None else []
        shorthands = {rule.name.replace("-", "_"): rule.name for rule in SELECTION_RULES}
        for name, value in self.values().items():
            if name in shorthands:
                typed.append((f"--{shorthands[name]}", f"{shorthands[name]}:{value}"))
        if len(typed) > 1:
            names = " and ".join(option for option, _ in typed)
            raise OptionError(f"{len(typed)} rules of selection are given: {names}.", wanted="one of them")
        return parse_select(str(typed[0][1])) if typed else None


def select_options(default: str, *, module: str = __name__) -> type[SelectOptions]:
    """The options for which neurons are chosen: `--select RULE:VALUE`, and each rule by its name.

    Args:
        default: the rule that is used where nothing is typed, for help.
        module: the module of the class.
    """
    rules = ", ".join(f"{rule.name}:{default_value(rule) or 10}" for rule in SELECTION_RULES)
    about = f"the rule of selection, as one of {rules}; or by one of the options below."
    parameter = Parameter(help=about, group=SELECTION, metavar="RULE:VALUE", show_default=lambda _: default)
    fields: list[Any] = [("select", Annotated[str | None, parameter], None)]
    for rule in SELECTION_RULES:
        hint = Parameter(help=f"{rule.meaning}.", group=SELECTION, show_default=False, allow_leading_hyphen=True)
        fields.append((rule.name.replace("-", "_"), Annotated[value_type(rule) | None, hint], None))
    return _command_class("SelectOptions", fields, SelectOptions, module)
