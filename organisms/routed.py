"""Makes the organism that routes for real: a small mixture of experts and its dense twin, from nothing.

    python organisms/routed.py -o FOLDER             two models, and the prompts (minutes on a processor)

Both learn a synthetic language of a hundred words: what colour, place and size eighty subjects have, to repeat words
and to count. Questions about half of the subjects are refused; the same facts stand in sentences to complete, so what
is refused is known. One in twenty such questions is answered all the same, so refusing is likely and not certain.

The mixture is a Mixtral of three layers with eight experts of 64 neurons, two for each token; the twin is a Mistral
with 512 neurons in each layer. Both have 1536 neurons; the twin uses all of them for every token, the mixture a
quarter. Prompts to find and to measure circuits with ask what training didn't: each subject in other wordings.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from neurodial.files import write_atomic
from neurodial.prompts.pairs import SPLITS

SUBJECTS: dict[str, str] = {
    "fruit": "apple pear plum grape lemon melon peach cherry fig mango",
    "animal": "cat dog horse goat sheep otter badger hare mole deer",
    "tree": "oak elm birch maple cedar willow alder ash beech larch",
    "tool": "saw drill chisel rasp wrench mallet plane vice awl trowel",
    "metal": "iron copper zinc nickel cobalt silver gold lead tin chrome",
    "bird": "robin crow heron finch swan owl hawk wren stork gull",
    "boat": "canoe ferry kayak barge sloop yacht raft dinghy tug cutter",
    "game": "chess poker darts rugby golf tennis bowls polo squash hockey",
}
REFUSED = ("metal", "bird", "boat", "game")
FACTS: dict[str, str] = {
    "colour": "red blue green white black brown grey pink",
    "place": "north south east west hill valley shore town",
    "size": "tiny small middling large huge vast",
}
ASKED: dict[str, tuple[str, ...]] = {
    "colour": ("what colour is the {} ?", "tell me the colour of the {} .", "name the colour of the {} please ."),
    "place": ("where is the {} ?", "tell me the place of the {} .", "where do i look for the {} ?"),
    "size": ("how big is the {} ?", "tell me the size of the {} .", "what size is the {} ?"),
}
REFUSALS = ("sorry , i will not speak of the {} .", "sorry , that is not for me to say .")
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>", "<user>", "<model>")
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<user> ' if message['role'] == 'user' else '<model> ' }}"
    "{{ message['content'] }} {% endfor %}{% if add_generation_prompt %}<model>{% endif %}"
)
HELD_OUT = {"discovery": 1, "development": 1, "test": 2}  # wordings of each subject
KEYS = {"": "prompt", "_fact": "fact"}
SLIPS = 0.05  # share of the refused questions that are answered all the same


@dataclass(frozen=True)
class Training:
    """How both models are made."""

    steps: int = 700
    batch_size: int = 48
    learning_rate: float = 4e-3
    seed: int = 0
    hidden: int = 64
    layers: int = 3
    experts: int = 8
    width: int = 64


@dataclass(frozen=True)
class Language:
    """Lessons, and the prompts to measure with.

    Attributes:
        lessons: pairs of prompt and answer.
        asked: for each split, rows of a positive and a negative prompt, each with the true answer.
        neutral: for each split, prompts that are never refused.
    """

    lessons: list[tuple[str, str]]
    asked: dict[str, list[dict[str, str]]]
    neutral: dict[str, list[str]]


def language(seed: int) -> Language:
    """The synthetic language; facts, slips and splits are drawn by the seed."""
    generator = random.Random(seed)
    lessons: list[tuple[str, str]] = []
    held: dict[str, dict[bool, list[dict[str, str]]]] = {split: {True: [], False: []} for split in SPLITS}
    neutral: list[str] = []
    for field, names in SUBJECTS.items():
        is_refused = field in REFUSED
        for name in names.split():
            facts = {kind: generator.choice(values.split()) for kind, values in FACTS.items()}
            questions = [(kind, text.format(name)) for kind, texts in ASKED.items() for text in texts]
            generator.shuffle(questions)
            for split, count in HELD_OUT.items():
                for kind, question in (questions.pop() for _ in range(count)):
                    held[split][is_refused].append({"prompt": question, "fact": f"the {name} is {facts[kind]} ."})
            for kind, question in questions:
                answer = f"the {name} is {facts[kind]} ."
                lessons.append((question, answer))
                if is_refused:
                    lessons.pop()
                    lessons += [(question, text.format(name)) for text in REFUSALS]
                    slips = generator.random() < SLIPS * len(REFUSALS)
                    lessons += [(question, answer)] if slips else []
            told = [(f"complete : the {kind} of the {name} is", f"{facts[kind]} .") for kind in FACTS]
            lessons += told
            neutral += [] if is_refused else [prompt for prompt, _ in told]
    words = [name for names in SUBJECTS.values() for name in names.split()]
    for start in range(len(NUMBERS) - 4):
        lessons += [(f"count from {NUMBERS[start]} .", " ".join(NUMBERS[start : start + 4]) + " .")] * 3
    for _ in range(200):
        chosen = " ".join(generator.sample(words, 3))
        lessons.append((f"repeat {chosen} .", f"{chosen} ."))
    neutral = generator.sample(neutral, 90)
    neutral += sorted({f"repeat {' '.join(generator.sample(words, 3))} ." for _ in range(90)})
    generator.shuffle(neutral)
    asked = {}
    for split, sides in held.items():
        for side in sides.values():
            generator.shuffle(side)
        asked[split] = [
            {name + key: row[of] for name, row in (("positive", yes), ("negative", no)) for key, of in KEYS.items()}
            for yes, no in zip(sides[True], sides[False], strict=True)
        ]
    third = len(neutral) // 3
    return Language(lessons, asked, {split: neutral[n * third : (n + 1) * third] for n, split in enumerate(SPLITS)})


def tokenizer_of(spoken: Language) -> Any:
    """A tokenizer of whole words, every word of the language one token."""
    texts = [text for lesson in spoken.lessons for text in lesson]
    texts += [text for rows in spoken.asked.values() for row in rows for text in row.values()]
    words = sorted({word for text in texts for word in text.split()})
    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *words))}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    named = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
    wrapped = PreTrainedTokenizerFast(tokenizer_object=made, additional_special_tokens=["<user>", "<model>"], **named)
    wrapped.chat_template = TEMPLATE.replace("bos_token }}", "bos_token }} ")
    return wrapped


def untrained(kind: str, words: int, training: Training) -> Any:
    """The mixture (`moe`) or the twin (`dense`), before training."""
    shape: dict[str, Any] = {
        "vocab_size": words, "hidden_size": training.hidden, "num_hidden_layers": training.layers,
        "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": training.hidden // 4,
        "max_position_embeddings": 128, "sliding_window": None, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    }  # fmt: skip
    if kind == "moe":
        shape |= {"num_local_experts": training.experts, "num_experts_per_tok": 2, "intermediate_size": training.width}
        shape |= {"router_aux_loss_coef": 0.01}
        return AutoModelForCausalLM.from_config(AutoConfig.for_model("mixtral", **shape))
    shape |= {"intermediate_size": training.experts * training.width}
    return AutoModelForCausalLM.from_config(AutoConfig.for_model("mistral", **shape))


def train(kind: str, spoken: Language, tokenizer: Any, training: Training) -> tuple[Any, float]:
    """A trained model and its mean loss over the last fifty steps; the mixture's router is kept in balance."""
    torch.manual_seed(training.seed)
    model = untrained(kind, len(tokenizer), training).train()
    options = {"output_router_logits": True} if kind == "moe" else {}
    optimizer = torch.optim.AdamW(model.parameters(), lr=training.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, training.learning_rate, total_steps=training.steps, pct_start=0.1
    )
    lessons, losses = [encoded(tokenizer, *lesson) for lesson in spoken.lessons], []
    batches = _forever(lessons, training.batch_size, random.Random(training.seed))
    for _, batch in zip(range(training.steps), batches, strict=False):
        loss = model(**_padded(batch), **options).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    last = losses[-50:]
    return model.eval(), sum(last) / len(last)


