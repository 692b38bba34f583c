"""Circuits from tables of neurons, steering vectors in other tools' files."""

import json

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


FOREIGN = {
    "a.csv": "layer;index;dose\n1;5;0,5\n0;3;2\n",
    "b.CSV": "Layer, Neuron, Dose\r\n1, 5, 0.5\r\n0, 3, 2\r\n",
    "c.tsv": "layer\tneuron_idx\tmultiplier\n1.0\t5.0\t0.5\n0\t3\t-1\n",
    "d.jsonl": '{"layer": 1, "neuron": 5, "multiplier": 0.5}\n{"layer": 0, "neuron": 3, "multiplier": -1}\n',
    "e.json": '{"1,5": {"multiplier": 0.5}, "(0, 3)": {"dose": 2}}',
    "f.json": '{"neurons": [{"layer": 1, "index": 5, "dose": 0.5}, {"layer": 0, "index": 3, "dose": 2}], "task": "x"}',
    "g.json": '{"L1N5": {"dose": 0.5}, "l0.n3": {"dose": 2}}',
    "h.csv": ",layer,index,dose\n0,1,5,0.5\n1,0,3,2\n",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_tables_of_other_tools_are_circuits(name, tmp_path):
    (tmp_path / name).write_text(FOREIGN[name], encoding="utf-8")
    rows = read_neurons(tmp_path / name).rows
    assert [(row.neuron, row.dose) for row in rows] == [(Neuron(0, None, 3), 2.0), (Neuron(1, None, 5), 0.5)]


@pytest.mark.parametrize(
    "text",
    [
        '{"1": [5, 9], "0": [3]}',
        '{"layer_1": [5, 9], "L0": [3]}',
        '{"layers": {"1": [5, 9.0], "0": [3]}}',
        '{"neurons": [[1, 5], [1, 9], [0, 3]]}',
    ],
)
def test_lists_of_indices_by_layer_are_a_circuit(text, tmp_path):
    (tmp_path / "x.json").write_text(text)
    circuit = read_neurons(tmp_path / "x.json")
    assert [(row.neuron.layer, row.neuron.index, row.dose) for row in circuit] == [(0, 3, 1), (1, 5, 1), (1, 9, 1)]


@pytest.mark.parametrize(
    ("common", "dose"), [({"multiplier": 0.0}, 1.0), ({"multiplier": 3}, -2.0), ({"dose": 0.5}, 0.5)]
)
def test_a_multiplier_for_all_is_one_for_each(common, dose, tmp_path):
    (tmp_path / "x.json").write_text(json.dumps({"neurons": {"1,5": 0.25}, **common}))
    assert [(row.score, row.dose) for row in read_neurons(tmp_path / "x.json")] == [(0.25, dose)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "x.json",
            '{"neurons": {"1,5,7": 0.5, "1,6,7": -0.25, "0,5,3": -0.2}, "prompt": "[x]", "total_logit_diff": 0.0}',
        ),
        ("x.csv", "layer,position,neuron,attribution,role\n1,5,7,0.5,\n1,6,7,-0.25,say hi\n0,5,3,-0.2,\n"),
        ("x.csv", "layer,pos,index,score,comment\n1,5,7,0.5,x\n1,6,7,-0.25,y\n0,5,3,-0.2,z\n"),
    ],
)
def test_positions_are_left_out_and_their_scores_added_up_with_a_note(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    circuit = read_neurons(tmp_path / name)
    assert [(r.neuron.layer, r.neuron.index, r.score, r.dose) for r in circuit] == [(0, 3, -0.2, 1), (1, 7, 0.25, 1)]
    notes = circuit.origin.method["notes"]
    assert any("not read" in note for note in notes)
    assert any("2 neurons at 3 positions" in note for note in notes)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("x.csv", "layer,index,gain\n1,5,2.0\n", "line 2 of .*'gain' holds numbers"),
        ("x.csv", "layer,index,multplier\n1,5,2.0\n", "Did you mean 'multiplier'"),
        ("x.csv", "layer,index,dose,multiplier\n1,5,2,0\n", "line 2 of .*a dose and a multiplier"),
        ("x.csv", "layer,index,neuron\n1,5,6\n", "names the index twice"),
        ("x.csv", "layer,index\n1,5.5\n", "line 2 .* index"),
        ("x.csv", "layer,index,role\n1,5,amplify\n", "line 2 of .*'amplify'.* not how far"),
        ("x.csv", "layer,position,neuron,dose\n1,4,5,1\n1,6,5,2\n", "dose 1 on line 2 and 2 on line 3"),
        ("x.csv", "layer,index\n1,5,6\n", "line 2 has 3 fields"),
        ("x.json", '{"neurons": {"1,5": 1.0}, "alpha": 2}', "'alpha' is not understood"),
        ("x.json", '{"1": {"5": 0.5}}', "'1' names no neuron"),
        ("x.json", '{"1,5": 0.5, "1,5": 0.25}', "'1,5' is listed twice"),
        ("x.json", '{"1,5": "high"}', "key '1,5' .* the value 'high'"),
        ("x.json", '{"1": [5, "x"]}', "key '1', entry 2"),
        ("x.json", "[[1, 5, 6]]", "entry 1"),
        ("x.json", '{"format": "neurodial.circuit"}', "needs no conversion"),
    ],
)
def test_what_is_not_understood_of_a_table_is_refused(name, text, said, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(CircuitFileError, match=said):
        read_neurons(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("x.csv", "layer,index\n0,1\n2,3\n\n0,1\n", "layer 0, index 1 stands twice, on line 2 and on line 5"),
        ("x.csv", "layer,position,index\n0,4,1\n0,4,1\n", "index 1, position 4 stands twice, on line 2 and on line 3"),
        ("x.json", '{"0": [1, 2, 1]}', "on key '0', entry 1 and on key '0', entry 3"),
    ],
)
def test_a_copy_is_named_with_both_its_lines(name, text, said, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(CircuitError, match=said):
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
