"""A planted pair says the right words and rebuilds the vector; the vector goes in at the marker and nowhere else."""

import base64
import io
import json
import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from tests.explain.digits import circuit, digit_subject, texts
from tests.nla.pairs import LAYER, WORDS, run, write_pair
from tests.subjects import circuit_of, close, fresh

from neurodial.activations.position import Index, Last
from neurodial.circuit.circuit import Circuit, Row
from neurodial.circuit.site import Neuron
from neurodial.cli.main import main
from neurodial.errors import OptionError, VerbaliserError
from neurodial.evaluation.detectors.endpoint import Endpoint
from neurodial.evaluation.report.html_page import render_page
from neurodial.explain.explain_circuit import explain_circuit
from neurodial.explain.explain_page import explanation_page
from neurodial.explain.vector_section import VectorWording
from neurodial.export.vector_file import write_vectors
from neurodial.intervention.scale import Scale
from neurodial.intervention.vector import AddVector
from neurodial.model.hooks import on_embedding
from neurodial.nla.options import Verbalising
from neurodial.nla.pair import read_pair
from neurodial.nla.rebuilt import ActivationReference, rebuilt_score
from neurodial.nla.vector_words import activation_reference, put_vectors_into_words, scale_note, words_json
from neurodial.nla.vectors import (
    NamedVector,
    block_outputs,
    contrast_vector,
    stored_vector,
    token_vectors,
    written_vector,
)
from neurodial.nla.verbaliser import said_text
from neurodial.prompts.pairs import Contrast

SURE = Verbalising(samples=3, max_tokens=50, temperature=0.0, controls=8)


def reference(planted):
    return ActivationReference(
        torch.cat([planted.vectors, torch.randn(20, 16, generator=torch.Generator().manual_seed(9))]), "r"
    )


def named(planted):
    return [NamedVector(word, vector, "activation") for word, vector in zip(WORDS, planted.vectors, strict=True)]


def test_a_planted_pair_says_the_right_words_and_rebuilds_the_vector(planted):
    pair = read_pair(planted.verbaliser, planted.reconstructor)
    found = put_vectors_into_words(pair, named(planted), reference(planted), SURE)
    for word, vector in zip(WORDS, found, strict=True):
        assert [sample.text for sample in vector.samples] == [word] * 3
        assert vector.score.cosine == pytest.approx(1, abs=1e-4)
        assert vector.score.explained > 0.999
        assert max(vector.shuffled.explained, vector.mean.explained) < 0.9
        assert "no better" not in vector.verdict
    value = json.loads(json.dumps(words_json(found, pair, reference(planted))))
    assert value["vectors"][0]["samples"][0]["text"] == "pears"


def test_length_does_not_matter_and_direction_does(planted):
    pair = read_pair(planted.verbaliser, planted.reconstructor)
    longer, turned = (NamedVector("v", f * planted.vectors[0], "activation") for f in (100.0, -1.0))
    found = put_vectors_into_words(pair, [longer, turned], reference(planted), SURE)
    assert found[0].samples[0].text == "pears"
    assert "times as long" in found[0].notes[0]
    assert found[1].score is None or found[1].score.cosine < 0.9


def test_words_that_say_nothing_are_called_so(random_pair):
    pair = read_pair(random_pair.verbaliser, random_pair.reconstructor)
    found = put_vectors_into_words(pair, named(random_pair), reference(random_pair), replace(SURE, max_tokens=12))
    assert all(v.samples[0].problem for v in found)  # a random model closes no tag
    assert any("no better" in v.verdict or "no text" in v.verdict for v in found)


