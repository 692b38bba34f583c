"""What is wrong with a body, in plain words instead of a validator's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from neurodial.errors import near_names
from neurodial.serve.failure import ApiError

_WANTED = {
    "string_type": "a text",
    "string_too_short": "a text of at least {min_length} letters",
    "string_too_long": "a text of at most {max_length} letters",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "none_required": "null",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "literal_error": "{expected}",
    "greater_than_equal": "at least {ge}",
    "greater_than": "more than {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
    "too_short": "at least {min_length} in it",
    "too_long": "at most {max_length} in it",
}
_FIELDS = {
    "messages.content": "a text, or a list of parts of type text (this server reads text alone)",
    "messages.content.type": "'text': this server reads text alone",
    "prompt": "a text, token ids, or a list of either",
    "stop": "a text or a list of up to 16, none of them empty",
}
"""Where several forms are taken, what they are together."""


def plain(errors: Sequence[Mapping[str, Any]], fields: Iterable[str]) -> ApiError:
    """The first thing that is wrong, by its field: what came and what is wanted.

    Args:
        errors: as pydantic lists them.
        fields: names that a body may have.
    """
    first = errors[0]
    if first["type"] == "json_invalid":
        return ApiError(400, f"The body is not JSON: {first.get('ctx', {}).get('error', first['msg'])}.")
    known = frozenset(fields)
    top = _path(first["loc"], known)[:1]
    # Of several forms that a field may have, the one that was followed farthest is the one that was meant.
    same = [error for error in errors if _path(error["loc"], known)[:1] == top]
    meant = max(same, key=lambda error: len(_path(error["loc"], known)))
    path = _path(meant["loc"], known)
    said = _said(meant, path, known)
    field, colon, rest = said.partition(": ")
    if colon and field in known:  # said of the whole message, but about one field of it
        path, said = [*path, field], rest
    return ApiError(400, f"{'.'.join(path) or 'The body'}: {said}.", param=path[0] if path else None)


def _said(error: Mapping[str, Any], path: Sequence[str], known: frozenset[str]) -> str:
    kind = error["type"]
    if kind == "extra_forbidden":
        near = near_names(path[-1], sorted(known)).rstrip(".")
        return f"this server knows no such field. {near}" if near else "this server knows no such field"
    if kind == "missing":
        return "this field is missing"
    if kind in {"value_error", "assertion_error"}:
        return str(error["msg"]).removeprefix("Value error, ")
    field = ".".join(part for part in path if not part.isdigit())
    allowed = _FIELDS.get(field) or _WANTED.get(kind, "").format_map(error.get("ctx") or {})
    came = f"it is {_shown(error.get('input'))}"
    return f"{came}. Wanted: {allowed}" if allowed else f"{came}, which this server does not take"


def _path(loc: Sequence[int | str], known: frozenset[str]) -> list[str]:
    """A place in the body, without the names that a validator gives to the forms of a field."""
    parts = [part for part in loc if part != "body"]
    last = len(parts) - 1
    forms = ("[", "-", "]")
    return [
        str(part)
        for place, part in enumerate(parts)
        if isinstance(part, int)
        or part in known
        or (place == last and not any(sign in part for sign in forms) and part not in {"str", "int", "float"})
    ]


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an empty list" if not value else "a list"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
