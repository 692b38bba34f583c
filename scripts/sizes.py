"""Report modules, functions and parameter lists that have grown past what fits on a screen or two.

Usage: `python scripts/sizes.py [PATH ...]` (default: src and scripts). Large things are listed; only very large
ones fail. A function's length leaves out its docstring, so that documenting one never counts against it.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MODULE_LINES = 250
MODULE_LINES_LIMIT = 400
FUNCTION_LINES = 40
FUNCTION_LINES_LIMIT = 80
PARAMETERS = 5

# A command has one parameter per option.
MANY_PARAMETERS_ALLOWED = "src/neurodial/cli/"

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Finding(NamedTuple):
    """Something large: where it is, what was measured, and whether it is too large to pass."""

    place: str
    measure: str
    failing: bool


def code_lines(function: Function) -> int:
    """Count a function's lines from `def` to its end, without its docstring."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def parameter_count(function: Function) -> int:
    """Count what a caller passes: every parameter but `self` and `cls`."""
    named = [*function.args.posonlyargs, *function.args.args]
    if named and named[0].arg in {"self", "cls"}:
        named = named[1:]
    return len(named) + len(function.args.kwonlyargs)


def judge_module(path: Path) -> Iterator[Finding]:
    """Yield the findings of one module."""
    text = path.read_text(encoding="utf-8")
    if (lines := len(text.splitlines())) > MODULE_LINES:
        yield Finding(str(path), f"{lines} lines", failing=lines > MODULE_LINES_LIMIT)
    exempt = any(part in path.resolve().as_posix() for part in MANY_PARAMETERS_ALLOWED)
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, Function):
            continue
        place = f"{path}:{node.lineno} {node.name}"
        if (lines := code_lines(node)) > FUNCTION_LINES:
            yield Finding(place, f"{lines} lines", failing=lines > FUNCTION_LINES_LIMIT)
        if not exempt and (count := parameter_count(node)) > PARAMETERS:
            yield Finding(place, f"{count} parameters", failing=False)


def judge(paths: list[Path]) -> list[Finding]:
    """Collect the findings of all modules under the paths, in order of their names."""
    modules = sorted(module for path in paths for module in ([path] if path.is_file() else path.rglob("*.py")))
    return [finding for module in modules for finding in judge_module(module)]


def main(arguments: list[str]) -> int:
    """Print the findings; return 1 if one of them fails."""
    findings = judge([Path(argument) for argument in arguments or ["src", "scripts"]])
    for finding in findings:
        print(f"{'TOO LARGE' if finding.failing else 'large'}: {finding.place}: {finding.measure}")
    failing = sum(finding.failing for finding in findings)
    print(f"sizes: {len(findings)} large, {failing} too large (limits: {MODULE_LINES_LIMIT} / {FUNCTION_LINES_LIMIT})")
    return int(failing > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