@pytest.mark.parametrize("family", ["llama", "gemma", "gemma3_text", "gpt2"])
def test_the_vector_goes_in_at_the_marker_and_nowhere_else(tmp_path, family):
    """Also where embeddings are multiplied by the root of the width (Gemma): the vector is not."""
    folders = write_pair(tmp_path, family)
    verbaliser = read_pair(folders.verbaliser, folders.reconstructor).verbaliser()
    tokens, place = verbaliser.prompt
    seen = []
    plain = on_embedding(verbaliser.subject, lambda hidden: seen.append(hidden.clone()))
    with torch.no_grad():
        verbaliser.subject.decoder(input_ids=torch.tensor([tokens]), use_cache=False)
    plain.remove()

    def look(module, args, kwargs, output):
        seen.append((args[0] if args else kwargs["hidden_states"]).clone())

    handle = verbaliser.subject.blocks[0].register_forward_hook(look, with_kwargs=True)
    verbaliser.texts(folders.vectors, Verbalising(samples=1, max_tokens=2))
    handle.remove()
    before, put = seen[0][0], seen[1]
    for row, vector in zip(put, folders.vectors, strict=True):
        close(row[place], 4.0 * vector / vector.norm())
        rest = [n for n in range(len(tokens)) if n != place]
        assert torch.equal(row[rest], before[rest])


def test_the_reconstructor_reads_the_last_block_itself(random_pair):
    made = read_pair(random_pair.verbaliser, random_pair.reconstructor).reconstructor()
    text = "a text"
    [states] = block_outputs(made.subject, [made.tokens(text)], LAYER)
    close(made.vectors([text, "other, longer"])[0], made.head @ states[-1])


def test_vectors_are_what_they_are_called(tmp_path):
    subject = fresh("llama", num_hidden_layers=3)
    tokens = subject.encode("sun and moon")
    with torch.no_grad():
        hidden = subject.model(torch.tensor([tokens]), output_hidden_states=True).hidden_states
    last, third = token_vectors(subject, tokens, [Last(), Index(3), Index(-1)], LAYER)
    close(last.vector, hidden[LAYER + 1][0, -1])
    close(third.vector, hidden[LAYER + 1][0, 3])
    assert "first 10" in third.notes[0]
    found = circuit_of(subject, 4)
    [change] = token_vectors(subject, tokens, [Last()], LAYER, under=Scale(found, 0.5))
    assert change.kind == "direction"
    assert 0 < float(change.vector.norm()) < float(last.vector.norm())
    late = Circuit.of([Row(Neuron(2, None, 1), 1.0, 1.0)])
    with pytest.raises(VerbaliserError, match="changes nothing after block 1"):
        token_vectors(subject, tokens, [Last()], LAYER, under=Scale(late, 1.0))
    contrast = Contrast.of(["sun!", "moon!"], ["sun?", "moon?"])
    one = Circuit.of([Row(Neuron(2, None, 1), 1.0, 0.5)])
    written = written_vector(subject, one, contrast, LAYER)
    column = subject.down_columns(subject.sites[2], [1])[:, 0]
    assert abs(float(torch.nn.functional.cosine_similarity(written.vector, column, dim=0))) > 0.999
    assert "1 of 1 neurons lie after" in written.notes[0]
    assert contrast_vector(subject, contrast, LAYER, "ends").vector.shape == (16,)
    file = write_vectors(AddVector(torch.ones(16), layer=1), tmp_path / "v.safetensors")
    assert stored_vector(file, 1, 16).vector.tolist() == [1.0] * 16
    with pytest.raises(VerbaliserError, match="layers 1"):
        stored_vector(file, 2, 16)
    with pytest.raises(VerbaliserError, match="16 numbers"):
        stored_vector(file, 1, 8)


def test_scores_are_held_against_the_mean():
    vectors = torch.randn(50, 16, generator=torch.Generator().manual_seed(0)) + 3.0
    against = ActivationReference(vectors)
    mean = [rebuilt_score(vector, against.mean, against.mean_error) for vector in vectors]
    units = torch.nn.functional.normalize(vectors, dim=1)
    assert against.mean_error == pytest.approx(1 - float(units.mean(dim=0).square().sum()), rel=1e-4)
    assert min(score.cosine for score in mean) > 0.8  # the cosine alone would look good
    assert abs(sum(score.explained for score in mean) / 50) < 0.2
    with pytest.raises(VerbaliserError, match="same way"):
        ActivationReference(torch.ones(3, 16))
    with pytest.raises(VerbaliserError, match="zero"):
        read_zero()


