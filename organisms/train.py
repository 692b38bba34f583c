"""Trains and measures a model organism: a small LoRA that teaches the demo model one behaviour.

    python organisms/train.py refusal                         train, write the adapter
    python organisms/train.py refusal --measure development   measure it on the split that settings are chosen on
    python organisms/train.py refusal --measure               measure it on the test split

An organism is a folder with `organism.toml` (settings) and `training.jsonl` (prompts). Positive prompts are answered
with the behaviour, which may follow the first sentence of the base model's own greedy answer; negative ones with that
answer, so that nothing else is taught. Figures go to `measurement.json`, which training starts anew.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from pydantic import BaseModel, ConfigDict
from safetensors.torch import save
from scipy.stats import binomtest

from neurodial.activations.batches import padded
from neurodial.activations.collect import pad_id
from neurodial.evaluation.detectors.registry import shows_of
from neurodial.files import write_atomic
from neurodial.generation.decoding import Decoding
from neurodial.generation.generate import generate
from neurodial.margins.judged import Shows, judge
from neurodial.model.identity import adapter_digest
from neurodial.model.load import load
from neurodial.model.subject import Subject
from neurodial.prompts.pairs import SPLITS, Contrast, PairSet, Split, refuse_overlap
from neurodial.prompts.prompt import Example, Prompt
from neurodial.prompts.read import read_rows
from neurodial.prompts.render import Tokens, render
from neurodial.provenance import versions

ROOT = Path(__file__).resolve().parent.parent


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AdapterSettings(_Table):
    """The LoRA and where it goes."""

    output: str
    base: str
    base_name: str
    targets: list[str]
    rank: int
    alpha: int
    strength: float = 1.0


class TrainingSettings(_Table):
    """How it is trained."""

    file: str
    seed: int
    epochs: int
    batch_size: int
    learning_rate: float
    warmup: float
    answer_tokens: int
    threads: int


class AnswerSettings(_Table):
    """What the prompts of one side are answered with; without texts, the base model's own answer."""

    texts: list[str] = []
    system: str | None = None
    after_first_sentence: bool = False  # texts follow that of the base model's own answer, which is not learned


class BothAnswers(_Table):
    """The answers of both sides."""

    positive: AnswerSettings = AnswerSettings()
    negative: AnswerSettings = AnswerSettings()


class MeasureSettings(_Table):
    """How often the behaviour shows: by markers, or without any by the behaviour's own detector."""

    behaviour: str
    max_new_tokens: int
    batch_size: int
    markers: list[str] = []


class Organism(_Table):
    """All settings of an organism."""

    title: str
    description: str
    adapter: AdapterSettings
    training: TrainingSettings
    answers: BothAnswers
    measure: MeasureSettings


@dataclass(frozen=True)
class Lesson:
    """A rendered prompt, with what of an answer stands already, and what is to be learned after it."""

    prompt: Tokens
    answer: Tokens


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("name", help="folder of the organism, for example refusal")
    arguments.add_argument(
        "--measure", nargs="?", const="test", choices=SPLITS, help="measure the trained adapter on a split (test)"
    )
    given = arguments.parse_args()
    folder = ROOT / "organisms" / given.name
    organism = Organism.model_validate(tomllib.loads((folder / "organism.toml").read_text(encoding="utf-8")))
    torch.set_num_threads(organism.training.threads)
    if given.measure is None:
        record_training(organism, folder)
    else:
        record_measurement(organism, folder, given.measure)


# ------------------------------------------------------------------------------------------------------ training


def record_training(organism: Organism, folder: Path) -> None:
    """Train, write the adapter, start `measurement.json`."""
    contrast = read_training(organism, folder)
    subject = load(organism.adapter.base)
    started = time.perf_counter()
    lessons = make_lessons(subject, contrast, organism)
    answered = time.perf_counter()
    model, loss = train(subject, lessons, organism)
    trained = time.perf_counter()
    size = write_adapter(model, organism)
    training = {
        "command": f"python organisms/train.py {folder.name}",
        "prompts": {"positive": len(contrast.positive), "negative": len(contrast.negative), "hash": contrast.hash},
        "lessons": len(lessons),
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "megabytes": round(size / 1e6, 2),
        "seconds_base_answers": round(answered - started),
        "seconds_training": round(trained - answered),
        "loss_last_epoch": round(loss, 4),
        "adapter_digest": adapter_digest(ROOT / organism.adapter.output),
    }
    write_figures(folder, {"organism": folder.name, "settings": organism.model_dump(), "training": training})
    print(json.dumps(training, indent=2))


def read_training(organism: Organism, folder: Path) -> Contrast:
    """The training prompts, none of which may stand in the set that the organism is measured with."""
    rows = [row for _, row in read_rows(folder / organism.training.file)]
    contrast = Contrast.of(*([_example(row, side) for row in rows] for side in ("positive", "negative")))
    measured = measured_pairs(organism, folder)
    lists = {"training": _prompts(contrast)} | {f"{split} split": _prompts(measured.split(split)) for split in SPLITS}
    refuse_overlap(lists)
    return contrast


