"""`neurodial convert`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from neurodial.cli.console import err, out, written
from neurodial.cli.model_options import ModelOptions
from neurodial.errors import OptionError

_CIRCUIT = ".circuit.json"


def convert(
    source: Path, target: Path, *, model: str | None = None, force: bool = False, loading: ModelOptions | None = None
) -> None:
    """Turn a table of neurons into a circuit or back, or steering vectors from one format into another.

    Args:
        source: neurons (.csv, .tsv, .json or .jsonl), a circuit (.circuit.json), or vectors (.gguf of llama.cpp or
            repeng, .safetensors).
        target: a circuit (.circuit.json), a table (.csv), or vectors (.gguf, .safetensors).
        model: the model that a table's neurons are of: they are checked, and the circuit remembers it.
        force: overwrite the target.
        loading: how the model is loaded.
    """
    from neurodial.files import refuse_existing

    refuse_existing(target, overwrite=force)
    vectors, tables = {".gguf", ".safetensors"}, {".csv", ".tsv", ".json", ".jsonl"}
    source_ending, target_ending = source.suffix.casefold(), target.suffix.casefold()
    if source_ending in vectors and target_ending in vectors:
        from neurodial.export.vector_file import read_vectors, write_vectors

        vectors_read = read_vectors(source)
        write_vectors(vectors_read, target, overwrite=force)
        out.print(f"{len(vectors_read)} vectors, layers {', '.join(str(vector.layer) for vector in vectors_read)}")
    elif source.name.endswith(_CIRCUIT) and target_ending == ".csv":
        from neurodial.circuit.file import read_circuit
        from neurodial.export.neurons import write_neurons

        circuit = read_circuit(source)
        write_neurons(circuit, target, overwrite=force)
        out.print(f"{len(circuit)} neurons")
    elif source_ending in tables and target.name.endswith(_CIRCUIT):
        _from_table(source, target, model, loading, force=force)
    else:
        raise OptionError(
            f"Nothing turns {source.name!r} into {target.name!r}.",
            wanted="neurons (.csv, .tsv, .json, .jsonl) to .circuit.json, .circuit.json to .csv, or vectors between "
            ".gguf and .safetensors",
        )
    written(target, then=[("show", target)] if target.name.endswith(_CIRCUIT) else ())


def _from_table(source: Path, target: Path, model: str | None, loading: ModelOptions | None, *, force: bool) -> None:
    from neurodial.export.neurons import read_neurons

    circuit = read_neurons(source)
    if model is not None:
        subject = (loading or ModelOptions()).load(model)
        from neurodial.intervention.scale import check_fits

        check_fits(circuit, subject)
        circuit = dataclasses.replace(circuit, origin=dataclasses.replace(circuit.origin, model=subject.identity))
    circuit.write(target, overwrite=force)
    out.print(f"{len(circuit)} neurons in {len(circuit.sites)} layers")
    if model is None:
        err.print("no --model: the circuit goes onto any model that has these neurons", style="dim")
