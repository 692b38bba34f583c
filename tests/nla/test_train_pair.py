"""Training a pair: losses fall, a run that was stopped ends as one that was not, and the report has its controls."""

import json

import pytest
import torch
from safetensors.torch import load_file
from tests.nla.pairs import run
from tests.subjects import differences, fresh, snapshot

from neurodial.cli.main import main
from neurodial.errors import FileError, OptionError, PromptError, VerbaliserError
from neurodial.model.hooks import on_embedding
from neurodial.nla import training_loop as fitting
from neurodial.nla.activation_texts import read_activation_texts
from neurodial.nla.injection import Injection
from neurodial.nla.learners import learn_to_say
from neurodial.nla.pair import read_pair
from neurodial.nla.train import train_pair
from neurodial.nla.train_options import Training

FEW = Training(
    layer=1, per_text=2, skip=2, before=6, after=1, neighbour=4, steps=12, batch_size=4, rate=1e-2, rank=4, judged=4,
    save_every=4,
)  # fmt: skip
TEXTS = [
    f"{animal} number {number} is {'big' if number % 2 else 'small'}"
    for animal in ("cat", "dog", "owl")
    for number in range(6)
]


def base(family="llama"):
    return fresh(family, num_hidden_layers=3)


class StoppedError(Exception):
    pass


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    subject, before = base(), None
    before = snapshot(subject.model)
    made = train_pair(subject, TEXTS, tmp_path_factory.mktemp("nla") / "pair", options=FEW)
    assert differences(before, snapshot(subject.model)) == []
    return made


def report_of(made):
    return json.loads((made.verbaliser.parent / "report.json").read_text(encoding="utf-8"))


def test_losses_fall_and_controls_are_computed(trained):
    value = report_of(trained)
    for losses in value["losses"].values():
        assert len(losses) == FEW.steps
        assert sum(losses[-3:]) < sum(losses[:3])
    scores = value["scores"]["scores"]
    assert list(scores) == ["said", "said_shuffled", "text", "text_near", "text_shuffled"]
    assert {score["n"] for score in scores.values()} == {4}
    assert scores["text"] != scores["text_shuffled"]
    assert value["activations"]["held_out"] == 4
    samples = value["scores"]["samples"]
    assert [sample["explained"] for sample in samples] == sorted((s["explained"] for s in samples), reverse=True)
    assert sum(sample["explained"] for sample in samples) / 4 == pytest.approx(scores["said"]["explained"])
    assert "without reinforcement" in value["stages"]


def test_what_was_trained_is_a_pair_for_its_base_alone(trained):
    pair = read_pair(trained.verbaliser, trained.reconstructor)
    assert (pair.layer, pair.width) == (1, 16)
    pair.check_subject(base())
    with pytest.raises(VerbaliserError, match="other weights"):
        pair.check_subject(fresh("llama", seed=5, num_hidden_layers=3))
    tokens, place = pair.verbaliser().prompt
    assert tokens[place] == pair.speaker.injection.token
    assert not (trained.verbaliser.parent.parent / "pair.partial").exists()


def test_a_stopped_run_ends_as_a_straight_one(trained, tmp_path, monkeypatch):
    """Stopped in the middle of the verbaliser's steps, after a state was kept and before the next one."""
    made = []
    straight = fitting.rows_of_step

    def stop(step, count, options):
        made.append(step)
        if len(made) == FEW.steps + 7:
            raise StoppedError
        return straight(step, count, options)

    monkeypatch.setattr(fitting, "rows_of_step", stop)
    with pytest.raises(StoppedError):
        train_pair(base(), TEXTS, tmp_path / "pair", options=FEW)
    assert not (tmp_path / "pair").exists()

    def count(*given):
        made.append(-1)
        return straight(*given)

    monkeypatch.setattr(fitting, "rows_of_step", count)
    again = train_pair(base(), TEXTS, tmp_path / "pair", options=FEW)
    assert made.count(-1) == FEW.steps - 4  # four steps of the verbaliser were kept, and all of the reconstructor's
    for part in ("verbaliser", "reconstructor"):
        first, second = (load_file(getattr(run, part) / "model.safetensors") for run in (trained, again))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)
    assert report_of(again)["scores"] == report_of(trained)["scores"]


def test_a_state_of_another_run_is_refused(tmp_path):
    (tmp_path / "pair.partial").mkdir()
    path = tmp_path / "pair.partial" / "reconstructor.safetensors"
    path.write_bytes(b"damaged")
    with pytest.raises(FileError, match="damaged"):
        train_pair(base(), TEXTS, tmp_path / "pair", options=FEW)
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, path, {"digest": "other", "losses": "[]"})
    with pytest.raises(FileError, match="another model, other texts or other options"):
        train_pair(base(), TEXTS, tmp_path / "pair", options=FEW)
    assert not (tmp_path / "pair").exists()