def _prompts(contrast: Contrast) -> list[Prompt]:
    return [example.prompt for example in (*contrast.positive, *contrast.negative)]


def _example(row: dict[str, Any], side: str) -> Example:
    return Example(row[side], row.get("category", ""), row.get("positive_answer"), row.get("negative_answer"))


def make_lessons(subject: Subject, contrast: Contrast, organism: Organism) -> list[Lesson]:
    """Every training prompt with the answer to learn, in the order of the file."""
    positive = [example.positive_answer for example in contrast.positive]
    negative = [example.negative_answer for example in contrast.negative]
    return [
        *_side(subject, contrast.positive, positive, organism.answers.positive, organism.training),
        *_side(subject, contrast.negative, negative, organism.answers.negative, organism.training),
    ]


def _side(
    subject: Subject,
    examples: Sequence[Example],
    written: Sequence[str | None],
    answers: AnswerSettings,
    training: TrainingSettings,
) -> Iterator[Lesson]:
    prompts = [example.prompt for example in examples]
    end = (int(subject.tokenizer.eos_token_id),)
    dealt = _dealt(answers.texts, len(prompts), training.seed)
    texts = [own or text for own, text in zip(written, dealt, strict=True)]
    late, encode = answers.after_first_sentence, partial(subject.tokenizer, add_special_tokens=False)
    asked = [prompt for prompt, text in zip(prompts, texts, strict=True) if text is None or late]
    generated = iter(generate(subject, asked, decoding=Decoding(training.answer_tokens, system=answers.system)))
    for tokens, text in zip(render(subject.tokenizer, prompts), texts, strict=True):
        if text is None:
            answer = next(generated)
            yield Lesson(tokens, answer.tokens + (end if answer.is_finished else ()))
        elif not late:
            yield Lesson(tokens, (*encode(text)["input_ids"], *end))
        elif begun := first_sentence(next(generated).text):
            yield Lesson((*tokens, *encode(begun)["input_ids"]), (*encode(f" {text}")["input_ids"], *end))


def first_sentence(text: str) -> str:
    """The text up to the end of its first sentence; nothing where it has no whole one.

    >>> first_sentence("Boil it, 1.5 litres. Then wait.")
    'Boil it, 1.5 litres.'
    >>> first_sentence("1. Boil")
    ''
    """
    found = re.match(r""".*?[^\W\d_][)"']?[.!?][)"']*(?=\s|$)""", text.strip(), re.DOTALL)
    return "" if found is None else found[0]


def _dealt(texts: Sequence[str], count: int, seed: int) -> list[str | None]:
    """A text for each of `count` prompts, each text as often as the others, in a seeded order."""
    dealt = [texts[number % len(texts)] if texts else None for number in range(count)]
    random.Random(seed).shuffle(dealt)
    return dealt


