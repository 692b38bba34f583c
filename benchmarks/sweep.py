"""A sweep of dials in shared batches, against one prompt at a time: answers a second on SmolLM2.

Run: python benchmarks/sweep.py
"""

from __future__ import annotations

from measure import interleaved, ratios, write

from neurodial.circuit.circuit import Circuit, Row
from neurodial.circuit.site import Neuron
from neurodial.generation.decoding import Decoding
from neurodial.generation.generate import generate
from neurodial.intervention.scale import Scale
from neurodial.model.load import load
from neurodial.prompts.pairs import PairSet

TOKENS = 32
DIALS = (0.5, 1.0)
PROMPTS = 16


def main() -> None:
    subject = load("demo-base")
    prompts = [example.prompt for example in PairSet.read("refusal").test.positive[:PROMPTS]]
    rows = [Row(Neuron(number % subject.layers, None, number), 1.0, 1.0) for number in range(46)]
    scales = [None, *(Scale(Circuit.of(rows), dial=dial) for dial in DIALS)]
    asked = prompts * len(scales)
    under = [scale for scale in scales for _ in prompts]

    def sweep(batch_size: int) -> object:
        return generate(subject, asked, under=under, decoding=Decoding(max_new_tokens=TOKENS, batch_size=batch_size))

    seconds = interleaved({"shared_batches": lambda: sweep(len(asked)), "one_by_one": lambda: sweep(1)}, rounds=2)
    result: dict[str, object] = {
        "model": "SmolLM2-135M-Instruct, float32",
        "answers": len(asked),
        "new_tokens": TOKENS,
        "dials": [0.0, *DIALS],
        "seconds": seconds,
        "one_by_one_over_shared_batches": ratios(seconds, of="one_by_one", to="shared_batches"),
    }
    write("sweep", result, command="python benchmarks/sweep.py")


if __name__ == "__main__":
    main()