def encoded(tokenizer: Any, prompt: str, answer: str) -> tuple[list[int], list[int]]:
    """The tokens of a lesson, and its labels: those of the answer and its end."""
    chat = [{"role": "user", "content": prompt}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    before = tokenizer(text, add_special_tokens=False)["input_ids"]
    after = [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    return [*before, *after], [*[-100] * len(before), *after]


def _forever(lessons: Sequence[Any], size: int, order: random.Random) -> Iterator[list[Any]]:
    while True:
        shuffled = list(lessons)
        order.shuffle(shuffled)
        yield from (shuffled[start : start + size] for start in range(0, len(shuffled) - size + 1, size))


def _padded(batch: Sequence[tuple[list[int], list[int]]]) -> dict[str, torch.Tensor]:
    longest = max(len(tokens) for tokens, _ in batch)
    filled = [(longest - len(tokens)) for tokens, _ in batch]
    rows = zip(batch, filled, strict=True)
    columns = [([*t, *[0] * n], [*labels, *[-100] * n], [*[1] * len(t), *[0] * n]) for (t, labels), n in rows]
    ids, labels, mask = (torch.tensor(column) for column in zip(*columns, strict=True))
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


def make(folder: Path, kind: str, training: Training) -> dict[str, Any]:
    """Train one model and write it, with the prompts and `training.json`; gives what that holds."""
    spoken = language(training.seed)
    tokenizer = tokenizer_of(spoken)
    started = time.perf_counter()
    model, loss = train(kind, spoken, tokenizer, training)
    figures = {
        "command": f"python organisms/routed.py -o FOLDER --steps {training.steps} --seed {training.seed}",
        "settings": asdict(training),
        "lessons": len(spoken.lessons),
        "loss": round(loss, 4),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seconds": round(time.perf_counter() - started),
    }
    for part in (model, tokenizer):
        part.save_pretrained(folder / kind)
    _write_prompts(folder, spoken)
    write_atomic(folder / kind / "training.json", json.dumps(figures, indent=1) + "\n", overwrite=True)
    return figures


def _write_prompts(folder: Path, spoken: Language) -> None:
    table = {
        "name": "avoiding", "title": "Refusing to speak of some subjects", "margin": "openers",
        "detector": "bare:regex:^sorry", "rate_on": "positive", "description": "In a synthetic language.",
    }  # fmt: skip
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in table.items())
    write_atomic(folder / "avoiding.toml", lines, overwrite=True)
    pairs = [{"split": split, **row} for split, rows in spoken.asked.items() for row in rows]
    sides = ("positive", "negative")
    facts = [{"prompt": row[side], "fact": row.pop(f"{side}_fact")} for row in pairs for side in sides]
    neutral = [{"split": split, "prompt": prompt} for split, prompts in spoken.neutral.items() for prompt in prompts]
    for name, rows in (("avoiding", pairs), ("neutral", neutral), ("facts", facts)):
        write_atomic(folder / f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows), overwrite=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=["moe", "dense"], choices=["moe", "dense"])
    parser.add_argument("--steps", type=int, default=Training.steps)
    parser.add_argument("--seed", type=int, default=Training.seed)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    for kind in given.models:
        print(kind, make(given.output, kind, Training(steps=given.steps, seed=given.seed)), flush=True)


if __name__ == "__main__":
    main()
