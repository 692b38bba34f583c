"""Array shapes of the library are checked at run time: each function and dataclass that names the axes of an array.

Types without arrays are mypy's. A function inside a function is left alone: it would be decorated at every call of the
outer one, which took half of the tests' time.
"""

import re
import sys
import typing
from collections.abc import Callable

import jaxtyping

_decorate = jaxtyping.jaxtyped


def check_shapes(package: str) -> None:
    """Check the array shapes of a package's functions from now on; call before it is imported."""
    jaxtyping.jaxtyped = _where_axes_are_named  # type: ignore[assignment]  # the name that the hook's code looks up
    jaxtyping.install_import_hook(package, "beartype.beartype")


def _where_axes_are_named(*, typechecker: Callable) -> Callable:
    decorate = _decorate(typechecker=typechecker)
    return lambda target: decorate(target) if _names_axes(target) else target


def _names_axes(target: object) -> bool:
    function = getattr(target, "fget", None) or getattr(target, "__func__", target)
    if "<locals>" in getattr(function, "__qualname__", ""):
        return False
    names = getattr(function, "__globals__", None)
    if names is None:  # a class: its module is still being imported
        names = vars(sys.modules[function.__module__])
    words = re.findall(r"\w+", " ".join(map(str, getattr(function, "__annotations__", {}).values())))
    return any(_of_arrays(names.get(word)) for word in words)


def _of_arrays(kind: object) -> bool:
    """Whether an annotation is an array's, or holds one: an alias of either."""
    return getattr(kind, "__module__", "") == "jaxtyping" or any(map(_of_arrays, typing.get_args(kind)))
