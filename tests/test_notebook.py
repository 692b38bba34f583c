"""The notebook is its script with outputs kept from a real run, and it runs."""

import re

import nbformat
import pytest
from scripts.notebook import SCRIPT, notebook_of, run

KEPT = nbformat.read(SCRIPT.with_suffix(".ipynb"), as_version=4)


def printed(notebook: nbformat.NotebookNode) -> str:
    """What the cells printed; anything else that they gave fails."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert {(output.output_type, output.name) for output in outputs} == {("stream", "stdout")}
    return "".join(output.text for output in outputs)


def test_the_notebook_is_its_script():
    """Written by `python -m scripts.notebook`."""
    nbformat.validate(KEPT)
    assert [(c.cell_type, c.id, c.source) for c in KEPT.cells] == [
        (c.cell_type, c.id, c.source) for c in notebook_of(SCRIPT).cells
    ]


def test_its_outputs_are_of_a_real_model_and_without_noise():
    text = printed(KEPT)
    assert "30 layers, 46080 neurons" in text
    assert "beyond chance" in text
    assert not re.search(r"[\x1b\ufffd]|warn|/home|/tmp", text, re.IGNORECASE)
    assert len(SCRIPT.with_suffix(".ipynb").read_bytes()) < 20_000


@pytest.mark.parametrize("method", ["dose", "cna"])
def test_it_runs_from_end_to_end(method, monkeypatch, tmp_path):
    """In a kernel of its own, on the tiny model, every step of it."""
    monkeypatch.setenv("MODEL", "tiny")
    monkeypatch.setenv("METHOD", method)
    text = printed(run(notebook_of(SCRIPT), tmp_path))
    assert "5 of 48 neurons" in text
    assert "adapter_model.safetensors" in text
