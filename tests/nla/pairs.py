"""Tiny pairs in the format of the public ones: one of random weights, and one that is planted to be right.

The planted one knows two vectors: its verbaliser is fitted to say one word for each, and its reconstructor's map is
solved for, so that each word gives its vector back.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml
from safetensors.torch import save_file

from neurodial.cli.main import main
from neurodial.model.hooks import on_embedding
from neurodial.model.shortened import first_blocks
from neurodial.model.subject import Subject
from neurodial.model.tiny import tiny_model, tiny_tokenizer
from neurodial.nla.meta import NlaMeta, read_meta
from neurodial.nla.reconstructor import Reconstructor, last_states

WORDS = ("pears", "rivers")
LAYER, WIDTH = 1, 16
AV = "Words: <concept>{injection_char}</concept>"
AR = "Summary: <text>{explanation}</text> <summary>"
MARK = "@"


class PairFolders(NamedTuple):
    verbaliser: Path
    reconstructor: Path
    vectors: torch.Tensor


def meta_of(part: str, tokenizer: Any, **changes: Any) -> dict[str, Any]:
    """A meta file's content for the tiny tokenizer."""
    before, token, after = (tokenizer(text, add_special_tokens=False)["input_ids"][0] for text in (">", MARK, "<"))
    value: dict[str, Any] = {"kind": "nla_model", "role": part, "d_model": WIDTH}
    if part == "av":
        value |= {
            "extraction_layer_index": LAYER,
            "extraction": {"injection_scale": 4.0},
            "tokens": {
                "injection_char": MARK,
                "injection_token_id": token,
                "injection_left_neighbor_id": before,
                "injection_right_neighbor_id": after,
            },
            "prompt_templates": {"av": AV},
        }
    else:
        value |= {"ar": {"num_hidden_layers": LAYER}, "prompt_templates": {"ar": AR}}
    return {**value, **changes}


def write_part(folder: Path, model: Any, tokenizer: Any, meta: dict[str, Any]) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "nla_meta.yaml").write_text(yaml.safe_dump(meta), encoding="utf-8")
    return folder


def write_pair(folder: Path, model_type: str = "llama", *, planted: bool = False, steps: int = 150) -> PairFolders:
    """Both folders of a pair for a tiny model of three blocks."""
    tokenizer = tiny_tokenizer()
    speaker = tiny_model(model_type, seed=1, num_hidden_layers=3)
    rebuilder = first_blocks(tiny_model(model_type, seed=2, num_hidden_layers=3), LAYER + 1)
    vectors = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(3))
    av, ar = (meta_of(role, tokenizer) for role in ("av", "ar"))
    if planted:
        write_part(folder / "av", speaker, tokenizer, av)
        fit(speaker, tokenizer, read_meta(folder / "av", "verbaliser"), vectors, steps)
    write_part(folder / "av", speaker, tokenizer, av)
    write_part(folder / "ar", rebuilder, tokenizer, ar)
    subject = Subject.of(rebuilder, tokenizer, label="tiny")
    head = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(4)) if not planted else None
    if head is None:
        tokens = [Reconstructor(subject, torch.eye(WIDTH), AR).tokens(word) for word in WORDS]
        states = torch.cat([last_states(subject, torch.tensor([row]), [len(row)]).detach() for row in tokens])
        head = (torch.linalg.pinv(states.double()) @ vectors.double()).T.float().contiguous()
    save_file({"weight": head}, folder / "ar" / "value_head.safetensors")
    return PairFolders(folder / "av", folder / "ar", vectors)


def fit(model: Any, tokenizer: Any, meta: NlaMeta, vectors: torch.Tensor, steps: int) -> None:
    """Fit a tiny model to say one word for each vector."""
    injection = meta.injection
    subject = Subject.of(model, tokenizer, label="tiny")
    [prompt] = subject.render([injection.prompt])
    place = injection.place(prompt, tokenizer, "tiny")
    answers = [[*subject.encode(f"<explanation>{w}</explanation>", special=False), 257] for w in WORDS]
    longest = max(map(len, answers))
    rows = torch.tensor([[*prompt, *row, *[258] * (longest - len(row))] for row in answers])
    labels = torch.tensor([[-100] * len(prompt) + row + [-100] * (longest - len(row)) for row in answers])
    scaled = injection.scaled(vectors)

    def put(hidden: torch.Tensor) -> torch.Tensor:
        return torch.cat([hidden[:, :place], scaled[:, None], hidden[:, place + 1 :]], dim=1)

    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    handle = on_embedding(subject, put)
    for _ in range(steps):
        optimizer.zero_grad()
        model(rows, labels=labels).loss.backward()
        optimizer.step()
    handle.remove()
    model.eval()
    for parameter in model.parameters():
        parameter.grad = None


def run(words: list[str]) -> None:
    """Type a command that ends well."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0
