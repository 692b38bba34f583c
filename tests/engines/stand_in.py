"""A stand-in for vLLM's side of a job, for tests without vLLM: transformers runs it; gathering is split over two ranks.

As a script it is the interpreter of vLLM's environment: it answers what is asked of it before a job, and runs the job.
What is broken on purpose is named by STAND_IN.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

RANKS = 2
RUNS = 3
"""Runs of prompts."""


def gathered(folder):
    """Run the job of a folder."""
    import torch
    from safetensors.torch import save_file

    from neurodial.activations.collect import Reading, collect
    from neurodial.activations.position import Last
    from neurodial.circuit.site import site_name
    from neurodial.engines.vllm_rows import Buffer
    from neurodial.model.load import load

    text = (folder / "job.json").read_text()
    job = json.loads(text)
    assert all(prompt["read"] == [len(prompt["tokens"]) - 1] for prompt in job["prompts"])
    subject = load(job["model"])
    sequences = [tuple(prompt["tokens"]) for prompt in job["prompts"]]
    found = {site: torch.zeros(len(sequences), *subject.shape(site)) for site in subject.sites}

    def keep(site, cells, rows):
        found[site][list(rows)] = cells

    collect(subject, sequences, Reading(Last(), share_prefix=False), keep)
    pieces = []
    size = -(-len(sequences) // RUNS)
    for first in range(0, len(sequences), size):
        last = min(first + size, len(sequences))
        for site, cells in found.items():
            width = cells.shape[-1] // RANKS
            for rank in range(RANKS):
                part = cells[first:last, ..., rank * width : (rank + 1) * width]
                experts = list(range(cells.shape[1])) if site.routed else None
                buffer = Buffer(
                    site_name(site), rank * width, (rank + 1) * width, experts, visits=_visits(subject, site)
                )
                fill(buffer, part)
                file = f"{buffer.site}-{first}-{rank}.safetensors"
                save_file({name: each.contiguous() for name, each in buffer.tensors().items()}, folder / file)
                pieces.append(
                    {
                        "file": file, "site": buffer.site, "rank": rank, "first": first, "last": last,
                        "start": buffer.start, "stop": buffer.stop, "experts": experts, "visits": buffer.visits,
                    }
                )  # fmt: skip
    engine = {"name": "vllm", "version": "0.32.0", "tensor_parallel": RANKS, "options": sys.argv[4:]}
    value = {
        "format": "neurodial.gathered", "version": 1, "job": hashlib.sha256(text.encode()).hexdigest(),
        "dtype": "float32", "engine": engine, "pieces": pieces,
    }  # fmt: skip
    (folder / "gathered.json").write_text(json.dumps(value))


def fill(buffer, part):
    """Give a buffer its part in two steps, as a worker does."""
    import torch

    buffer.begin(len(part))
    for prompts in torch.arange(len(part)).tensor_split(2):
        cells = part[prompts]
        if buffer.experts is None:
            buffer.step.append((cells,))
        else:
            rows, experts = (cells != 0).any(-1).nonzero(as_tuple=True)
            buffer.step.append((cells[rows, experts], rows, experts))
        buffer.keep(prompts, torch.ones(len(prompts)))


def measured(folder):
    """Take the jobs that are named on the input: with the adapters' own files, one row at a time."""
    import torch

    from neurodial.export.bank_file import through_doses
    from neurodial.export.loaded import through_matrices
    from neurodial.export.peft_adapter import read_low_rank
    from neurodial.model.load import load

    session = json.loads((folder / "session.json").read_text())
    subject = load(session["model"])

    @torch.no_grad()
    def table(tokens, adapter):
        """Log-probabilities (place, token)."""
        if session.get("is_bank") and adapter is not None:
            folders = dict(part.split("=") for part in os.environ["NEURODIAL_VLLM"].split(":"))
            name, _, dial = adapter.partition("@")
            steered = through_doses(subject, float(dial), Path(folders[name]))
        else:
            matrices = {} if adapter is None else read_low_rank(subject, folder / adapter)
            steered = through_matrices(subject, matrices, "stand-in")
        with steered as loaded:
            return loaded.model(torch.tensor([tokens])).logits[0].double().log_softmax(-1)

    def answered(row, decoding):
        answer = []
        while len(answer) < decoding["max_new_tokens"] and not set(answer) & set(decoding["stops"]):
            answer.append(int(table([*row["tokens"], *answer], row["adapter"])[-1].argmax()))
        return answer

    def scored(row):
        given, tokens = row["given"], row["tokens"]
        found = table(tokens, row["adapter"])
        return sum(float(found[place - 1, tokens[place]]) for place in range(given, len(tokens)))

    def apart(row, adapter):
        cells = slice(row["given"] - 1, row["given"] - 1 + row["scored"])
        plain, steered = (table(row["tokens"], name)[cells] for name in (None, adapter))
        return float(torch.nn.functional.kl_div(steered, plain, reduction="sum", log_target=True))

    for line in sys.stdin:
        text = (folder / line.strip() / "job.json").read_text()
        job = json.loads(text)
        match job["kind"]:
            case "answers":
                results = [answered(row, job["decoding"]) for row in job["rows"]]
            case "log_likelihoods":
                results = [scored(row) for row in job["rows"]]
            case "divergences":
                results = [[apart(row, adapter) for row in job["rows"]] for adapter in job["adapters"]]
        value = {
            "format": "neurodial.measured", "version": 1, "job": hashlib.sha256(text.encode()).hexdigest(),
            "engine": {"name": "vllm", "version": "0.32.0", "rank": session["rank"], "options": sys.argv[4:],
                       "dials": "in the layers" if session.get("is_bank") else "adapters"},
            "results": results,
        }  # fmt: skip
        whole = folder / line.strip() / "measured.json"
        whole.with_suffix(".new").write_text(json.dumps(value))
        whole.with_suffix(".new").replace(whole)
        sys.stdout.write(f"neurodial: prompts gathered: {len(job['rows'])}\n")
        sys.stdout.flush()


def _visits(subject, site):
    return subject.model.config.num_experts_per_tok if site.routed else 1


def main():
    broken = os.environ.get("STAND_IN", "")
    if sys.argv[1] == "-c":
        sys.stdout.write(os.environ.get("STAND_IN_HAS", '{"vllm": "0.32.0", "neurodial": "0.1.0"}'))
        return
    folder = Path(sys.argv[3])
    (folder / "options.json").write_text(json.dumps(sys.argv[4:]))
    if broken == "dies":
        sys.exit("RuntimeError: Worker failed with error 'killed'")
    if broken == "refuses":
        failure = {"problem": "It is wrong.", "wanted": "right", "fix": None}
        (folder / "failed.json").write_text(json.dumps(failure))
        sys.exit(1)
    if sys.argv[2].endswith("vllm_measure"):
        measured(folder)
        return
    gathered(folder)
    sys.stdout.write("neurodial: prompts gathered: 1\n")


if __name__ == "__main__":
    main()
