"""Measures in vLLM, job after job: `python -m neurodial.engines.vllm_measure FOLDER [any option of vLLM's]`.

It runs in vLLM's own environment and imports the standard library, torch and vllm alone (and this package, installed
there without its dependencies). `session.json` in the folder names the model and the largest rank of an adapter.

1. Options under which numbers would be wrong are refused, before vLLM starts.
2. Each line on its input is the name of a job: a folder in the folder, with `job.json`. `measured.json` beside it is
   written when all of it is there. The end of the input ends it.
3. Each row of a job is a list of token ids under one adapter, or none; or under a setting of `vllm_bank`, where the
   session says so. Rows of many share a batch; those under none run apart, as on processors vLLM gives them the adapter
   of their company.
4. Log-probabilities are vLLM's own of prompts: over the whole vocabulary, before temperature, in float32. Divergences
   take all of them at each place, both times, in float64.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from neurodial.engines.vllm_range import ADVANCE, JOB, RESULTS, SESSION
from neurodial.engines.vllm_settings import DESCRIBED, KEY
from neurodial.engines.vllm_start import Refused, dtype_of, engine_arguments, record_of, run_until_done, write_whole
from neurodial.errors import EngineError

CELLS = 2**24
"""Log-probabilities that are held at once; vLLM hands them over one by one, which takes about a hundred bytes each."""

SLOTS = 8
"""Adapters that may share a batch, where the user names no number."""

REFUSED: Refused = {
    "data_parallel_size": ((None, 1), "copies of the model were not tried here"),
    "speculative_config": ((None,), "with speculative decoding answers are not the model's alone to the last digit"),
    "spec_model": ((None,), "with speculative decoding answers are not the model's alone to the last digit"),
    "enable_lora": ((None, False), "the adapters are the circuits at their dials here"),
    "lora_target_modules": ((None,), "the adapters are the circuits at their dials here"),
    "kv_sharing_fast_prefill": ((None, False), "fast prefill gives no log-probabilities of prompts"),
    "logprobs_mode": ((None, "raw_logprobs"), "log-probabilities would be of something else than the model's answer"),
    "prefill_context_parallel_size": ((None, 1), "context parallelism was not tried here"),
    "decode_context_parallel_size": ((None, 1), "context parallelism was not tried here"),
    "kv_transfer_config": ((None,), "keys and values that come from elsewhere leave prompts uncomputed"),
}
_FIX = "Leave it out, or measure in transformers."


class Running:
    """A vLLM that is up, and the adapters that it knows."""

    def __init__(self, session: Mapping[str, Any], folder: Path, options: Sequence[str]) -> None:
        from vllm import LLM

        arguments = engine_arguments(session["model"], options, REFUSED, _FIX)
        arguments.max_logprobs = -1
        if arguments.max_model_len is None:
            arguments.max_model_len = -1  # as long as the memory allows
        if session["rank"]:
            arguments.enable_lora, arguments.max_lora_rank = True, session["rank"]
            arguments.lora_target_modules = [session["module"]]
            if arguments.max_loras == 1:
                arguments.max_loras = SLOTS
        self.folder, self._is_bank = folder, session.get("is_bank", False)
        self.engine = LLM.from_engine_args(arguments)
        if self._is_bank:
            refuse_without_bank(self.engine)
        config = self.engine.llm_engine.vllm_config.model_config
        self.longest, self.vocabulary = config.max_model_len, config.get_vocab_size()
        self.record = {**record_of(self.engine, options), "dtype": dtype_of(self.engine)}
        self.record["dials"] = "in the layers" if self._is_bank else "adapters"
        self._numbers: dict[str, int] = {}

    def outputs(self, rows: Sequence[tuple[Sequence[int], str | None]], settings: Sequence[Any]) -> list[Any]:
        """What vLLM gives for rows of token ids, each under an adapter or none.

        Raises:
            EngineError: a row is too long, or vLLM ran another one.
        """
        for (tokens, _), each in zip(rows, settings, strict=True):
            if len(tokens) + each.max_tokens > self.longest:
                raise EngineError(
                    f"A row has {len(tokens)} tokens, and {each.max_tokens} are to follow.",
                    wanted=f"at most {self.longest}, the longest that this vLLM takes",
                    fix="Shorten it, or start vLLM with a larger --max-model-len.",
                )
        found: dict[int, Any] = {}
        plain = [number for number, (_, adapter) in enumerate(rows) if adapter is None]
        steered = [number for number, (_, adapter) in enumerate(rows) if adapter is not None]
        for part in (plain, sorted(steered, key=lambda number: str(rows[number][1]))):
            if part:
                given = self.engine.generate(
                    [{"prompt_token_ids": list(rows[number][0])} for number in part],
                    [self._under(settings[number], rows[number][1]) for number in part],
                    use_tqdm=False,
                    lora_request=[self._adapter(rows[number][1]) for number in part],
                )
                found.update(zip(part, given, strict=True))
        for number, (tokens, _) in enumerate(rows):
            if list(found[number].prompt_token_ids) != list(tokens):
                raise EngineError("vLLM ran other tokens than the job has.", wanted="the rows as they were given")
        return [found[number] for number in range(len(rows))]

    def _under(self, asked: Any, name: str | None) -> Any:
        if name is None or not self._is_bank:
            return asked
        own = asked.clone()
        own.extra_args = {KEY: name}
        return own

    def _adapter(self, name: str | None) -> Any:
        if name is None or self._is_bank:
            return None
        from vllm.lora.request import LoRARequest

        number = self._numbers.setdefault(name, len(self._numbers) + 1)
        return LoRARequest(name, number, str(self.folder / name))


def refuse_without_bank(engine: Any) -> None:
    """Refuse a vLLM that knows nothing of settings: it would answer unsteered.

    Raises:
        EngineError: our plugin is not loaded.
    """
    try:
        engine.collective_rpc(DESCRIBED)
    except Exception as error:
        raise EngineError(
            f"vLLM loaded no plugin of neurodial's: {error}",
            wanted="the plugin neurodial in each of its processes",
            fix="Install neurodial beside vLLM anew (pip install --no-deps neurodial), and leave it in VLLM_PLUGINS.",
        ) from error


def measure(folder: Path, options: Sequence[str]) -> None:
    """Run the jobs that are named on the input.

    Raises:
        EngineError: an option or a version is refused, or something was not as it has to be.
    """
    session = json.loads((folder / SESSION).read_text(encoding="utf-8"))
    running = Running(session, folder, options)
    for line in sys.stdin:
        place = folder / line.strip()
        text = (place / JOB).read_text(encoding="utf-8")
        job = json.loads(text)
        results = _KINDS[job["kind"]](running, job)
        value = {
            "format": "neurodial.measured",
            "version": 1,
            "job": hashlib.sha256(text.encode()).hexdigest(),
            "engine": running.record,
            "results": results,
        }
        write_whole(place / RESULTS, value)


def _answers(running: Running, job: Mapping[str, Any]) -> list[list[int]]:
    """What follows each row."""
    from vllm import SamplingParams

    decoding = job["decoding"]
    settings = [
        SamplingParams(
            max_tokens=decoding["max_new_tokens"],
            temperature=decoding["temperature"],
            top_p=decoding["top_p"],
            seed=decoding["seed"] + number if decoding["temperature"] > 0 else None,
            stop_token_ids=decoding["stops"],
            ignore_eos=True,  # the tokens that end an answer are named
            detokenize=False,
        )
        for number in range(len(job["rows"]))
    ]
    found = running.outputs(_rows(job), settings)
    _advance(len(found))
    return [list(output.outputs[0].token_ids) for output in found]


def _log_likelihoods(running: Running, job: Mapping[str, Any]) -> list[float]:
    """The log-probability of each row's tokens after those given."""
    from vllm import SamplingParams

    asked = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False)
    found = running.outputs(_rows(job), [asked] * len(job["rows"]))
    totals = []
    for row, output in zip(job["rows"], found, strict=True):
        tokens, given = row["tokens"], row["given"]
        places = range(given, len(tokens))
        totals.append(math.fsum(output.prompt_logprobs[place][tokens[place]].logprob for place in places))
    _advance(len(found))
    return totals


