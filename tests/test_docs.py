"""The documentation is run, not trusted: pages, examples, and the docstrings of public names."""

import doctest
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import SkipTest

import pytest
from sybil import Document
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

ROOT = Path(__file__).resolve().parents[1]
DOCTEST_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

PAGES = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")})
MUST_RUN = {ROOT / "README.md", ROOT / "docs" / "tutorial.md"}
PAGES_RUN = sorted(MUST_RUN | {page for page in PAGES if "```python" in page.read_text(encoding="utf-8")})
EXAMPLES = sorted((ROOT / "examples").glob("[a-z]*.py"))


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def all_public_names() -> list[str]:
    import neurodial

    return [name for name in neurodial.__all__ if name != "__version__"]


# ------------------------------------------------------------------------------------------- pages


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES_RUN, ids=short)
def test_python_blocks_of_a_page_run(page, tmp_path, monkeypatch):
    """The blocks of one page share a namespace and an empty working directory, as for a reader following along."""
    monkeypatch.chdir(tmp_path)
    document = Document.parse(str(page), PythonCodeBlockParser(doctest_optionflags=DOCTEST_FLAGS), SkipParser())
    for example in document.examples():
        try:
            example.evaluate()
        except SkipTest:
            continue


def skips_without_reason(page: Path) -> Iterator[str]:
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        if re.search(r"<!--+\s*skip:\s*(next|start)", line) and not re.search(r"""skip:.*["'][^"']{8,}["']""", line):
            yield f"{short(page)}:{number}: {line.strip()}"


def test_a_skipped_block_says_why():
    """Write it so: `<!--- skip: next, "downloads a model from the Hub" -->`."""
    assert [violation for page in PAGES for violation in skips_without_reason(page)] == []


def broken_links(page: Path) -> Iterator[str]:
    text = re.sub(r"<!--.*?-->|```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path = target.split("#")[0]
        if path and not re.match(r"[a-z]+:", path) and not (page.parent / path).exists():
            yield f"{short(page)}: {target}"


def test_links_between_pages_lead_somewhere():
    assert [violation for page in PAGES for violation in broken_links(page)] == []


def index_of(page: Path) -> Path:
    """The index that a page stands in: its own folder's, or that of all pages."""
    own = page.parent / "README.md"
    return own if own.exists() and own != page else ROOT / "docs" / "README.md"


def test_every_page_is_in_an_index():
    missing = []
    for page in PAGES:
        index = index_of(page)
        if ROOT / "docs" in page.parents and page != index:
            link = f"({page.relative_to(index.parent).as_posix()})"
            missing += [] if link in index.read_text(encoding="utf-8") else [f"{short(page)} in {short(index)}"]
    assert missing == []


def commands(page: Path) -> Iterator[list[str]]:
    """What a page tells the reader to type at neurodial, in words."""
    for block in re.findall(r"```console\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("neurodial "):
                yield shlex.split(line, comments=True)[1:]


def command_violations(page: Path) -> Iterator[str]:
    from cyclopts import CycloptsError

    from neurodial.cli.main import app

    for words in commands(page):
        try:
            app.parse_args(words, exit_on_error=False, print_error=False)
        except CycloptsError as error:
            yield f"{short(page)}: neurodial {shlex.join(words)}: {error}"


def test_commands_on_the_pages_can_be_typed():
    assert sum(len(list(commands(page))) for page in PAGES) > 10
    assert [violation for page in PAGES for violation in command_violations(page)] == []


# ------------------------------------------------------------------------------------------- examples


def test_there_are_examples():
    assert EXAMPLES


@pytest.mark.slow
@pytest.mark.parametrize("script", EXAMPLES, ids=short)
def test_an_example_runs(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODEL", "tiny")
    monkeypatch.setattr(sys, "argv", [str(script)])
    runpy.run_path(str(script), run_name="__main__")


# ------------------------------------------------------------------------------------------- docstrings


@pytest.mark.parametrize("name", all_public_names())
def test_docstring_of_a_public_name_runs(name, tmp_path, monkeypatch):
    """A docstring finds what a user has after `import neurodial as nd`, and the name itself."""
    import neurodial

    monkeypatch.chdir(tmp_path)
    value = getattr(neurodial, name)
    finder = doctest.DocTestFinder(recurse=True, exclude_empty=True)
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=DOCTEST_FLAGS, verbose=False)
    for test in finder.find(value, name, module=False, globs={"nd": neurodial, "neurodial": neurodial, name: value}):
        runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)
