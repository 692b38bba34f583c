"""Discovery from what an engine gathered, without an engine: rows of a flat batch, parts of processes, refusals."""

import copy
import json
import shutil
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tests.engines import stand_in
from tests.engines.environment import as_interpreter
from tests.subjects import fresh, prompts

import neurodial as nd
from neurodial.activations.collect import Reading
from neurodial.activations.gathering_engine import Gathered, GatheringEngine
from neurodial.discovery import find
from neurodial.engines.job import make_job
from neurodial.engines.pieces import GatheredRows, read_gathered
from neurodial.engines.vllm_engine import VLLM
from neurodial.engines.vllm_gather import REFUSED, runs_of
from neurodial.engines.vllm_range import check_version
from neurodial.engines.vllm_rows import Buffer, Scheduled, module_of, rows_read
from neurodial.engines.vllm_start import refuse_options
from neurodial.errors import ActivationError, EngineError, ModelError, OptionError
from neurodial.model.load import load
from neurodial.progress import silent

CONTRAST = nd.Contrast.of(list(prompts(7)), [f"other words {n}" for n in range(5)])
METHOD = nd.CNA(select=nd.Count(6), universal=nd.UniversalFilter(fraction=0.1, share=0.5))


# ------------------------------------------------------------------------------------------- rows of a flat batch


@given(st.data())
def test_every_place_is_read_once_however_prompts_are_cut(data):
    """Prompts in chunks of any size, in any company: the rows' tokens are those asked for, each once."""
    lengths = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=5))
    read = [data.draw(st.lists(st.integers(0, length - 1), min_size=1, unique=True)) for length in lengths]
    computed, found = [0] * len(lengths), []
    while computed != lengths:
        left = [n for n in range(len(lengths)) if computed[n] < lengths[n]]
        chosen = data.draw(st.permutations(data.draw(st.lists(st.sampled_from(left), min_size=1, unique=True))))
        batch: list[Scheduled] = []
        flat: list[tuple[int | None, int]] = []
        for number in chosen:
            if data.draw(st.booleans()):  # a request of somebody else's
                batch.append(Scheduled(None, 3, 2))
                flat += [(None, 3), (None, 4)]
            count = data.draw(st.integers(1, lengths[number] - computed[number]))
            batch.append(Scheduled(number, computed[number], count))
            flat += [(number, computed[number] + place) for place in range(count)]
            computed[number] += count
        for row in rows_read(batch, read):
            assert flat[row.row] == (row.prompt, row.place)
            found.append((row.prompt, row.place))
    assert sorted(found) == sorted((number, place) for number, places in enumerate(read) for place in places)


def test_runs_hold_every_prompt_once():
    runs = list(runs_of(7, 2**27))
    assert runs == [(0, 2), (2, 4), (4, 6), (6, 7)]


def test_a_mean_over_several_tokens_is_gathered_over_steps():
    values = torch.randn(3, 4)
    buffer = Buffer("0", 0, 4)
    buffer.begin(2)
    for rows, owners, shares in (([0, 1], [1, 0], [0.5, 1.0]), ([2], [1], [0.5])):
        buffer.step.append((values[rows],))
        buffer.keep(torch.tensor(owners), torch.tensor(shares))
    found = buffer.tensors()
    torch.testing.assert_close(found["rows"], torch.stack([values[1], (values[0] + values[2]) / 2]))
    assert found["tokens"].tolist() == [1, 2]


def test_one_token_is_kept_in_the_engines_own_type():
    buffer = Buffer("0", 0, 2)
    buffer.begin(1)
    buffer.step.append((torch.tensor([[0.3, -2.0]], dtype=torch.bfloat16),))
    buffer.keep(torch.tensor([0]), torch.ones(1))
    assert buffer.tensors()["rows"].dtype == torch.bfloat16


def test_modules_are_found_by_block_and_name():
    names = [
        "visual.blocks.1.mlp.down_proj",
        "language_model.model.layers.1.mlp.down_proj",
        "m.layers.11.mlp.down_proj",
    ]
    assert module_of(names, "model.layers.1", "mlp.down_proj") == names[1]
    assert module_of(names, "model.layers.2", "mlp.down_proj") is None
    assert module_of(["model.layers.0.mlp.experts.routed_experts"], "model.layers.0", "mlp.experts") is not None
    with pytest.raises(ValueError, match="could be each of"):
        module_of(["a.layers.1.mlp.fc2", "b.layers.1.mlp.fc2"], "model.layers.1", "mlp.fc2")


# ------------------------------------------------------------------------------------------- the same circuit


