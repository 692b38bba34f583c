"""Options declared once: a frozen dataclass says their names, types, choices, defaults and help; all else is derived.

The command line, the studio's requests and forms, and the reference read a dataclass of options by `options_of`, and
make a changed one by `changed`. Types that can be typed: bool, int, float, str, a `Literal`, a tuple of one of these,
each perhaps or None; a nested dataclass, whose fields stand beside the others; and any other type with a `Spelling`.
Torch-free.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from neurodial.errors import OptionError, UnknownNameError, near_names

Scalar = bool | int | float | str
Options = TypeVar("Options")

_KEY = "neurodial"
_SCALARS = (bool, int, float, str)
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_LISTS = {int: "whole numbers between commas", float: "numbers between commas", str: "names between commas"}
_NONE = "none"


@dataclass(frozen=True)
class SpelledForm:
    """One form of a spelled value: `name:value`, or the name alone.

    Attributes:
        name: what stands before the colon.
        meaning: in a few words.
        kind: type of the value; None where the name stands alone.
        example: a value that makes sense.
    """

    name: str
    meaning: str
    kind: type[int] | type[float] | None = None
    example: int | float | None = None


@dataclass(frozen=True)
class Spelling:
    """How a value that is no plain one is typed.

    Attributes:
        parse: from what a user types; raises an OptionError that says what was wanted.
        show: the reverse: reading what it gives gives the same value.
        shape: what is typed, in capitals for help, such as RULE:VALUE.
        forms: the forms there are, called when they are needed; empty where any text may stand.
    """

    parse: Callable[[str], Any]
    show: Callable[[Any], str]
    shape: str
    forms: Callable[[], Sequence[SpelledForm]] = tuple


@dataclass(frozen=True)
class Notes:
    """What a field's type and docstring do not say; see `noted`."""

    name: str | None = None
    spelling: Spelling | None = None
    listed: Callable[[], Sequence[str]] | None = None
    is_hidden: bool = False
    in_studio: bool = True
    whole_after: tuple[str, ...] = ()


def noted(**notes: Any) -> dict[str, Notes]:
    """Metadata for a field of options: `field(default=..., metadata=noted(name="task_limit"))`.

    Args:
        **notes: `name`: what users type, where it is not the field's own name. `spelling`: how a value of another type
            is typed. `listed`: a function that gives the names that ship; a command also takes a file or more than
            that, the studio these names alone. `is_hidden`: only a preset sets it. `in_studio`: False keeps the field,
            or all of a nested dataclass, from the studio's forms. `whole_after`: beginnings of items
            of a list that are not cut at commas, as a regular expression may hold some.

    Example:
        >>> noted(is_hidden=True)["neurodial"].is_hidden
        True
    """
    return {_KEY: Notes(**notes)}