def _divergences(running: Running, job: Mapping[str, Any]) -> list[list[float]]:
    """For each adapter and each row the sum of KL(without || with it) over the row's scored places."""
    rows, adapters = job["rows"], job["adapters"]
    longest = max(len(row["tokens"]) for row in rows)
    together = max(1, CELLS // (longest * running.vocabulary))
    sums: list[list[float]] = [[] for _ in adapters]
    for start in range(0, len(rows), together):
        part = rows[start : start + together]
        plain = list(_tables(running, part, [None] * len(part)))
        pairs = [(row, name, number) for name in adapters for number, row in enumerate(part)]
        found: list[float] = []
        for first in range(0, len(pairs), together):
            chosen = pairs[first : first + together]
            tables = _tables(running, [row for row, _, _ in chosen], [name for _, name, _ in chosen])
            found += [
                float(divergence(plain[number], table).sum())
                for (_, _, number), table in zip(chosen, tables, strict=True)
            ]
        for place in range(len(adapters)):
            sums[place] += found[place * len(part) : (place + 1) * len(part)]
        _advance(len(part))
    return sums


def divergence(plain: torch.Tensor, steered: torch.Tensor) -> torch.Tensor:
    """KL(plain || steered) at each place, from log-probabilities (place, token) in float64.

    Example:
        >>> even, sure = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.0, -torch.inf]])
        >>> float(divergence(even, even)), float(divergence(sure, even))
        (0.0, 0.6931471824645996)
    """
    terms = plain.exp() * (plain - steered)
    return torch.where(plain == -torch.inf, torch.zeros_like(terms), terms).sum(dim=-1)


def _tables(
    running: Running, rows: Sequence[Mapping[str, Any]], adapters: Sequence[str | None]
) -> Iterator[torch.Tensor]:
    """The log-probabilities (place, token) of the whole vocabulary at each row's scored places.

    Raises:
        EngineError: a token is missing.
    """
    from vllm import SamplingParams

    asked = SamplingParams(
        max_tokens=1, temperature=0.0, prompt_logprobs=-1, logprobs=-1, flat_logprobs=True, detokenize=False
    )
    given = running.outputs(list(zip([row["tokens"] for row in rows], adapters, strict=True)), [asked] * len(rows))
    for row, output in zip(rows, given, strict=True):
        table = torch.full((row["scored"], running.vocabulary), torch.nan, dtype=torch.float64)
        for place in range(row["scored"]):
            at = row["given"] + place  # whose prediction is that of the token at this place
            is_next = at == len(row["tokens"])
            flat, position = (output.outputs[0].logprobs, 0) if is_next else (output.prompt_logprobs, at)
            cells = slice(flat.start_indices[position], flat.end_indices[position])
            table[place, flat.token_ids[cells]] = torch.tensor(flat.logprobs[cells], dtype=torch.float64)
        if bool(table.isnan().any()):
            raise EngineError(
                "vLLM gave no log-probability of some tokens.",
                wanted=f"all {running.vocabulary} at each place",
                fix="Please report it, with the model and vLLM's options.",
            )
        yield table


def _rows(job: Mapping[str, Any]) -> list[tuple[list[int], str | None]]:
    return [(row["tokens"], row["adapter"]) for row in job["rows"]]


def _advance(count: int) -> None:
    sys.stdout.write(f"{ADVANCE}{count}\n")
    sys.stdout.flush()


_KINDS: Mapping[str, Callable[[Running, Mapping[str, Any]], Any]] = {
    "answers": _answers,
    "log_likelihoods": _log_likelihoods,
    "divergences": _divergences,
}

if __name__ == "__main__":
    run_until_done(measure)