class StandIn(GatheringEngine):
    """The stand-in in this process; what it gathered for a job stays."""

    def __init__(self, path, folder):
        self.path, self.folder, self._subject = path, folder, load(path)

    @property
    def subject(self):
        return self._subject

    def gather(self, sequences, reading, *, progress=silent):
        self.job = make_job(self.subject, str(self.path), sequences, reading)
        if not (self.folder / "gathered.json").exists():
            (self.folder / "job.json").write_text(self.job.text)
            stand_in.gathered(self.folder)
        return Gathered(self.rows().read, "float32", {"name": "stand-in"})

    def rows(self):
        return GatheredRows(self.folder, self.subject, self.job, read_gathered(self.folder, self.job))

    def read(self):
        self.rows().read(self.subject, list(self.job.numbers), Reading(nd.Last()), lambda site, cells, rows: None)

    def change(self, **changes):
        manifest = json.loads((self.folder / "gathered.json").read_text())
        (self.folder / "gathered.json").write_text(json.dumps({**manifest, **changes}))

    @property
    def pieces(self):
        return json.loads((self.folder / "gathered.json").read_text())["pieces"]


@cache
def stored(family):
    """A folder with a tiny model, and what the stand-in gathered of it."""
    folder = Path(tempfile.mkdtemp())
    subject = fresh(family)
    subject.model.save_pretrained(folder / "model")
    subject.tokenizer.save_pretrained(folder / "model")
    (folder / "gathered").mkdir()
    engine = StandIn(folder / "model", folder / "gathered")
    nd.discover(engine, CONTRAST, method=METHOD)
    return engine


@pytest.fixture(scope="module")
def model():
    return stored("llama").path


@pytest.fixture
def engine(tmp_path):
    return copied("llama", tmp_path)


def copied(family, folder):
    """What was gathered of it, to be damaged."""
    engine = copy.copy(stored(family))
    engine.folder = shutil.copytree(engine.folder, folder / "copy")
    return engine


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The stand-in, as an interpreter."""
    return as_interpreter(tmp_path_factory.mktemp("python") / "python")


@pytest.mark.parametrize("family", ["llama", "qwen2_moe"])
@pytest.mark.parametrize("score", ["delta", "standardised", "auroc"])
def test_the_circuit_is_the_one_found_in_transformers(family, score):
    """Dense, shared and routed neurons: choice, stability, filter, visits; scores to the order of sums alone."""
    method = replace(METHOD, score=score)
    engine = stored(family)
    there, here = find(engine, CONTRAST, method=method), find(engine.subject, CONTRAST, method=method)
    assert there.circuit.neurons == here.circuit.neurons
    assert there.circuit.stability == here.circuit.stability
    assert [row.visits for row in there.circuit] == [row.visits for row in here.circuit]
    assert there.circuit.origin.universal == here.circuit.origin.universal
    assert there.circuit.origin.model == here.circuit.origin.model
    torch.testing.assert_close(there.scores.flat(), here.scores.flat(), atol=1e-6, rtol=1e-5)
    assert (there.circuit.origin.engine, here.circuit.origin.engine) == ({"name": "stand-in"}, None)


@pytest.mark.timeout(300)  # three processes of the stand-in
def test_a_job_runs_in_the_engines_own_environment_and_once(model, python, tmp_path, monkeypatch):
    """Python and its options reach it; the circuit's file says what ran; the same job is not run again."""
    engine = VLLM(model, ("--x", "1"), python, tmp_path)
    assert all(parameter.is_meta for parameter in engine.subject.model.parameters())  # on the disk
    first = nd.discover(engine, CONTRAST, method=METHOD)
    assert first.neurons == nd.discover(stored("llama").subject, CONTRAST, method=METHOD).neurons
    assert first.origin.model == load(model).identity
    (job,) = tmp_path.glob("vllm-*")
    assert json.loads((job / "options.json").read_text()) == ["--x", "1"]
    again = nd.Circuit.read(first.write(tmp_path / "a.circuit.json"))
    assert again.origin.engine == {"name": "vllm", "version": "0.32.0", "tensor_parallel": 2, "options": ["--x", "1"]}
    monkeypatch.setenv("STAND_IN", "dies")
    assert nd.discover(engine, CONTRAST, method=METHOD).neurons == first.neurons
    with pytest.raises(EngineError, match=r"ended with 1: .*Worker failed"):
        nd.discover(engine, CONTRAST, method=nd.CNA(system="Be brief.", universal=None))
    monkeypatch.setenv("STAND_IN", "refuses")
    with pytest.raises(EngineError, match=r"It is wrong\. Wanted: right"):
        nd.discover(engine, CONTRAST, method=nd.CNA(system="Be brief.", universal=None))
    with nd.steer(engine.subject, nd.Scale(first)), pytest.raises(EngineError, match="being steered"):
        nd.discover(engine, CONTRAST, method=METHOD)


# ------------------------------------------------------------------------------------------- refusals


def test_parts_that_are_not_whole_are_refused(engine):
    pieces, prompts = engine.pieces, len(engine.job.read)
    engine.read()
    engine.change(pieces=pieces[1:])
    with pytest.raises(EngineError, match="Of the 24 neurons of layer 0 the engine gave 12 to 24"):
        engine.rows()
    engine.change(pieces=[*pieces, {**pieces[0], "rank": 5}])
    with pytest.raises(EngineError, match=r"gave 0 to 12 \(process 0\), 12 to 24 \(process 1\), 0 to 12 \(process 5\)"):
        engine.rows()
    last = max(piece["last"] for piece in pieces)
    engine.change(pieces=[piece for piece in pieces if piece["last"] != last])
    with pytest.raises(EngineError, match=f"each of {prompts} prompts once"):
        engine.rows()
    engine.change(pieces=[{**piece, "last": last} for piece in pieces])
    with pytest.raises(EngineError, match=f"each of {prompts} prompts once"):
        engine.rows()