@dataclass(frozen=True)
class Option:
    """One option, as commands, forms and pages need it.

    Attributes:
        name: what users type, in letters, digits and underscores.
        path: the fields that lead to it.
        kind: type of the value, or of the items of a list; of a spelled value str.
        default: the value that the options have.
        help: from the docstring's Attributes.
        choices: the words that may stand; empty where there are none.
        is_optional: None is a value.
        is_list: a tuple of values.
        notes: what the field says beside.
    """

    name: str
    path: tuple[str, ...]
    kind: type[Scalar]
    default: object
    help: str
    choices: tuple[str, ...] = ()
    is_optional: bool = False
    is_list: bool = False
    notes: Notes = Notes()

    @property
    def shown_default(self) -> str:
        """The default as a user would type it."""
        return self.show(self.default)

    def show(self, value: object) -> str:
        """A value as a user would type it."""
        if value is None:
            return _NONE
        if self.notes.spelling is not None:
            return self.notes.spelling.show(value)
        if isinstance(value, tuple):
            return ",".join(map(str, value)) or _NONE
        return f"{value:g}" if isinstance(value, float) else str(value)

    def read(self, value: object) -> object:
        """A value as the dataclass holds it, from a plain one or from text as it is typed.

        Raises:
            OptionError: it is of another type, or one of its items is.
            UnknownNameError: it is none of the choices.
        """
        if value is None or (self.is_optional and _is_none(value)):
            if not self.is_optional:
                raise OptionError(f"{self.name} is none.", wanted=self._wanted)
            return None
        if self.notes.spelling is not None and isinstance(value, str):
            return self.notes.spelling.parse(value)
        if self.is_list:
            is_typed = isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
            whole = ",".join(value) if is_typed else value  # type: ignore[arg-type]  # texts, as was just seen
            return tuple(self._item(item, whole) for item in self._items(value))
        return self._item(value, value)

    def _items(self, value: object) -> Sequence[object]:
        """The items of a list, or of text as it is typed: between commas, in one text or in several."""
        if not isinstance(value, list | tuple):
            value = [value]
        if len(value) == 1 and _is_none(value[0]):
            return []
        return [item for given in value for item in self._cut(given)]

    def _cut(self, given: object) -> Sequence[object]:
        if not isinstance(given, str):
            return [given]
        pieces = given.split(",")
        starts = (n for n, piece in enumerate(pieces) if piece.strip().startswith(self.notes.whole_after))
        whole = next(starts, len(pieces)) if self.notes.whole_after else len(pieces)
        items = [piece.strip() for piece in (*pieces[:whole], ",".join(pieces[whole:]))]
        return [item for item in items if item]

    def _item(self, item: object, whole: object) -> object:
        if self.choices and item not in self.choices:
            raise UnknownNameError(f"The {self.name} is {item!r}.", fix=near_names(str(item), self.choices))
        if isinstance(item, str) and self.kind in {int, float}:
            try:
                return self.kind(item)
            except ValueError:
                raise OptionError(f"{self.name} is {whole!r}.", wanted=self._wanted) from None
        if self.kind is float and isinstance(item, int) and not isinstance(item, bool):
            return float(item)
        if type(item) is not self.kind:
            raise OptionError(f"{self.name} is {whole!r}.", wanted=self._wanted)
        return item

    @property
    def _wanted(self) -> str:
        if not self.is_list:
            return _WORDS[self.kind]
        return _LISTS[self.kind] + (", such as 0,1" if self.kind is not str else "")


def _is_none(value: object) -> bool:
    return isinstance(value, str) and value.strip().lower() == _NONE


def options_of(options: Any) -> tuple[Option, ...]:
    """The options of a dataclass's value, hidden ones left out, each with the value's own as default.

    A nested dataclass that may be None is none where its first option is none.

    Raises:
        TypeError: a field has a type that nobody can type, and no spelling; or it has no help.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Kettle:
        ...     '''A kettle.
        ...
        ...     Attributes:
        ...         degrees: how hot.
        ...     '''
        ...
        ...     degrees: float | None = 100.0
        >>> [degrees] = options_of(Kettle())
        >>> degrees.name, degrees.kind, degrees.shown_default, degrees.is_optional, degrees.help
        ('degrees', <class 'float'>, '100', True, 'how hot.')
    """
    kind = type(options)
    hints, helps = get_type_hints(kind), attribute_texts(kind)
    found: list[Option] = []
    for field in dataclasses.fields(options):
        notes = field.metadata.get(_KEY, Notes())
        value = getattr(options, field.name)
        if notes.is_hidden:
            continue
        if field.name not in helps:
            raise TypeError(f"{kind.__name__}.{field.name} has no line under Attributes in the docstring.")
        hint, is_optional = _without_none(hints[field.name])
        if dataclasses.is_dataclass(hint) and notes.spelling is None:
            found += _nested(field.name, hint, value, is_optional=is_optional, notes=notes)
            continue
        item, choices, is_list = _plain_type(hint, f"{kind.__name__}.{field.name}", notes.spelling)
        name = notes.name or field.name
        found.append(Option(name, (field.name,), item, value, helps[field.name], choices, is_optional, is_list, notes))
    return tuple(found)


def _nested(field: str, kind: Any, value: object, *, is_optional: bool, notes: Notes) -> list[Option]:
    inner = list(options_of(kind() if value is None else value))
    if is_optional:
        default = None if value is None else inner[0].default
        inner[0] = dataclasses.replace(inner[0], is_optional=True, default=default)
    found = []
    for option in inner:
        in_studio = notes.in_studio and option.notes.in_studio
        part = dataclasses.replace(option.notes, in_studio=in_studio)
        found.append(dataclasses.replace(option, path=(field, *option.path), notes=part))
    return found


def _without_none(hint: Any) -> tuple[Any, bool]:
    if get_origin(hint) in (Union, types.UnionType) and type(None) in get_args(hint):
        left = tuple(part for part in get_args(hint) if part is not type(None))
        return (left[0] if len(left) == 1 else Union[left]), True  # noqa: UP007 - made of a tuple
    return hint, False