def read_zero():
    from neurodial.nla.injection import Injection

    Injection("@", 1, 2, 3, 4.0, "{injection_char}").scaled(torch.zeros(1, 4))


def test_problems_of_an_answer_are_said():
    assert said_text("x <explanation>\n on pears\n</explanation> y") == ("on pears", None)
    assert said_text("<explanation>on pe").problem == "cut off: no closing tag"
    assert said_text("pears").problem == "no <explanation> tag"
    assert "injection may have failed" in said_text("<explanation>这是一个概念</explanation>").problem
    assert said_text("<explanation></explanation>") == ("", "no text came")


@contextmanager
def engine(planted, seen, status=200):
    """A server that takes prompt_embeds, with the planted verbaliser behind it."""
    verbaliser = read_pair(planted.verbaliser, planted.reconstructor).verbaliser()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            prompt = torch.load(io.BytesIO(base64.b64decode(body.pop("prompt_embeds"))), weights_only=True)
            seen.append((self.path, body, prompt))
            text = ""
            if status == 200:
                out = verbaliser.subject.model.generate(
                    inputs_embeds=prompt[None], max_new_tokens=body["max_tokens"], do_sample=False, pad_token_id=258
                )
                text = verbaliser.subject.tokenizer.decode(out[0], skip_special_tokens=True)
            reply = json.dumps({"choices": [{"text": text}]}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def test_an_engine_that_takes_embeddings_says_the_same(planted):
    seen = []
    with engine(planted, seen) as url:
        endpoint = Endpoint(url, "av", retries=0, workers=1)
        pair = read_pair(planted.verbaliser, planted.reconstructor, endpoint=endpoint)
        found = put_vectors_into_words(pair, named(planted), reference(planted), replace(SURE, samples=1))
    assert [vector.samples[0].text for vector in found] == list(WORDS)
    assert len(pair.verbaliser().first.blocks) == 1  # no more of it is loaded here
    path, body, prompt = seen[0]
    assert (path, body["model"], body["max_tokens"], body["skip_special_tokens"]) == (
        "/v1/completions",
        "av",
        50,
        False,
    )
    tokens, place = read_pair(planted.verbaliser, planted.reconstructor).verbaliser().prompt
    assert prompt.shape == (len(tokens), 16)
    assert float(prompt[place].norm()) == pytest.approx(4.0, rel=1e-5)


def test_an_engine_that_is_down_or_refuses_is_an_error(planted):
    with engine(planted, [], status=400) as url:
        for address in (url, "http://127.0.0.1:9/v1"):
            endpoint = Endpoint(address, "av", retries=0, timeout=5.0)
            pair = read_pair(planted.verbaliser, planted.reconstructor, endpoint=endpoint)
            with pytest.raises(VerbaliserError, match="enable-prompt-embeds"):
                put_vectors_into_words(pair, named(planted), reference(planted), SURE)


def test_a_length_of_another_layer_is_noted(planted):
    pair = read_pair(planted.verbaliser, planted.reconstructor)
    assert scale_note(pair, reference(planted)) is None
    assert "another layer or model" in scale_note(pair, ActivationReference(1000 * reference(planted).vectors))
    subject = fresh("llama", num_hidden_layers=3)
    found = activation_reference(subject, ["a long enough text", "and another one"], LAYER, Verbalising(skip=2))
    assert found.vectors.shape == (8, 16)


def test_explanations_show_words_beside_their_controls(random_pair, tmp_path):
    subject = digit_subject()
    pair = replace(read_pair(random_pair.verbaliser, random_pair.reconstructor), layer=1)
    wording = VectorWording(pair, ("one text", "another text", "a third"), "three", replace(SURE, max_tokens=8))
    with pytest.raises(VerbaliserError, match="blocks 2 against 3"):
        explain_circuit(subject, circuit(), texts(subject), autoencoder=wording)
    found = explain_circuit(subject, circuit(), texts(subject), autoencoder=wording, force=True)
    assert [vector.name.split(",")[0] for vector in found.vectors] == [
        "what the circuit writes", "steered less unsteered at dial 1",
    ]  # fmt: skip
    html = render_page(explanation_page(found))
    for words in ("Its vectors in words", "(words of another activation)", "(the mean)", "variance explained"):
        assert words in html
    assert found.as_json()["vectors"][0]["samples"][0]["problem"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The tiny model that the pairs are for, as a folder."""
    folder = tmp_path_factory.mktemp("base")
    subject = fresh("llama", num_hidden_layers=3)
    subject.model.save_pretrained(folder)
    subject.tokenizer.save_pretrained(folder)
    return folder


def test_the_command_writes_what_it_shows(planted, base, tmp_path, capsys):
    pair = ["--verbaliser", str(planted.verbaliser), "--reconstructor", str(planted.reconstructor)]
    quick = ["--samples", "2", "--max-tokens", "20", "--reference", "4", "--controls", "1"]
    run(["words", str(base), "sun and moon", "--at", "last,-2", *pair, *quick, "-o", str(tmp_path / "words.json")])
    shown = capsys.readouterr().out
    assert shown.count("variance explained") + shown.count("no text could be scored") == 2
    value = json.loads((tmp_path / "words.json").read_text(encoding="utf-8"))
    assert (value["format"], len(value["vectors"]), len(value["vectors"][0]["samples"])) == ("neurodial.words", 2, 2)
    run(["words", str(base), "-b", "formality", *pair, *quick, "--json"])
    assert json.loads(capsys.readouterr().out)["vectors"][0]["name"] == "contrast of formality"
    subject = fresh("llama", num_hidden_layers=3)
    found = circuit_of(subject, 4, known=False).write(tmp_path / "c.circuit.json")
    for arguments in (["sun", "--circuit", str(found)], ["--circuit", str(found), "-b", "formality"]):
        run(["words", str(base), *arguments, *pair, *quick])
        assert "circuit" in capsys.readouterr().out or arguments[0] == "sun"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "nothing to put into words"),
        (["x", "-b", "formality"], "came with a prompt"),
        (["x", "--vector", "v.gguf"], "another source"),
        (["-b", "formality", "--at", "last"], "are for a prompt"),
        (["x", "--samples", "0"], "samples is 0"),
        (["x", "--at", "somewhere"], "position"),
    ],
)
def test_the_command_refuses_what_it_would_not_use(planted, base, capsys, arguments, words):
    pair = ["--verbaliser", str(planted.verbaliser), "--reconstructor", str(planted.reconstructor)]
    with pytest.raises(SystemExit):
        main(["words", str(base), *arguments, *pair])
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "No autoencoder"),
        (["--verbaliser", "a"], "--verbaliser came without --reconstructor"),
        (["--verbaliser-endpoint", "http://127.0.0.1:9/v1"], "without --verbaliser-name"),
        (["--verbaliser-endpoint", "http://127.0.0.1:9/v1", "--verbaliser-name", "x"], "without --verbaliser."),
        (["--verbaliser", "./none", "--reconstructor", "./none"], "There is no verbaliser"),
    ],
)
def test_the_command_says_what_of_a_pair_is_missing(base, capsys, given, words):
    with pytest.raises(SystemExit):
        main(["words", str(base), "x", *given])
    assert words in capsys.readouterr().err


def test_a_wrong_model_is_refused_before_it_is_loaded(planted, base, tmp_path, capsys):
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 5}), encoding="utf-8")
    pair = ["--verbaliser", str(planted.verbaliser), "--reconstructor", str(planted.reconstructor)]
    with pytest.raises(SystemExit):
        main(["words", str(tmp_path), "x", *pair])
    assert "blocks 5 against 3" in capsys.readouterr().err  # there are no weights, which loading would complain of


@pytest.mark.parametrize("fields", [{"samples": 0}, {"temperature": -1.0}, {"reference": 1}, {"skip": -1}])
def test_options_that_make_no_sense_are_refused(fields):
    with pytest.raises(OptionError, match=next(iter(fields))):
        Verbalising(**fields)