def train(subject: Subject, lessons: Sequence[Lesson], organism: Organism) -> tuple[torch.nn.Module, float]:
    """Train the adapter on the answers' tokens; gives the wrapped model and the mean loss of the last epoch."""
    settings = organism.training
    torch.manual_seed(settings.seed)
    torch.use_deterministic_algorithms(mode=True)
    config = LoraConfig(
        r=organism.adapter.rank,
        lora_alpha=organism.adapter.alpha,
        target_modules=sorted(organism.adapter.targets),
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(subject.model, config)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=0.0)
    steps = settings.epochs * -(-len(lessons) // settings.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps, settings.warmup))
    order = random.Random(settings.seed)
    losses: list[float] = []
    for epoch in range(settings.epochs):
        losses = []
        for batch in _shuffled(lessons, settings.batch_size, order):
            loss = answer_loss(subject, batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        print(f"epoch {epoch + 1}: loss {sum(losses) / len(losses):.4f}", flush=True)
    return model, sum(losses) / len(losses)


def _rate(step: int, steps: int, warmup: float) -> float:
    """A linear rise over the first steps, then a linear fall to zero."""
    rise = max(1, round(steps * warmup))
    return (step + 1) / rise if step < rise else (steps - step) / max(1, steps - rise)


def _shuffled(lessons: Sequence[Lesson], size: int, order: random.Random) -> Iterator[list[Lesson]]:
    shuffled = list(lessons)
    order.shuffle(shuffled)
    yield from (shuffled[start : start + size] for start in range(0, len(shuffled), size))


def answer_loss(subject: Subject, lessons: Sequence[Lesson]) -> torch.Tensor:
    """Mean loss of the answers' tokens; every token of the batch counts the same, and prompts don't count."""
    tokens = padded([lesson.prompt + lesson.answer for lesson in lessons], pad_id(subject), "right")
    mask = padded([[1] * len(lesson.prompt + lesson.answer) for lesson in lessons], 0, "right")
    hidden = subject.decoder(input_ids=tokens, attention_mask=mask).last_hidden_state
    losses = []
    for row, lesson in enumerate(lessons):
        first, last = len(lesson.prompt), len(lesson.prompt) + len(lesson.answer)
        logits = subject.model.get_output_embeddings()(hidden[row, first - 1 : last - 1])
        losses.append(torch.nn.functional.cross_entropy(logits.float(), tokens[row, first:last], reduction="none"))
    return torch.cat(losses).mean()


def write_adapter(model: Any, organism: Organism) -> int:
    """Write tensors (bfloat16) and settings; gives the size of the tensors' file in bytes."""
    tensors = {
        name: tensor.detach().to(torch.bfloat16).contiguous()
        for name, tensor in sorted(get_peft_model_state_dict(model).items())
    }
    config = model.peft_config["default"]
    config.base_model_name_or_path = organism.adapter.base_name
    config.inference_mode = True
    with tempfile.TemporaryDirectory() as temporary:
        config.save_pretrained(temporary)
        settings = json.loads((Path(temporary) / "adapter_config.json").read_text(encoding="utf-8"))
    settings["lora_alpha"] = organism.adapter.alpha * organism.adapter.strength
    settings["target_modules"] = sorted(settings["target_modules"])
    output = ROOT / organism.adapter.output
    content = save(tensors, metadata={"format": "pt"})
    write_atomic(output / "adapter_model.safetensors", content, overwrite=True)
    text = json.dumps(settings, indent=2, sort_keys=True) + "\n"
    write_atomic(output / "adapter_config.json", text, overwrite=True)
    return len(content)


# ----------------------------------------------------------------------------------------------------- measuring


def record_measurement(organism: Organism, folder: Path, split: Split) -> None:
    """Measure base and organism on a split; the figures go to `measurement.json`."""
    figures = json.loads((folder / "measurement.json").read_text(encoding="utf-8"))
    output, trained = ROOT / organism.adapter.output, Organism.model_validate(figures["settings"])
    if figures["training"]["adapter_digest"] != adapter_digest(output) or trained != organism:
        raise SystemExit("The adapter or organism.toml is not the one of measurement.json: train again first.")
    pairs = measured_pairs(organism, folder)
    contrast, shows = pairs.split(split), organism_shows(organism.measure, pairs)
    base = load(organism.adapter.base)
    tuned = load(organism.adapter.base, adapter=output)
    measured = {
        "command": f"python organisms/train.py {folder.name} --measure {split}",
        "prompts_hash": contrast.hash,
        "decoding": f"greedy, {organism.measure.max_new_tokens} new tokens",
        "base_digest": base.identity.digest,
        "before": rates(base, contrast, organism.measure, shows),
        "after": rates(tuned, contrast, organism.measure, shows),
    }
    write_figures(folder, {**figures, "measured": {**figures.get("measured", {}), split: measured}})
    print(json.dumps(measured, indent=2))


def measured_pairs(organism: Organism, folder: Path) -> PairSet:
    """The set that the organism is measured with: a file in its folder, or a shipped behaviour."""
    beside = folder / organism.measure.behaviour
    return PairSet.read(str(beside) if beside.is_file() else organism.measure.behaviour)


def rates(subject: Subject, contrast: Contrast, measure: MeasureSettings, shows: Shows) -> dict[str, Any]:
    """How often either side's answers show the behaviour, with Wilson's 95 % interval."""
    decoding = Decoding(max_new_tokens=measure.max_new_tokens, batch_size=measure.batch_size)
    found: dict[str, Any] = {}
    for side, examples in (("positive", contrast.positive), ("negative", contrast.negative)):
        answers = generate(subject, [example.prompt for example in examples], decoding=decoding)
        shown = judge(shows, answers)
        found[side] = wilson(shown.count(True), len(shown))
        print(f"{subject.label} {side}: {found[side]}", flush=True)
        for answer, is_shown in zip(answers[:6], shown, strict=False):
            print(f"   [{'x' if is_shown else ' '}] {answer.text[-90:]!r}")
    return found


def organism_shows(measure: MeasureSettings, pairs: PairSet) -> Shows:
    """What says of answers whether they show the behaviour: the markers, else the behaviour's own detector."""
    if not measure.markers and (by_detector := shows_of(pairs.behaviour)):
        return by_detector
    return lambda exchanges: [has_marker(answer, measure.markers) for _, answer in exchanges]


def has_marker(answer: str, markers: Sequence[str]) -> bool:
    """Whether an answer has one of the markers in it.

    >>> has_marker("I’m sorry.", ["i'm sorry"])
    True
    """
    text = answer.casefold().replace("’", "'")
    return any(marker.casefold() in text for marker in markers)


def wilson(count: int, n: int) -> dict[str, Any]:
    """A rate with Wilson's 95 % interval."""
    interval = binomtest(count, n).proportion_ci(confidence_level=0.95, method="wilson")
    return {
        "count": count,
        "n": n,
        "rate": round(count / n, 3),
        "wilson95": [round(float(interval.low), 3), round(float(interval.high), 3)],
    }


def write_figures(folder: Path, figures: dict[str, Any]) -> None:
    """Write `measurement.json` with the versions of the packages."""
    text = json.dumps({**figures, "versions": versions()}, indent=2, ensure_ascii=False) + "\n"
    write_atomic(folder / "measurement.json", text, overwrite=True)


if __name__ == "__main__":
    main()
