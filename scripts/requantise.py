"""What is left of an adapter when it is merged into quantised weights and these are quantised again.

The organism's adapter, merged into the demo model's file (most weights Q4_1), every changed weight rounded to one type:
its own, Q8_0 or F16. Mean KL(adapted model || merged file) over the last places of some prompts; the model without any
adapter stands beside it, and the share of the change that survives, `<rounded - before, change> / |change|^2`.

Run: python -m scripts.requantise (two minutes on two cores); writes docs/results/requantise.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

from neurodial.export.equivalence import LogProbabilities, log_probabilities
from neurodial.export.merge import read_lora
from neurodial.files import write_atomic
from neurodial.model.load import load
from neurodial.prompts.behaviours import read_prompt_list
from neurodial.prompts.render import render
from neurodial.provenance import now, versions

REPORT = Path(__file__).resolve().parents[1] / "docs" / "results" / "requantise.json"
PROMPTS = 8


def main() -> None:
    torch.set_num_threads(1)
    adapted, base = load("demo"), load("demo-base")
    tokens = render(adapted.tokenizer, read_prompt_list("diverse").prompts[:PROMPTS])
    wanted = log_probabilities(adapted.model, tokens)
    rows = [{"types": "without the adapter", **distance(wanted, log_probabilities(base.model, tokens))}]
    lora = read_lora(Path(str(adapted.adapter and adapted.adapter.path)))
    before = {module: base.model.get_submodule(module).weight.detach().clone() for module in lora.tensors}
    for kind in ("Q4_1", "Q8_0", "F16"):
        survived = []
        for module, weight in before.items():
            change = lora.change(module).numpy()
            rounded = through(weight.double().numpy() + change, kind)
            survived.append(float(((rounded - weight.numpy()) * change).sum() / (change**2).sum()))
            base.model.get_submodule(module).weight.data.copy_(torch.from_numpy(rounded))
        measured = distance(wanted, log_probabilities(base.model, tokens))
        rows.append({"types": kind, **measured, "survived": float(np.mean(survived))})
    value = {
        "command": "python -m scripts.requantise",
        "created": now(),
        "versions": versions(),
        "prompts": PROMPTS,
        "places": sum(len(part) for part in wanted),
        "rows": rows,
    }
    print(json.dumps(rows, indent=1))
    write_atomic(REPORT, json.dumps(value, indent=1) + "\n", overwrite=True)


def through(weight: Any, kind: str) -> Any:
    """A weight rounded to a type. Rows are rounded one by one, so their order, which GGUF changes, plays no part."""
    found = gguf.GGMLQuantizationType[kind]
    return gguf.dequantize(gguf.quantize(weight.astype(np.float32), found), found).astype(np.float32)


def distance(wanted: LogProbabilities, found: LogProbabilities) -> dict[str, float]:
    one, other = torch.cat(wanted).double(), torch.cat(found).double()
    kl = (one.exp() * (one - other)).sum(-1).mean()
    same = (one.argmax(-1) == other.argmax(-1)).double().mean()
    return {"kl": float(kl), "difference": float((one - other).abs().max()), "same_top": float(same)}


if __name__ == "__main__":
    main()
