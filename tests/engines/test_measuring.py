"""Measuring where an engine runs the model, without an engine: the stand-in's report against our hooks', refusals."""

import hashlib
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.engines.environment import as_interpreter
from tests.subjects import fresh

import neurodial as nd
from neurodial.circuit.circuit import Circuit, Origin, Row
from neurodial.engines.vllm_adapters import Adapters
from neurodial.engines.vllm_engine import VLLM
from neurodial.engines.vllm_measure import REFUSED, divergence
from neurodial.engines.vllm_session import VLLMSession
from neurodial.engines.vllm_start import refuse_options
from neurodial.errors import EngineError, ExportError, MarginError, OptionError
from neurodial.evaluation.choices import AskedChoices, choice_log_probs
from neurodial.evaluation.in_engine import check_in_engine
from neurodial.evaluation.options import HarnessOptions
from neurodial.evaluation.results import plain_values
from neurodial.export.peft_adapter import read_low_rank
from neurodial.generation.running_engine import Continued
from neurodial.margins.find_spans import Spans
from neurodial.margins.margin import Alternatives, AnswerMargin, ClassifierLogit, Openers
from neurodial.margins.measure import measure_margins, opening_probabilities
from neurodial.margins.own_answers import OwnAnswerMargin
from neurodial.margins.span_margin import SpanMargin
from neurodial.model.load import load
from neurodial.prompts.passage import Passage
from neurodial.prompts.prompt import Example

PAIRS = nd.PairSet(
    nd.Behaviour("theft", detector="regex:[a-m]"),
    tuple(
        nd.Contrast.of([f"harm {split} {n}" + " x" * n for n in range(3)], [f"help {split} {n}" for n in range(3)])
        for split in ("a", "b", "c")
    ),
)
OPTIONS = nd.Evaluation(
    decoding=nd.Decoding(max_new_tokens=5), neutral=2, over_refusal=0, perplexity=2, questions=2, seeds=(0,)
)
MARGIN = Openers.of([(40,), (41, 42), (50,)])

NEAR = 1e-5
"""Of a log-probability, in nats: the adapter's product against the hook's, two layers, float32."""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("measured")
    subject = fresh("llama")
    subject.model.save_pretrained(folder / "model")
    subject.tokenizer.save_pretrained(folder / "model")
    as_interpreter(folder / "python")
    return folder / "model"


@pytest.fixture(scope="module")
def here(model):
    return load(model)


@pytest.fixture(scope="module")
def circuit(here):
    rows = [Row(nd.Neuron(layer, None, index), 1.0, dose) for layer, index, dose in ((0, 3, 1.0), (1, 4, 0.5))]
    return Circuit.of(rows, name="mine", origin=Origin(model=here.identity))


def engine_of(model, folder, *options):
    return VLLM(model, options, model.parent / "python", folder)


@pytest.mark.timeout(300)  # a process of the stand-in
def test_the_report_is_that_of_our_hooks_and_is_not_made_twice(model, here, circuit, tmp_path, monkeypatch):
    dials = [nd.Scale(circuit, dial=dial) for dial in (-1.0, 0.5, 30.0)]
    asked = {"against": ("random", "prompt"), "options": OPTIONS, "margin": MARGIN}
    expected = nd.evaluate(here, dials, PAIRS, **asked)
    engine = engine_of(model, tmp_path, "--x", "1")
    report = nd.evaluate(engine, dials, PAIRS, **asked)
    for there, own in zip(report.conditions, expected.conditions, strict=True):
        assert (there.key, there.details) == (own.key, own.details)
        assert there.metrics.keys() == own.metrics.keys() - {"slowdown"}
        for name, estimate in there.metrics.items():
            value = own.metrics[name].value
            assert estimate.value == pytest.approx(value, rel=NEAR, abs=NEAR, nan_ok=True), (there.key, name)
        assert {name: change.is_clear for name, change in there.differences.items()} == {
            name: change.is_clear for name, change in own.differences.items() if name != "slowdown"
        }
    assert report.condition("mine", 30.0).metrics["kl"].value > 100 * NEAR  # else the rest shows nothing
    assert report.provenance["engine"] == {
        "name": "vllm", "version": "0.32.0", "rank": 16, "options": ["--x", "1"],
        "dials": "adapters",
    }  # fmt: skip
    assert sum("vllm 0.32.0 ran the model" in note or "no positive control" in note for note in report.notes) == 2
    monkeypatch.setenv("STAND_IN", "dies")
    again = nd.evaluate(engine, dials, PAIRS, **asked)
    assert plain_values(again.conditions) == plain_values(report.conditions)
    with pytest.raises(EngineError, match=r"ended with 1: .*Worker failed.*vllm.log"):
        nd.evaluate(engine, [nd.Scale(circuit, dial=2.0)], PAIRS, options=OPTIONS)


