"""Make a prompt file for a behaviour of your own, find its circuit, and hold it against random neurons.

Usage: python examples/own_prompts.py [MODEL]     Without MODEL: a tiny random model.
Writes rhyme.jsonl into the working directory.
"""

import json
import sys
from pathlib import Path

import neurodial as nd
from neurodial.circuit.controls import random_control
from neurodial.model.tiny import tiny_subject

SUBJECTS = (
    *("the sea", "a clock", "bread", "winter", "a train", "the moon", "tea", "a garden", "rain", "a bridge"),
    *("a cat", "music", "a mirror", "the wind", "a letter", "shoes", "a lamp", "the forest", "a boat", "snow"),
)

# Both sides ask for the same; only the behaviour differs. Fifty pairs and more give steadier circuits.
pairs_file = Path("rhyme.jsonl")
lines = [
    {"positive": f"Write two rhyming lines about {thing}.", "negative": f"Write two plain lines about {thing}."}
    for thing in SUBJECTS
]
pairs_file.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")

subject = nd.load(sys.argv[1]) if len(sys.argv) > 1 else tiny_subject()
pairs = nd.PairSet.read(str(pairs_file))
select = nd.Fraction(0.001) if subject.neurons > 5_000 else nd.Count(5)
circuit = nd.discover(subject, pairs.discovery, select=select, name="rhyme")
control = random_control(circuit, seed=0, match="layer")

prompt = pairs.test.positive[0].prompt
under = {"unsteered": None, "circuit off": nd.Scale(circuit), "as many random neurons off": nd.Scale(control)}
answers = nd.generate(
    subject, [prompt] * len(under), under=list(under.values()), decoding=nd.Decoding(max_new_tokens=24)
)
print(prompt)
for name, answer in zip(under, answers, strict=True):
    print(f"  {name}: {' '.join(answer.text.split())}")
