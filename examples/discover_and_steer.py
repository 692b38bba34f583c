"""Find the refusal circuit of a model, write it, and answer held-out prompts at several dials.

Usage: python examples/discover_and_steer.py [MODEL]     MODEL: a Hub id, a folder, a GGUF file or `demo`.
Without MODEL it runs on a tiny random model, which shows the steps and answers with noise.
"""

import sys

import neurodial as nd
from neurodial.model.tiny import tiny_subject

DIALS = (0.0, 0.5, 1.0, -1.0)

subject = nd.load(sys.argv[1]) if len(sys.argv) > 1 else tiny_subject()
pairs = nd.PairSet.read("refusal")

# A share of all neurons, as in the paper; a tiny model has so few that a count says it better.
select = nd.Fraction(0.001) if subject.neurons > 5_000 else nd.Count(5)
circuit = nd.discover(subject, pairs.discovery, method=nd.CNA(select=select), name="refusal")
written = circuit.write("refusal.circuit.json", overwrite=True)
print(f"{len(circuit)} of {subject.neurons} neurons, in layers {sorted({row.neuron.layer for row in circuit})}")
if circuit.stability is not None:
    print(f"{circuit.stability.mean:.0%} of them are chosen again without a part of the prompts; written: {written}")

# The test split: prompts that the circuit has not seen. One batch holds every prompt at every dial.
prompts = [example.prompt for example in (pairs.test.positive[0], pairs.test.negative[0])]
rows = [(prompt, dial) for prompt in prompts for dial in DIALS]
answers = nd.generate(
    subject,
    [prompt for prompt, _ in rows],
    under=[nd.Scale(circuit, dial) for _, dial in rows],
    decoding=nd.Decoding(max_new_tokens=24),
)
for (prompt, dial), answer in zip(rows, answers, strict=True):
    if dial == DIALS[0]:
        print(f"\n{prompt}")
    print(f"  dial {dial:g}: {' '.join(answer.text.split())}")