class Table(VLLMSession):
    """An engine that says what transformers would, in this process."""

    def __init__(self, subject):
        self._subject = subject

    def log_likelihoods(self, rows, under, progress=None):
        assert set(under) <= {None}
        found = []
        for tokens, given_tokens in rows:
            with torch.no_grad():
                table = self._subject.model(torch.tensor([tokens])).logits[0].double().log_softmax(-1)
            found.append(sum(float(table[n - 1, tokens[n]]) for n in range(given_tokens, len(tokens))))
        return found


@pytest.fixture(scope="module")
def there(here):
    return replace(here, engine=Table(here))


@pytest.mark.parametrize(
    "margin",
    [
        MARGIN,
        Alternatives(MARGIN),
        AnswerMargin(per_token=True, fallback=("yes it is", "no")),
        OwnAnswerMargin({"hello": ((72, 101), (73,)), "so long": ((80,), (81, 82, 83))}),
    ],
    ids=["openers", "alternatives", "answer", "own-answers"],
)
def test_margins_need_only_how_likely_answers_are(here, there, margin):
    examples = [Example("Hello"), Example("So long")]
    torch.testing.assert_close(
        torch.tensor(measure_margins(there, margin, examples)),
        torch.tensor(measure_margins(here, margin, examples)),
        atol=NEAR, rtol=NEAR,
    )  # fmt: skip


def test_openings_and_choices_are_as_likely(here, there):
    examples = [Example("Hello"), Example("So long")]
    torch.testing.assert_close(
        opening_probabilities(there, MARGIN, examples), opening_probabilities(here, MARGIN, examples)
    )
    asked = [AskedChoices((256, 40, 41), ((50,), (51, 52)), 0), AskedChoices((256, 40), ((60, 61),), 1)]
    for one, other in zip(choice_log_probs(there, asked), choice_log_probs(here, asked), strict=True):
        assert one == pytest.approx(other, abs=NEAR)


def test_margins_that_read_more_say_so(here, there):
    with pytest.raises(MarginError, match="ClassifierLogit reads more than how likely"):
        measure_margins(there, ClassifierLogit(lambda hidden: hidden.sum()), [Example("Hello")])
    contrast = nd.Contrast.of(["Hello"], ["So long"])
    answers = nd.generate(here, ["Hello", "So long"], decoding=nd.Decoding(max_new_tokens=3))
    bare = SpanMargin(Spans(((40,),), ("(",), 1.0, 0.0), {}, 3)
    assert bare.reading(here, [contrast], answers).answers
    with pytest.raises(MarginError, match="SpanMargin reads more than how likely"):
        bare.reading(there, [contrast], answers)


@given(st.integers(1, 4), st.integers(2, 6), st.integers(0, 2**31))
def test_divergence_is_the_textbook_one_and_never_negative(places, words, seed):
    generator = torch.Generator().manual_seed(seed)
    plain, steered = (
        torch.randn(places, words, generator=generator, dtype=torch.float64).log_softmax(-1) for _ in range(2)
    )
    expected = torch.distributions.kl_divergence(*(torch.distributions.Categorical(logits=p) for p in (plain, steered)))
    torch.testing.assert_close(divergence(plain, steered), expected)
    assert bool((divergence(plain, steered) >= -1e-15).all())
    assert bool((divergence(plain, plain) == 0).all())


# ------------------------------------------------------------------------------------------- adapters


def test_each_dial_is_an_adapter_beside_the_same_matrices(here, circuit, tmp_path):
    adapters = Adapters(here, tmp_path)
    names = [adapters.name(nd.Scale(circuit, dial=dial)) for dial in (0.5, -1.0, 0.5)]
    assert names[0] == names[2] != names[1]
    assert len(list((tmp_path / "adapters").rglob("adapter_model.safetensors"))) == 3  # one, and two links
    for name, dial in zip(names, (0.5, -1.0), strict=False):
        for site, (down, up) in read_low_rank(here, tmp_path / name).items():
            column = {0: 3, 1: 4}[site.layer]
            dose = {0: 1.0, 1: 0.5}[site.layer]
            expected = torch.zeros_like(here.down_weight(site))
            expected[:, column] = -dial * dose * here.down_weight(site)[:, column]
            torch.testing.assert_close(up @ down, expected)
    both = nd.Together((nd.Scale(circuit, dial=1.0), nd.Scale(circuit, dial=2.0)))
    assert adapters.name(both) not in names


