"""Circuits from tables of neurons, steering vectors in other tools' files."""

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.export.circuits import dosed, plain
from tests.subjects import shared

from neurodial.circuit.site import Neuron
from neurodial.errors import CircuitError, CircuitFileError, ExportError, FileError, OptionError
from neurodial.export.neurons import read_neurons, write_neurons
from neurodial.export.vector_file import read_vectors, write_vectors
from neurodial.intervention.steer import steer
from neurodial.intervention.vector import AddVector

TABLES = {
    "a.csv": "layer,index\n1,5\n0,3\n",
    "b.csv": "\ufeffIndex, Layer,dose,note\r\n5,1,,x\r\n3,0,1,y\r\n",
    "c.json": '[{"layer": 1, "index": 5}, {"index": 3, "layer": 0, "dose": 1.0}]',
    "d.json": "[[1, 5], [0, 3]]",
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_neurons_is_a_circuit(name, tmp_path):
    (tmp_path / name).write_text(TABLES[name], encoding="utf-8")
    circuit = read_neurons(tmp_path / name)
    assert [row.neuron for row in circuit] == [Neuron(0, None, 3), Neuron(1, None, 5)]
    assert {row.dose for row in circuit} == {1.0}
    assert circuit.name == name[0]


def test_scores_doses_and_experts_are_read(tmp_path):
    (tmp_path / "x.csv").write_text("layer,expert,index,score,dose\n2,4,7,-0.25,1.5\n")
    (row,) = read_neurons(tmp_path / "x.csv")
    assert (row.neuron, row.score, row.dose) == (Neuron(2, 4, 7), -0.25, 1.5)


def test_a_circuit_written_as_a_table_comes_back(tmp_path):
    circuit = dosed(shared("llama"), {(0, 3): 0.1 + 0.2, (1, 2): -1.0})
    write_neurons(circuit, tmp_path / "x.csv")
    assert read_neurons(tmp_path / "x.csv").rows == circuit.rows


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("x.csv", "layer,index\n0,1\n0,one\n", "line 3 .* index"),
        ("x.csv", "layer\n0\n", "line 2 .* index"),
        ("x.csv", "layer,index\n-1,1\n", "layer"),
        ("x.csv", "layer,index,dose\n1,1,nan\n", "dose"),
        ("x.csv", "", "no neurons"),
        ("x.json", "{}", "not a list"),
        ("x.json", "[", "not JSON"),
        ("x.json", "[3]", "entry 1"),
    ],
)
def test_a_bad_table_is_refused_with_its_line(name, text, said, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(CircuitFileError, match=said):
        read_neurons(tmp_path / name)


def test_a_neuron_that_stands_twice_and_a_missing_file_are_refused(tmp_path):
    (tmp_path / "x.csv").write_text("layer,index\n0,1\n0,1\n")
    with pytest.raises(CircuitError, match="twice"):
        read_neurons(tmp_path / "x.csv")
    with pytest.raises(FileError):
        read_neurons(tmp_path / "y.csv")


@pytest.mark.parametrize("ending", ["gguf", "safetensors"])
def test_vectors_come_back_and_steer_the_same(ending, tmp_path):
    subject = shared("llama")
    generator = torch.Generator().manual_seed(0)
    vectors = [AddVector(torch.randn(16, generator=generator), 1, alpha=-0.5, dial=2.0)]
    write_vectors(vectors, tmp_path / f"x.{ending}", model_hint="llama")
    found = read_vectors(tmp_path / f"x.{ending}")
    with steer(subject, *vectors):
        wanted = plain(subject)
    with steer(subject, *found):
        assert torch.equal(plain(subject), wanted)
    assert not torch.equal(plain(subject), wanted)


def test_a_control_vector_is_laid_out_as_llama_cpp_reads_it(tmp_path):
    write_vectors([AddVector(torch.arange(4.0), 3, alpha=2.0)], tmp_path / "x.gguf", model_hint="llama")
    reader = gguf.GGUFReader(tmp_path / "x.gguf")
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert fields["general.architecture"] == "controlvector"
    assert (fields["controlvector.model_hint"], fields["controlvector.layer_count"]) == ("llama", 1)
    (tensor,) = reader.tensors
    assert (tensor.name, tensor.tensor_type.name) == ("direction.3", "F32")
    assert np.array_equal(tensor.data, [0.0, 2.0, 4.0, 6.0])


def test_vectors_of_one_layer_add(tmp_path):
    parts = [AddVector(torch.ones(4), 1, alpha=2.0), AddVector(torch.ones(4), 1, dial=-0.5)]
    write_vectors(parts, tmp_path / "x.safetensors")
    assert torch.equal(load_file(tmp_path / "x.safetensors")["direction.1"], torch.full((4,), 1.5))


def test_what_the_format_cannot_say_is_refused(tmp_path):
    one = torch.ones(4)
    with pytest.raises(ExportError, match="block 0"):
        write_vectors(AddVector(one, 0), tmp_path / "x.gguf")
    with pytest.raises(ExportError, match="some tokens only"):
        write_vectors(AddVector(one, 1, when="prompt"), tmp_path / "x.gguf")
    with pytest.raises(ExportError, match="list of dials"):
        write_vectors(AddVector(one, 1, dial=[1.0, 2.0]), tmp_path / "x.gguf")
    with pytest.raises(ExportError, match="No vector"):
        write_vectors([], tmp_path / "x.gguf")
    with pytest.raises(OptionError, match="ending"):
        write_vectors(AddVector(one, 1), tmp_path / "x.bin")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_kept(tmp_path):
    (tmp_path / "x.gguf").write_text("mine")
    with pytest.raises(FileError, match="exists"):
        write_vectors(AddVector(torch.ones(4), 1), tmp_path / "x.gguf")


def test_a_file_of_something_else_is_refused(tmp_path):
    save_file({"weight": torch.ones(4)}, tmp_path / "x.safetensors")
    with pytest.raises(ExportError, match="'weight'"):
        read_vectors(tmp_path / "x.safetensors")
    (tmp_path / "y.safetensors").write_bytes(b"nothing")
    (tmp_path / "y.gguf").write_bytes(b"nothing")
    for name in ("y.safetensors", "y.gguf"):
        with pytest.raises(ExportError, match="can't be read"):
            read_vectors(tmp_path / name)
    with pytest.raises(FileError, match="no file"):
        read_vectors(tmp_path / "z.gguf")