def test_a_prompt_that_was_seen_twice_or_never_is_refused(engine):
    file = engine.folder / engine.pieces[0]["file"]
    tensors = load_file(file)
    for count in (0, 2):
        tensors["tokens"][1] = count
        save_file(tensors, file)
        with pytest.raises(EngineError, match=f"Process 0 saw {count} tokens of prompt 1 at layer 0"):
            engine.read()


def test_an_expert_that_saw_a_token_twice_is_refused(tmp_path):
    engine = copied("qwen2_moe", tmp_path)
    piece = next(piece for piece in engine.pieces if piece["experts"])
    tensors = load_file(engine.folder / piece["file"])
    save_file(tensors | {name: torch.cat([tensors[name], tensors[name][:1]]) for name in ("rows", "prompt", "expert")},
              engine.folder / piece["file"])  # fmt: skip
    with pytest.raises(EngineError, match=f"came to .* experts of layer {piece['site'].split('.')[0]}"):
        engine.read()
    engine.change(pieces=[{**each, "experts": each["experts"] and each["experts"][1:]} for each in engine.pieces])
    with pytest.raises(EngineError, match="expert 0 of layer 0 the engine gave none"):
        engine.rows()


def test_numbers_that_are_not_finite_are_refused(engine):
    file = engine.folder / engine.pieces[0]["file"]
    tensors = load_file(file)
    tensors["rows"][0, 0] = float("inf")
    save_file(tensors, file)
    with pytest.raises(ActivationError, match="Layer 0 gives NaN or infinite"):
        engine.read()


def test_files_of_another_job_or_format_are_refused(engine):
    engine.change(version=9)
    with pytest.raises(EngineError, match="version 9"):
        engine.rows()
    engine.change(version=1, job="0" * 64)
    with pytest.raises(EngineError, match="gathered for another job"):
        engine.rows()
    engine.change(job=engine.job.digest)
    (engine.folder / engine.pieces[0]["file"]).write_bytes(b"cut off")
    with pytest.raises(EngineError, match="is damaged"):
        engine.read()
    (engine.folder / "gathered.json").write_text("{")
    with pytest.raises(EngineError, match="can't be read"):
        engine.rows()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"data_parallel_size": 2}, "data parallelism"),
        ({"speculative_config": {"method": "ngram"}}, "speculative decoding"),
        ({"enable_lora": True}, "LoRA beside it"),
        ({"enable_dbo": True}, "dual batches"),
        ({"decode_context_parallel_size": 2}, "context parallelism"),
        ({"worker_extension_cls": "mine.Extension"}, "extension is ours"),
        ({"model": "another"}, "which the job is for"),
    ],
)
def test_options_that_would_make_it_wrong_are_refused(options, word):
    refuse_options(SimpleNamespace(model="m", tensor_parallel_size=8, data_parallel_size=1), "m", REFUSED, "")
    with pytest.raises(EngineError, match=word):
        refuse_options(SimpleNamespace(**{"model": "m", **options}), "m", REFUSED, "")


@pytest.mark.parametrize("version", ["0.31.9", "0.33.0", "1.0", "0.3.2"])
def test_versions_that_were_not_tested_are_refused(version):
    check_version("0.32.4+cpu")
    with pytest.raises(EngineError, match="neurodial was tested with"):
        check_version(version)


@pytest.mark.parametrize(
    ("has", "word"),
    [({}, "has no vLLM"), ({"vllm": "0.40.0"}, "vLLM is 0.40.0"), ({"vllm": "0.32.0"}, r"neurodial \(none\)")],
)
def test_an_environment_that_is_not_fit_is_refused_before_the_model_is_read(model, python, monkeypatch, has, word):
    monkeypatch.setenv("STAND_IN_HAS", json.dumps(has))
    with pytest.raises(EngineError, match=word):
        nd.discover(VLLM(model, (), python), CONTRAST)


def test_no_interpreter_and_no_model_of_the_right_kind_are_refused(model, tmp_path):
    with pytest.raises(EngineError, match="no Python that runs"):
        nd.discover(VLLM(model, (), tmp_path / "nothing"), CONTRAST)
    (tmp_path / "some.gguf").touch()
    for name in ("demo", tmp_path / "some.gguf"):
        with pytest.raises(ModelError, match="is a GGUF file"):
            nd.discover(VLLM(name), CONTRAST)
    with pytest.raises(ModelError, match="There is no model"):
        nd.discover(VLLM(tmp_path / "nothing", (), tmp_path / "nothing"), CONTRAST)


def test_methods_that_need_gradients_say_the_way_round(model, python):
    with pytest.raises(OptionError, match=r"Method dose needs gradients.*--load-in 4bit"):
        nd.discover(VLLM(model, (), python), CONTRAST, method=nd.Dose())
