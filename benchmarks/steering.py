"""Steered generation against unsteered, at batch 1 and 16: SmolLM2, 46 neurons in every layer's reach.

Run: python benchmarks/steering.py
"""

from __future__ import annotations

from measure import interleaved, ratios, write

from neurodial.circuit.circuit import Circuit, Row
from neurodial.circuit.site import Neuron
from neurodial.generation.decoding import Decoding
from neurodial.generation.generate import generate
from neurodial.intervention.scale import Scale
from neurodial.model.load import load
from neurodial.model.subject import Subject
from neurodial.prompts.behaviours import read_prompt_list

TOKENS = 24


def measured(subject: Subject, *, sizes: tuple[int, ...] = (1, 16), rounds: int = 9) -> dict[str, object]:
    """Seconds and ratios of steered generation at each batch size, with hooks in up to 46 layers."""
    prompts = list(read_prompt_list("neutral").split("development"))[: max(sizes)]
    # One or two neurons in each of the 30 layers: more hooks than a discovered circuit of 46 has.
    rows = [Row(Neuron(number % subject.layers, None, number), 1.0, 1.0) for number in range(46)]
    # Dial 1e-6 changes no token, so both sides generate the same text; the work is that of any dial.
    scale = Scale(Circuit.of(rows), dial=1e-6)
    result: dict[str, object] = {"new_tokens": TOKENS, "hooked_layers": min(46, subject.layers)}
    for size in sizes:
        decoding = Decoding(max_new_tokens=TOKENS, batch_size=size)
        asked = prompts[:size]
        seconds = interleaved(
            {
                "steered": lambda: generate(subject, asked, under=scale, decoding=decoding),  # noqa: B023  # run at once
                "plain": lambda: generate(subject, asked, decoding=decoding),  # noqa: B023
            },
            rounds=rounds,
        )
        result[f"batch_{size}"] = {
            "seconds": seconds,
            "steered_over_plain": ratios(seconds, of="steered", to="plain"),
        }
    return result


def main() -> None:
    result = {"model": "SmolLM2-135M-Instruct, float32", **measured(load("demo-base"))}
    write("steering", result, command="python benchmarks/steering.py")


if __name__ == "__main__":
    main()
