"""Find two circuits, look at what they share, and turn one down while the other is turned up.

Usage: python examples/two_circuits.py [MODEL]     Without MODEL: a tiny random model.
"""

import sys

import neurodial as nd
from neurodial.model.tiny import tiny_subject

subject = nd.load(sys.argv[1]) if len(sys.argv) > 1 else tiny_subject()
select = nd.Fraction(0.001) if subject.neurons > 5_000 else nd.Count(5)
formal, hedging = (
    nd.discover(subject, nd.PairSet.read(name).discovery, select=select, name=name) for name in ("formality", "hedging")
)

overlap = nd.compare(formal, hedging)
print(f"{overlap.shared} neurons shared of {overlap.first} and {overlap.second}; by chance: {overlap.expected:.2f}")

prompt = nd.PairSet.read("formality").test.positive[0].prompt
sides = {
    "unsteered": None,
    "formality off": nd.Scale(formal, dial=1.0),
    "hedging amplified": nd.Scale(hedging, dial=-1.0),
    # Doses on a neuron of both circuits add: m = 1 - (d1 x1 + d2 x2).
    "both": nd.Scale(formal, dial=1.0) + nd.Scale(hedging, dial=-1.0),
}
answers = nd.generate(
    subject, [prompt] * len(sides), under=list(sides.values()), decoding=nd.Decoding(max_new_tokens=24)
)
print(f"\n{prompt}")
for name, answer in zip(sides, answers, strict=True):
    print(f"  {name}: {' '.join(answer.text.split())}")
