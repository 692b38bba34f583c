"""What `show` says of a circuit's stability is what was computed."""

import neurodial as nd
from neurodial.circuit.circuit import Row, Stability
from neurodial.cli.circuits_command import show


def test_show_names_the_number_of_folds_that_there_were(tmp_path, capsys):
    # Four prompts on a side give four folds, so a quarter of them is left out each time, not a tenth.
    rows = [Row(nd.Neuron(0, None, 1), 1.0, 1.0), Row(nd.Neuron(0, None, 2), 1.0, 1.0)]
    circuit = nd.Circuit.of(rows, stability=Stability((1.0, 0.5, 1.0, 0.5), (1.0, 0.5)))
    show(circuit.write(tmp_path / "a.circuit.json"))
    printed = " ".join(capsys.readouterr().out.split())
    assert "75% of the neurons are chosen again when one of 4 folds" in printed
    assert "lowest 50%" in printed
