"""`neurodial nla train`: a verbaliser and a reconstructor for a model that has none.

1. Activations of one layer at some tokens of every text, and the text around each token.
2. The reconstructor learns to rebuild the activation from that text, the verbaliser to say the text for the activation.
3. On request the verbaliser is reinforced: words from which the reconstructor rebuilds better become likelier.
4. Both are written in the form of the public pairs, loaded from there, and judged on texts that were not learned from.

That is the published recipe (Transformer Circuits 2026) with one difference: its texts are summaries by a large model,
ours the words of the text itself. Its reinforcement about doubles the variance explained; ours is its simplest form.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neurodial.errors import VerbaliserError
from neurodial.files import new_folder, refuse_folder, refuse_full, write_atomic
from neurodial.model.load import load
from neurodial.model.subject import Subject
from neurodial.nla.activation_texts import SplitTexts, layer_of, read_activation_texts
from neurodial.nla.injection import Injection
from neurodial.nla.judge_pair import PairReport, judge_pair
from neurodial.nla.learners import learn_to_rebuild, learn_to_say
from neurodial.nla.meta import FILE, KIND
from neurodial.nla.pair import read_pair
from neurodial.nla.reconstructor import HEAD_FILE, Reconstructor, read_head
from neurodial.nla.reinforce import reward_loss
from neurodial.nla.train_options import Training
from neurodial.nla.training_loop import fit
from neurodial.nla.verbaliser import LiveVerbaliser
from neurodial.progress import Progress, silent
from neurodial.provenance import canonical_json, now, sha256, versions

REPORT = "report.json"
SAY_TEMPLATE = (
    "Which words was a language model reading when it held this vector inside? "
    "Answer between <explanation> and </explanation>. <concept>{injection_char}</concept>"
)
REBUILD_TEMPLATE = "Text: {explanation}"
"""It ends where the text ends: there the base's own blocks hold the activation of the text's last token already."""
_MARKERS = "㈎㈜㊗◊§¤¶@#~^`"


@dataclass(frozen=True)
class TrainedPair:
    """A pair that was trained.

    Attributes:
        verbaliser: its folder.
        reconstructor: its folder.
        report: how well it does on held-out texts.
    """

    verbaliser: Path
    reconstructor: Path
    report: PairReport


def train_pair(
    subject: Subject,
    texts: Sequence[str],
    output: Path | str,
    *,
    options: Training | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> TrainedPair:
    """Train a verbaliser and a reconstructor. Where it was stopped, the same call goes on.

    The state is kept in a folder beside `output` whose name ends in `.partial`; `output` appears when all is done.

    Args:
        subject: the model; it is left as it is.
        texts: what it reads.
        output: the folder for both models and report.json.
        options: how it is trained.
        overwrite: replace a pair that stands there.
        progress: shown while it runs.

    Raises:
        PromptError: there are too few texts.
        OptionError: the model has no such layer.
        VerbaliserError: no marker suits the tokenizer.
        FileError: the folder can't be written, or the kept state is of another run.

    Example:
        >>> import tempfile
        >>> import neurodial as nd
        >>> from neurodial.model.tiny import tiny_subject
        >>> texts, few = [f"text number {n}" for n in range(6)], nd.Training(layer=0, steps=1, batch_size=1, judged=2)
        >>> made = nd.train_pair(tiny_subject(), texts, f"{tempfile.mkdtemp()}/pair", options=few)
        >>> list(made.report.scores)
        ['said', 'said_shuffled', 'text', 'text_near', 'text_shuffled']
    """
    options = options or Training()
    target = Path(output)
    refuse_folder(target, overwrite=overwrite, mark=REPORT)
    layer = layer_of(subject, options)
    injection = _injection(subject, 1.0)  # a tokenizer without a marker is refused before long work
    split = read_activation_texts(subject, texts, layer, options, progress=progress)
    injection = replace(injection, scale=_rounded_up(_mean_length(split.train.vectors)))
    partial = target.with_name(f"{target.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    refuse_full(partial, 3 * sum(value.numel() * value.element_size() for value in subject.model.parameters()))
    digest = sha256(canonical_json([subject.identity.digest, layer, split.digest, _asked(options), versions()]))
    losses: dict[str, list[float]] = {}
    with new_folder(target, overwrite=overwrite, mark=REPORT) as folder:
        metas = _metas(subject, injection, layer)
        learner, head = learn_to_rebuild(subject, split.train, layer, REBUILD_TEMPLATE, options)
        kept = (partial / "reconstructor.safetensors", digest)
        losses["reconstructor"] = fit(
            learner.parameters, learner.loss, len(split.train), options, kept,
            progress=progress, name="training the reconstructor",
        )  # fmt: skip
        _write(folder / "reconstructor", learner.merged(), subject, metas["reconstructor"], head.detach())
        del learner, head
        speaker = learn_to_say(subject, split.train, injection, options)
        kept = (partial / "verbaliser.safetensors", digest)
        losses["verbaliser"] = fit(
            speaker.parameters, speaker.loss, len(split.train), options, kept,
            progress=progress, name="training the verbaliser",
        )  # fmt: skip
        if options.reinforce:
            stored = load(folder / "reconstructor", may_lack_head=True, device=subject.device)
            map_back = read_head(folder / "reconstructor", subject.hidden_size).to(stored.device, stored.dtype)
            rebuilder = Reconstructor(stored, map_back, REBUILD_TEMPLATE)
            rewarding = reward_loss(LiveVerbaliser(speaker.subject, injection), rebuilder, split.train.vectors, options)
            losses["reinforcement"] = fit(
                speaker.parameters, rewarding, len(split.train), replace(options, steps=options.reinforce),
                (partial / "reinforced.safetensors", digest), progress=progress, name="reinforcing the verbaliser",
            )  # fmt: skip
            del rebuilder, stored
        _write(folder / "verbaliser", speaker.merged(), subject, metas["verbaliser"])
        del speaker
        pair = read_pair(folder / "verbaliser", folder / "reconstructor", device=subject.device)
        report = judge_pair(pair, split, options, progress=progress)
        _write_report(folder / REPORT, report, (subject, layer, options, split), losses)
    shutil.rmtree(partial, ignore_errors=True)
    return TrainedPair(target / "verbaliser", target / "reconstructor", report)


def _asked(options: Training) -> dict[str, Any]:
    """The options that the result depends on."""
    return {name: value for name, value in asdict(options).items() if name not in {"save_every", "judged"}}


def _injection(subject: Subject, scale: float) -> Injection:
    """A marker that is one token, between two others that are always the same."""
    for char in _MARKERS:
        tokens = subject.encode(char, special=False)
        if len(tokens) != 1:
            continue
        [prompt] = subject.render([SAY_TEMPLATE.replace("{injection_char}", char)])
        places = [place for place, token in enumerate(prompt) if token == tokens[0]]
        if len(places) == 1 and 0 < places[0] < len(prompt) - 1:
            left, _, right = prompt[places[0] - 1 : places[0] + 2]
            return Injection(char, tokens[0], left, right, scale, SAY_TEMPLATE)
    raise VerbaliserError(
        f"No marker is one token of {subject.label}'s tokenizer.", wanted=f"one of {' '.join(_MARKERS)}"
    )


def _mean_length(vectors: Float[Tensor, "vector hidden"]) -> float:
    return float(torch.linalg.vector_norm(vectors.float(), dim=1).mean())


def _rounded_up(value: float) -> float:
    """The next number of two digits, as the public pairs have it.

    Example:
        >>> _rounded_up(123.4), _rounded_up(0.0101)
        (130.0, 0.011)
    """
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / step - 1e-9) * step:.6g}")


def _metas(subject: Subject, injection: Injection, layer: int) -> dict[str, dict[str, Any]]:
    made_on = subject.identity
    base = {"label": made_on.label, "digest": made_on.digest, "adapter_digest": made_on.adapter_digest}
    common = {"kind": KIND, "d_model": subject.hidden_size, "extraction_layer_index": layer, "base": base}
    return {
        "verbaliser": {
            **common, "role": "av", "extraction": {"injection_scale": injection.scale, "layer_index": layer},
            "tokens": {
                "injection_char": injection.char, "injection_token_id": injection.token,
                "injection_left_neighbor_id": injection.left, "injection_right_neighbor_id": injection.right,
            },
            "prompt_templates": {"av": injection.template},
        },
        "reconstructor": {
            **common, "role": "ar", "extraction": {"mse_scale": math.sqrt(subject.hidden_size), "layer_index": layer},
            "ar": {"num_hidden_layers": layer}, "prompt_templates": {"ar": REBUILD_TEMPLATE},
        },
    }  # fmt: skip


def _write(folder: Path, model: Any, subject: Subject, meta: Mapping[str, Any], head: Tensor | None = None) -> None:
    import yaml
    from safetensors.torch import save

    from neurodial.model.quiet import quiet_bars

    with quiet_bars():
        model.save_pretrained(folder)
    subject.tokenizer.save_pretrained(folder)
    write_atomic(folder / FILE, yaml.safe_dump(dict(meta), allow_unicode=True, sort_keys=False))
    if head is not None:
        write_atomic(folder / HEAD_FILE, save({"weight": head.float().cpu().contiguous().clone()}))


def _write_report(
    path: Path,
    report: PairReport,
    about: tuple[Subject, int, Training, SplitTexts],
    losses: Mapping[str, Sequence[float]],
) -> None:
    subject, layer, options, split = about
    value = {
        "format": "neurodial.nla-report",
        "version": 1,
        "model": asdict(subject.identity),
        "layer": layer,
        "options": asdict(options),
        "texts": split.digest,
        "activations": {"train": len(split.train), "held_out": len(split.held_out)},
        "stages": "supervised, then reinforced" if options.reinforce else "supervised alone, without reinforcement",
        "scores": report.as_json(),
        "losses": {name: [float(f"{loss:.6g}") for loss in values] for name, values in losses.items()},
        "versions": versions(),
        "created": now(),
    }
    write_atomic(path, json.dumps(value, ensure_ascii=False, allow_nan=False, indent=1) + "\n")