@pytest.mark.timeout(300)  # two processes of the stand-in
def test_what_no_adapter_carries_goes_into_the_layers(model, tmp_path):
    """A family that vLLM runs no LoRA on: one dial that was announced, then another, for which vLLM starts anew."""
    subject = fresh("gpt2")
    subject.model.save_pretrained(tmp_path / "model")
    subject.tokenizer.save_pretrained(tmp_path / "model")
    here = load(tmp_path / "model")
    circuit = Circuit.of([Row(nd.Neuron(0, None, 3), 1.0, 1.0), Row(nd.Neuron(1, None, 4), 1.0, 0.5)])
    whole = nd.Scale(circuit, dial=1 / 3)  # of no three decimals
    rows, under = [Continued((5, 6, 7, 8), 2)] * 3, [None, whole, nd.Scale(circuit, dial=30.0)]
    with VLLM(tmp_path / "model", (), model.parent / "python", tmp_path / "kept").running() as there:
        engine = there.engine
        engine.accept([whole])
        found = engine.log_likelihoods(rows[:2], under[:2])
        assert engine.record["dials"] == "in the layers"
        found += engine.log_likelihoods(rows[2:], under[2:])
        with pytest.raises(ExportError, match="AddVector changes activations"):
            engine.accept([nd.AddVector(torch.ones(here.hidden_size), layer=0)])
    wanted = []
    for intervention in under:
        with nd.steer(here, *([] if intervention is None else [intervention])), torch.no_grad():
            table = here.model(torch.tensor([[5, 6, 7, 8]])).logits[0].double().log_softmax(-1)
        wanted.append(sum(float(table[place - 1, token]) for place, token in ((2, 7), (3, 8))))
    assert found == pytest.approx(wanted, abs=NEAR)
    assert len({round(value, 3) for value in wanted}) == 3


def test_what_no_adapter_does_is_refused(here, circuit, tmp_path):
    adapters = Adapters(here, tmp_path)
    with pytest.raises(ExportError, match="AddVector changes activations"):
        adapters.name(nd.AddVector(torch.ones(here.hidden_size), layer=0))
    with pytest.raises(ExportError, match="prompt tokens only"):
        adapters.name(nd.Scale(circuit, when="prompt"))
    without = Adapters(fresh("gpt2"), tmp_path)
    with pytest.raises(ExportError, match="vLLM can't take this circuit"):
        without.name(nd.Scale(Circuit.of([Row(nd.Neuron(0, None, 3), 1.0, 1.0)])))


# ------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"against": ["random", "caa"]}, "Method caa reads or changes"),
        ({"against": ["cna"]}, "Method cna reads or changes"),
        ({"margin": "spans"}, "margin spans reads"),
        ({"harness": HarnessOptions(("arc_easy",))}, "lm_eval --model vllm"),
        ({"decoding": nd.Decoding(batch_size=8)}, "--max-num-seqs"),
        ({"when": "generated"}, "acts on the generated tokens alone"),
        ({"neuron": nd.Neuron(0, 1, 3)}, "neurons in routed experts"),
        ({"with": nd.Pin({nd.Neuron(0, None, 3): 1.0})}, "Pin changes activations"),
    ],
)
def test_what_an_engine_does_not_give_is_refused_by_name(model, change, message):
    """Before the model is read, and before its environment is looked for."""
    circuit = Circuit.of([Row(change.pop("neuron", nd.Neuron(0, None, 3)), 1.0, 1.0)])
    steered = [change.pop("with", nd.Scale(circuit, when=change.pop("when", "all")))]
    against = change.pop("against", ())
    options = nd.Evaluation(**change)
    with pytest.raises(OptionError, match=message):
        nd.evaluate(VLLM(model, (), model / "nothing"), steered, PAIRS, against=against, options=options)
    check_in_engine([nd.Scale(Circuit.of([Row(nd.Neuron(0, None, 3), 1.0, 1.0)]))], ["prompt"], nd.Evaluation())


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"data_parallel_size": 2}, "copies of the model"),
        ({"speculative_config": {"method": "ngram"}}, "speculative decoding"),
        ({"enable_lora": True}, "circuits at their dials"),
        ({"logprobs_mode": "processed_logits"}, "something else than the model's answer"),
        ({"model": "another"}, "which the job is for"),
    ],
)
def test_options_of_vllm_under_which_numbers_would_be_wrong_are_refused(options, word):
    fine = SimpleNamespace(model="m", tensor_parallel_size=8, logprobs_mode="raw_logprobs", enforce_eager=True)
    refuse_options(fine, "m", REFUSED, "")
    with pytest.raises(EngineError, match=word):
        refuse_options(SimpleNamespace(**{"model": "m", **options}), "m", REFUSED, "")


