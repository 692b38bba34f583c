"""What the studio's page may send, as TypeScript: one interface for each model of `neurodial.studio.requests`.

`cog` puts it into `src/neurodial/studio/types/requests.d.ts`, so that the type checker holds the page's code against
the server's own models. Usage: `python scripts/page_types.py` prints it.
"""

import inspect
import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from neurodial.studio import requests

_PLAIN = {"string": "string", "number": "number", "integer": "number", "boolean": "boolean", "null": "null"}


def interfaces() -> str:
    """Every public model as an interface; a field with a default may be left out.

    Example:
        >>> "export interface OpenersRequest {" in interfaces()
        True
    """
    models = [
        value
        for name, value in vars(requests).items()
        if inspect.isclass(value) and issubclass(value, BaseModel) and value.__module__ == requests.__name__
        if not name.startswith("_")
    ]
    return "\n".join(line for model in models for line in (*_interface(model), "")).rstrip()


def _interface(model: type[BaseModel]) -> Iterator[str]:
    schema = model.model_json_schema()
    yield f"/** {inspect.cleandoc(model.__doc__ or '').splitlines()[0]} */"
    yield f"export interface {model.__name__} {{"
    for name, field in schema["properties"].items():
        yield f"  {name}{'' if name in schema.get('required', ()) else '?'}: {_type(field)};"
    yield "}"


def _type(schema: dict[str, Any]) -> str:
    """One field's schema as a type.

    Raises:
        ValueError: the schema has a form that is not known here.

    Example:
        >>> _type({"anyOf": [{"enum": ["a", "b"]}, {"type": "null"}]})
        '"a" | "b" | null'
        >>> _type({"type": "array", "items": {"prefixItems": [{"type": "integer"}, {"type": "integer"}]}})
        '[number, number][]'
    """
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    if "anyOf" in schema:
        return " | ".join(_type(part) for part in schema["anyOf"])
    if "prefixItems" in schema:
        return f"[{', '.join(_type(part) for part in schema['prefixItems'])}]"
    if schema.get("type") == "array":
        inner = _type(schema["items"])
        return f"({inner})[]" if " | " in inner else f"{inner}[]"
    if schema.get("type") in _PLAIN:
        return _PLAIN[schema["type"]]
    raise ValueError(f"no type for the schema {schema}")


if __name__ == "__main__":
    print(interfaces())