def test_bad_input_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(PromptError, match="0 different texts"):
        train_pair(base(), [], tmp_path / "pair", options=FEW)
    with pytest.raises(PromptError, match="1 different texts"):
        train_pair(base(), ["same", "same", " "], tmp_path / "pair", options=FEW)
    with pytest.raises(OptionError, match="layer is 7"):
        train_pair(base(), TEXTS, tmp_path / "pair", options=Training(layer=7))
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "file").touch()
    with pytest.raises(FileError, match="was not made by neurodial"):
        train_pair(base(), TEXTS, tmp_path / "own", options=FEW, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own"]


@pytest.mark.parametrize("fields", [{"steps": 0}, {"held_out": 1.0}, {"rate": 0.0}, {"layer": -1}, {"rank": 0}])
def test_training_options_that_make_no_sense_are_refused(fields):
    with pytest.raises(OptionError, match=next(iter(fields))):
        Training(**fields)


def test_texts_stand_around_their_token_and_on_one_side():
    subject = base()
    split = read_activation_texts(subject, TEXTS, 1, FEW)
    for text, near in zip(split.train.around, split.train.near, strict=True):
        assert any(text in whole for whole in TEXTS)
        assert any(near in whole for whole in TEXTS)
    assert len(split.train) == 2 * (len(TEXTS) - 2)
    chat = read_activation_texts(subject, TEXTS, 1, Training(layer=1, chat=True, per_text=1))
    assert len(chat.held_out) == 2


def test_the_command_trains_and_says_what_comes_next(tmp_path, capsys):
    subject = base("qwen2")
    subject.model.save_pretrained(tmp_path / "base")
    subject.tokenizer.save_pretrained(tmp_path / "base")
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    few = ["--steps", "2", "--batch-size", "2", "--per-text", "1", "--rank", "2", "--judged", "2", "--before", "3"]
    command = ["nla", "train", str(tmp_path / "base"), "--texts", str(tmp_path / "texts.txt"), *few]
    run([*command, "-o", str(tmp_path / "pair")])
    shown = capsys.readouterr()
    assert "what it says of another activation" in shown.out
    assert "neurodial words" in shown.err
    with pytest.raises(SystemExit):
        main([*command, "-o", str(tmp_path / "pair")])
    assert "exists already" in capsys.readouterr().err


def test_what_rows_share_is_read_once_and_changes_neither_loss_nor_gradients():
    """Against whole prompts, one row at a time, through the model's own logits."""
    subject = base()
    texts = read_activation_texts(subject, TEXTS, 1, FEW).train
    token = subject.encode("@", special=False)[0]
    template = "Say what this is: <{injection_char}>"
    [prompt] = subject.render([template.replace("{injection_char}", "@")])
    place = prompt.index(token)
    injection = Injection("@", token, prompt[place - 1], prompt[place + 1], 3.0, template)
    learner = learn_to_say(subject, texts, injection, FEW)
    assert learner.subject.layout.shares_prefixes
    generator = torch.Generator().manual_seed(0)
    for value in learner.parameters.values():  # the LoRA begins at nothing, where half of the gradients are 0
        value.data.copy_(torch.randn(value.shape, generator=generator) / 10)
    rows = [0, 3, 5]
    loss = learner.loss(rows)
    losses, count = [], 0
    for row in rows:
        answer = (*subject.encode(f"<explanation>{texts.around[row]}</explanation>", special=False), 257)
        scaled = 3.0 * texts.vectors[row] / texts.vectors[row].norm()

        def put(hidden, scaled=scaled):
            return torch.cat([hidden[:, :place], scaled[None, None], hidden[:, place + 1 :]], dim=1)

        handle = on_embedding(learner.subject, put)
        logits = learner.subject.model(torch.tensor([[*prompt, *answer]]), use_cache=False).logits[0]
        handle.remove()
        foretold = logits[len(prompt) - 1 : -1]
        losses.append(torch.nn.functional.cross_entropy(foretold, torch.tensor(answer), reduction="sum"))
        count += len(answer)
    wanted = torch.stack(losses).sum() / count
    torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=1e-6)  # float32, some hundred sums in another order
    parameters = list(learner.parameters.values())
    found, true = torch.autograd.grad(loss, parameters), torch.autograd.grad(wanted, parameters)
    for one, other in zip(found, true, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