def _plain_type(hint: Any, place: str, spelling: Spelling | None) -> tuple[type[Scalar], tuple[str, ...], bool]:
    """The type of the value or of a list's items, its choices, and whether it is a list."""
    if spelling is not None:
        return str, (), False
    is_list = get_origin(hint) is tuple
    item = get_args(hint)[0] if is_list else hint
    if get_origin(item) is Literal:
        return str, get_args(item), is_list
    if item not in _SCALARS:
        raise TypeError(f"{place} has type {hint}, which nobody can type: give it noted(spelling=...).")
    return item, (), is_list


def attribute_texts(kind: type) -> dict[str, str]:
    """What a docstring says of each attribute, under Attributes, on one line.

    Example:
        >>> attribute_texts(SpelledForm)["meaning"]
        'in a few words.'
    """
    from docstring_parser import DocstringStyle, parse

    parsed = parse(inspect.getdoc(kind) or "", style=DocstringStyle.GOOGLE)
    return {
        param.arg_name: " ".join((param.description or "").split())
        for param in parsed.params
        if param.args[0] == "attribute"
    }


def changed(options: Options, given: Mapping[str, object], *, title: str = "") -> Options:
    """The options with others in their place: what users gave by the names of `options_of`.

    Args:
        options: a dataclass's value.
        given: plain values, or text as it is typed: for spelled values, lists, numbers, and `none`.
        title: what to call the options where one is unknown; the dataclass's name by default.

    Raises:
        OptionError: there is no such option, a value is of another type, or the options make no sense together.

    Example:
        >>> changed(SpelledForm("a", "letter"), {"meaning": "the first letter"}).meaning
        'the first letter'
    """
    known = options_of(options)
    for name in given:
        if not any(option.name == name for option in known):
            title = title or type(options).__name__
            names = ", ".join(dict.fromkeys(option.name for option in known))
            raise OptionError(f"{title} has no option {name}.", wanted=names)
    values = {option.path: option.read(given[option.name]) for option in known if option.name in given}
    made: Options = _replaced(options, values)
    return made


def _replaced(options: Any, values: Mapping[tuple[str, ...], object]) -> Any:
    """All fields at once, so that only the whole has to make sense."""
    changes: dict[str, object] = {path[0]: value for path, value in values.items() if len(path) == 1}
    for field in {path[0] for path in values if len(path) > 1}:
        inner = {path[1:]: value for path, value in values.items() if path[0] == field}
        changes[field] = _replaced_nested(options, field, inner)
    return dataclasses.replace(options, **changes)


def _replaced_nested(options: Any, field: str, inner: dict[tuple[str, ...], object]) -> object:
    hint, is_optional = _without_none(get_type_hints(type(options))[field])
    first = dataclasses.fields(hint)[0].name
    if is_optional and (first,) in inner and inner[first,] is None:
        if len(inner) > 1:
            others = ", ".join(path[-1] for path in inner if path != (first,))
            raise OptionError(f"{field} is none, and {others} of it is given.", wanted="one without the other")
        return None
    return _replaced(hint() if getattr(options, field) is None else getattr(options, field), inner)


def option_table(options: Any) -> str:
    """The options as a Markdown table, for the reference."""
    lines = ["| option | value | default | meaning |", "|---|---|---|---|"]
    for option in options_of(options):
        path = ".".join(option.path)
        name = f"`{option.name}`" if path == option.name else f"`{option.name}` (`{path}`)"
        value = _value_words(option) + (", or none" if option.is_optional else "")
        lines.append(f"| {name} | {value} | `{option.shown_default}` | {option.help.replace('|', chr(92) + '|')} |")
    return "\n".join(lines)


def _value_words(option: Option) -> str:
    """What may stand as the value, in Markdown."""
    if option.choices:
        return ", ".join(f"`{choice}`" for choice in option.choices)
    if option.notes.spelling is not None:
        forms = option.notes.spelling.forms()
        words = [f"`{form.name}`" if form.kind is None else f"`{form.name}:VALUE`" for form in forms]
        return ", ".join(words) or f"`{option.notes.spelling.shape}`"
    if option.is_list:
        return _LISTS[option.kind]
    return _WORDS[option.kind]
