"""What the pages by task say is so: the messages that they quote, the widths that they name, the extras."""

import ast
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from neurodial import errors
from neurodial.cli.main import main
from neurodial.evaluation.intervals import wilson
from neurodial.prompts.pairs import PairSet

ROOT = Path(__file__).resolve().parents[1]
HOW_TO = ROOT / "docs" / "how-to"
PACKAGE = ROOT / "src" / "neurodial"
NOT_OF_DOSE = {"comparators", "condition", "condition_options", "find_condition", "registry"}
"""Modules beside Dose's own that speak of other methods."""


def messages_on_the_page_of_dose_s_refusals() -> list[str]:
    """What the first column of its tables quotes."""
    page = (HOW_TO / "when-dose-fails.md").read_text(encoding="utf-8")
    return [
        said for first in re.findall(r"^\| (`[^|]+`) \|", page, re.MULTILINE) for said in re.findall("`([^`]+)`", first)
    ]


def test_each_message_on_the_page_of_dose_s_refusals_is_one_of_the_code():
    source = " ".join(path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py")))
    flat = re.sub(r'"\s*f?"', "", re.sub(r"\s+", " ", source))
    messages = messages_on_the_page_of_dose_s_refusals()
    assert len(messages) >= 12
    assert [message for message in messages if message not in flat] == []


def errors_of(module: Path) -> Iterator[tuple[str, list[str]]]:
    """The errors that a module makes: where, and what each says, in the pieces between what is filled in.

    A name that there is not is left out: each such error offers the names that there are.
    """
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        made = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
        if made.endswith("Error") and hasattr(errors, made) and made != "UnknownNameError":
            parts = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg in {"wanted", "fix"})]
            joined = (part.values if isinstance(part, ast.JoinedStr) else [part] for part in parts)
            pieces = [piece.value for values in joined for piece in values if isinstance(piece, ast.Constant)]
            yield f"{module.relative_to(PACKAGE)}:{node.lineno}", list(map(str, pieces))


def test_each_error_of_dose_has_its_entry_on_the_page():
    stages = [PACKAGE / "methods", PACKAGE / "methods" / "dose", PACKAGE / "margins", PACKAGE / "strength"]
    modules = [module for stage in stages for module in sorted(stage.glob("*.py"))]
    modules = [module for module in modules if module.stem not in NOT_OF_DOSE]
    made = [error for module in modules for error in errors_of(module)]
    messages = messages_on_the_page_of_dose_s_refusals()
    assert len(made) > 30
    assert [error for error in made if not any(said in piece for said in messages for piece in error[1])] == []


def test_the_widths_of_intervals_are_what_the_page_says():
    text = (HOW_TO / "reading-the-figures.md").read_text(encoding="utf-8")
    [found] = re.findall(r"about (\d+) points at n = (\d+), (\d+) at (\d+), (\d+) at (\d+)", text)
    for width, n in zip(found[::2], found[1::2], strict=True):
        half = wilson(int(n) // 2, int(n))
        assert round(50 * (half.high - half.low)) == int(width)


def test_one_extra_asks_for_every_other_that_needs_no_gpu_and_holds_no_package_back():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    assert extras["all"] == [f"neurodial[{','.join(sorted(extras.keys() - {'all', 'dev', 'inspect', 'quantised'}))}]"]


@pytest.mark.slow
@pytest.mark.demo
@pytest.mark.timeout(1800)
def test_the_ten_minutes_are_what_the_commands_print(tmp_path, monkeypatch, capsys):
    """Line by line but for the numbers: these come from a real run, and another processor rounds otherwise."""
    page = (HOW_TO / "ten-minutes.md").read_text(encoding="utf-8")
    commands = [shlex.split(line)[1:] for line in re.findall(r"^neurodial .*$", page, re.MULTILINE)]
    checking, trying = commands[:2]
    shutil.copy(ROOT / "examples" / "lists.jsonl", tmp_path)
    monkeypatch.chdir(tmp_path)
    printed = ""
    for command in (checking, trying):
        with pytest.raises(SystemExit) as stopped:
            main(command)
        assert not stopped.value.code
        printed += " ".join(capsys.readouterr())
    blocks = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    said = [line.strip() for block in blocks[1:3] for line in block.splitlines() if line.strip()]
    flat = _without_numbers(printed)
    assert len(said) > 20
    assert [line for line in said if _without_numbers(line) not in flat] == []


def _without_numbers(text: str) -> str:
    return re.sub(r"[-−+±]?\d[\d.,e-]*", "#", " ".join(text.split()))


def test_the_file_of_the_ten_minutes_is_read_as_the_page_says():
    pairs = PairSet.read(str(ROOT / "examples" / "lists.jsonl"))
    page = (HOW_TO / "ten-minutes.md").read_text(encoding="utf-8")
    for split in ("discovery", "development", "test"):
        count = len(pairs.split(split).positive)
        assert f"{split}: {count} positive, {count} negative" in page
    text = (ROOT / "examples" / "lists.jsonl").read_text(encoding="utf-8")
    quoted = re.findall(r'^\{"positive".*$', page, re.MULTILINE)
    assert len(quoted) == 2
    assert [line for line in quoted if line not in text] == []
