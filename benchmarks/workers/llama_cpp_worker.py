"""Runs in llama-cpp-python's own environment: logits of token lists under adapters at several scales.

Reads a job as JSON from stdin; writes one array (token, vocab) for each setting of the scales.
"""

import ctypes
import json
import sys

import llama_cpp
import numpy as np

FLOAT32 = 0  # GGML_TYPE_F32: the key-value cache unrounded, so that a difference is the adapter's


def main() -> None:
    job = json.load(sys.stdin)
    longest = max(map(len, job["tokens"]))
    model = llama_cpp.Llama(
        job["model"], n_ctx=longest + 8, n_batch=longest + 8, logits_all=True, n_threads=1, n_threads_batch=1,
        type_k=FLOAT32, type_v=FLOAT32, flash_attn=False, verbose=False,
    )  # fmt: skip
    adapters = [llama_cpp.llama_adapter_lora_init(model.model, file.encode()) for file in job["loras"]]
    if not all(adapters):
        sys.exit("llama.cpp did not load an adapter")
    found = {}
    for number, scales in enumerate(job["scales"]):
        if adapters:
            handles = (llama_cpp.llama_adapter_lora_p_ctypes * len(adapters))(*adapters)
            values = (ctypes.c_float * len(adapters))(*scales)
            if llama_cpp.llama_set_adapters_lora(model.ctx, handles, len(adapters), values):
                sys.exit("llama.cpp did not take the adapters")
        rows = []
        for tokens in job["tokens"]:
            model.reset()
            model._ctx.kv_cache_clear()  # noqa: SLF001  # no public name for it
            model.eval(tokens)
            rows.append(np.array(model.scores[: len(tokens)], dtype=np.float32))
        found[str(number)] = np.concatenate(rows)
    np.savez(job["output"], allow_pickle=False, **found)


if __name__ == "__main__":
    main()