def test_the_model_itself_is_not_run_meanwhile(model, circuit, tmp_path):
    engine = engine_of(model, tmp_path)
    with engine.running() as subject, pytest.raises(EngineError, match="reads or changes what goes on in the model"):
        subject.decoder(torch.tensor([[1, 2]]))
    subject.decoder(torch.tensor([[1, 2]]))
    with nd.steer(engine.subject, nd.Scale(circuit)), pytest.raises(EngineError, match="being steered"):
        nd.evaluate(engine, [nd.Scale(circuit)], PAIRS, options=OPTIONS)


@pytest.fixture
def session(here, tmp_path):
    """An engine whose process ends at once."""
    return VLLMSession(here, "some/model", ("false", ()), {"name": "vllm"}, tmp_path, is_kept=True)


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([1.0], "gave numbers that can't be"),
        ([1.0, "x"], "gave numbers that can't be"),
        ([1.0, None], "gave numbers that can't be"),
    ],
)
def test_results_that_are_not_whole_are_refused(session, tmp_path, results, message):
    rows = [Continued((1, 2, 3), 1), Continued((4, 5), 1)]
    with pytest.raises(EngineError, match="vLLM ended with 1"):
        session.log_likelihoods(rows, [None, None])
    (job,) = tmp_path.glob("vllm-*/job.json")
    digest = hashlib.sha256(job.read_bytes()).hexdigest()
    assert job.parent.name == f"vllm-{digest[:12]}"

    def write(**value):
        shown = {"format": "neurodial.measured", "version": 1, "job": digest, "engine": {}, "results": [-1.0, -2.0]}
        (job.parent / "measured.json").write_text(json.dumps(shown | value))

    write()
    assert session.log_likelihoods(rows, [None, None]) == [-1.0, -2.0]
    for value, words in (
        ({"results": results}, message),
        ({"job": "0" * 64}, "measured for another job"),
        ({"version": 9}, "version 9"),
        ({"results": 3}, "can't be read"),
    ):
        write(**value)
        with pytest.raises(EngineError, match=words):
            session.log_likelihoods(rows, [None, None])


def test_answers_and_divergences_have_to_be_as_many(session, tmp_path):
    with pytest.raises(EngineError, match="vLLM ended"):
        session.answers([(1, 2)], [None], nd.Decoding(max_new_tokens=2), [0])
    with pytest.raises(EngineError, match="vLLM ended"):
        session.divergences([Passage((1, 2, 3), 1, 2)], [])
    for job in tmp_path.glob("vllm-*/job.json"):
        kind = json.loads(job.read_text())["kind"]
        results = {"answers": [[5, 6, 7]], "divergences": [[1.0]]}[kind]
        digest = hashlib.sha256(job.read_bytes()).hexdigest()
        value = {"format": "neurodial.measured", "version": 1, "job": digest, "engine": {}, "results": results}
        (job.parent / "measured.json").write_text(json.dumps(value))
    with pytest.raises(EngineError, match="gave answers that can't be"):
        session.answers([(1, 2)], [None], nd.Decoding(max_new_tokens=2), [0])
    with pytest.raises(EngineError, match="gave divergences that can't be"):
        session.divergences([Passage((1, 2, 3), 1, 2)], [])


def test_nothing_is_asked_of_an_engine_for_no_rows(session):
    assert session.log_likelihoods([], []) == []


def test_development_prompts_are_measured_where_a_dial_is_to_be_chosen(here, circuit):
    """Another split's prompts in every part, and a note that says so."""
    options = replace(OPTIONS, split="development", questions=0, over_refusal=1, detectors=("refusal",))
    report = nd.evaluate(here, [nd.Scale(circuit)], PAIRS, options=options, margin=MARGIN)
    test = nd.evaluate(here, [nd.Scale(circuit)], PAIRS, options=replace(options, split="test"), margin=MARGIN)
    assert report.provenance["test_prompts"] == PAIRS.development.hash != test.provenance["test_prompts"]
    for name in ("margin", "kl"):
        assert report.conditions[1].metrics[name] != test.conditions[1].metrics[name]
    assert [note for note in report.notes if "development split" in note]
    assert not [note for note in test.notes if "development split" in note]
    with pytest.raises(OptionError, match="The split is 'discovery'"):
        nd.Evaluation(split="discovery")
