"""Write the notebook from its script and run it, outputs kept: `python -m scripts.notebook [FOLDER]`.

A script's cells begin with `# %%`, those of text with `# %% [markdown]`; the docstring before the first is the script's
alone. The kernel runs in an empty folder with the example files; in FOLDER an interrupted run goes on.
"""

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SCRIPT = EXAMPLES / "my_own_behaviour.py"
_KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def notebook_of(script: Path) -> nbformat.NotebookNode:
    """The cells of a script, without outputs.

    Example:
        >>> [cell.cell_type for cell in notebook_of(SCRIPT).cells[:2]]
        ['markdown', 'code']
    """
    cells = []
    parts = re.split(r"^# %%(.*)\n", script.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    for number, (kind, text) in enumerate(zip(parts[::2], parts[1::2], strict=True)):
        if kind.strip() == "[markdown]":
            source = re.sub(r"^# ?", "", text.strip(), flags=re.MULTILINE)
            cells.append(nbformat.v4.new_markdown_cell(source, id=f"cell-{number}"))
        else:
            cells.append(nbformat.v4.new_code_cell(text.strip(), id=f"cell-{number}"))
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": _KERNEL})


def run(notebook: nbformat.NotebookNode, folder: Path, *, timeout: int = 1800) -> nbformat.NotebookNode:
    """The notebook with its outputs, run in a kernel of this Python; what an earlier run left in the folder stays."""
    quiet = {**os.environ, "PYTHONWARNINGS": "ignore:IProgress not found"}  # tqdm's advice to install widgets
    folder.mkdir(parents=True, exist_ok=True)
    for path in EXAMPLES.glob("*.jsonl"):
        shutil.copy(path, folder)
    client = NotebookClient(notebook, timeout=timeout, record_timing=False)
    client.execute(cwd=str(folder), env=quiet)
    return notebook


def main(folders: list[str]) -> int:
    """Run the notebook, in a folder to keep or in one that goes."""
    with tempfile.TemporaryDirectory() as name:
        nbformat.write(run(notebook_of(SCRIPT), Path(*folders[:1] or [name])), SCRIPT.with_suffix(".ipynb"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
