"""The server as the page uses it, and as others must not."""

import json
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient
from tests.explain.digits import judge
from tests.studio.conftest import ADDRESS, finished, small_circuit
from tests.studio.contract import TYPES, declared, misfits

from neurodial.evaluation.detectors.endpoint import Endpoint
from neurodial.explain.explainer import LocalExplainer, ServedExplainer
from neurodial.methods.dose.options import Dose
from neurodial.model.tiny import tiny_subject
from neurodial.prompts.pairs import PairSet
from neurodial.studio.app import create_app, static_folder
from neurodial.studio.collection import Collection
from neurodial.studio.requests import Discovery, MeasurementRequest
from neurodial.studio.safety import BODY_LIMIT, studio_policy
from neurodial.studio.tasks_discover import chosen_method
from neurodial.studio.tasks_measure import measurement_place

HI = [{"role": "user", "content": "Hi"}]
HARM = [f"Rob bank {n}?" for n in range(10)]
HELP = [f"Open account {n}?" for n in range(10)]
PASTED = {"positive": HARM, "negative": HELP, "name": "banks"}


def asked(**changes):
    return {"unsteered": HI, "steered": HI, "circuits": [{"id": "polite", "dial": 2.0}], "max_new_tokens": 4, **changes}


def events_of(client, number, **headers):
    text = client.get(f"/api/jobs/{number}/events", headers=headers).text
    blocks = [dict(line.split(": ", 1) for line in block.splitlines()) for block in text.strip().split("\n\n")]
    return [(block.get("event", "message"), json.loads(block["data"])) for block in blocks]


# ------------------------------------------------------------------------------------------- answers


def test_an_answer_is_streamed_token_by_token(client, studio):
    job = finished(studio, client.post("/api/answers", json=asked()))
    events = events_of(client, job.number)
    assert [name for name, _ in events[:-1]] == ["message"] * (len(events) - 1)
    assert events[-1][1]["state"] == "done"
    tokens = [event for _, event in events if event.get("event") == "token"]
    types = declared(TYPES.read_text(encoding="utf-8"))
    assert [misfits(token, "TokenEvent", types) for token in tokens] == [[]] * len(tokens)
    assert misfits(events[-2][1], "AnswersEvent", types) == []
    assert misfits(events[-1][1], "Job", types) == []
    assert {event["side"] for event in tokens} == {"unsteered", "steered"}
    ends = events[-2][1]
    for side in ("unsteered", "steered"):
        assert "".join(event["text"] for event in tokens if event["side"] == side) in ends[side]["text"] + "\ufffd"


def test_a_page_that_comes_back_reads_on_where_it_was(client, studio):
    job = finished(studio, client.post("/api/answers", json=asked()))
    whole = events_of(client, job.number)
    assert events_of(client, job.number, **{"last-event-id": "2"}) == whole[3:]


def test_the_dial_changes_the_answer_and_switched_off_neurons_change_it_back(client, studio):
    rows = [[row.neuron.layer, row.neuron.index] for row in small_circuit()]

    def steered(**turned):
        job = finished(
            studio, client.post("/api/answers", json=asked(circuits=[{"id": "polite", **turned}], max_new_tokens=8))
        )
        return job.value["steered"]["text"], job.value["unsteered"]["text"], job.value["unsteered"]["kl"]

    text, plain, damage = steered(dial=3.0)
    assert text != plain
    assert damage > 0
    assert steered(dial=0.0)[:2] == (plain, plain)
    assert steered(dial=3.0, off=rows) == (plain, plain, 0.0)
    assert steered(dial=3.0, off=rows[:3])[0] not in {text, plain}


def test_two_circuits_add_up(client, studio):
    def steered(*dials):
        turned = [{"id": "polite", "dial": dial} for dial in dials]
        return finished(studio, client.post("/api/answers", json=asked(circuits=turned))).value["steered"]

    assert steered(1.0, 1.0) == steered(2.0)


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"circuits": [{"id": "rude", "dial": 1}]}, 404, "no circuit 'rude'"),
        ({"circuits": [{"id": "polite", "dial": 1000}]}, 422, "dial"),
        ({"circuits": [{"id": "polite", "off": [[0, 4]]}]}, 400, "not in the circuit"),
        ({"circuits": [{"id": "polite"}] * 9}, 422, "circuits"),
        ({"temperature": -1}, 422, "temperature"),
        ({"max_new_tokens": 100_000}, 422, "max_new_tokens"),
        ({"steered": [{"role": "system", "content": "x"}]}, 422, "role"),
        ({"steered": []}, 422, "steered"),
        ({"steered": [{"role": "user", "content": "x" * 20_001}]}, 422, "content"),
        ({"openers": "nothing"}, 400, "no openers"),
        ({"surprise": 1}, 422, "surprise"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(client, changes, status, words):
    response = client.post("/api/answers", json=asked(**changes))
    assert response.status_code == status
    error = response.json()["error"]
    assert words in error["problem"]
    assert set(error) == {"kind", "problem", "wanted", "fix"}


def test_a_chat_too_long_for_the_model_fails_in_words(client, studio):
    long = [{"role": "user", "content": "word " * 200}]
    job = finished(studio, client.post("/api/answers", json=asked(unsteered=long, steered=long)))
    assert job.state == "failed"
    assert "tokens" in job.error["problem"]
    assert events_of(client, job.number)[-1][1]["error"] == job.error


def test_script_in_a_prompt_stays_text(client, studio):
    evil = [{"role": "user", "content": "<script>alert(1)</script>"}]
    job = finished(studio, client.post("/api/answers", json=asked(unsteered=evil, steered=evil)))
    response = client.get("/api/jobs")
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert job.title == "<script>alert(1)</script>"


# ------------------------------------------------------------------------------------------- finding and looking


def test_discovery_from_pasted_prompts_to_a_saved_circuit(client, studio):
    response = client.post(
        "/api/discoveries", json={"prompts": PASTED, "name": "banks", "options": {"select": "count:5"}}
    )
    job = finished(studio, response)
    assert job.state == "done", job.error
    found = client.get(f"/api/jobs/{job.number}/result").json()
    assert found["circuit"]["neurons"] == len(found["scores"]["chosen"]) == 5
    assert found["scores"]["neurons"] == 48
    saved = client.post("/api/circuits", json={"job": job.number, "name": "Banks"}).json()["id"]
    assert saved == "banks"
    assert client.get("/api/circuits/banks").json()["scores"] == found["scores"]
    assert "banks" in [one["id"] for one in client.get("/api/prompt-sets").json()]
    again = Collection(studio.collection.folder, {})
    assert [stored.id for stored in again.circuits()] == ["banks"], "a new studio on the same folder finds it"
    [stored] = again.circuits()
    assert min(abs(row.score) for row in stored.circuit) == pytest.approx(found["scores"]["cutoff"])


@pytest.mark.parametrize("form", ["table", "list"])
def test_a_pasted_table_or_list_is_read_and_kept_as_lines(client, studio, form):
    rows = [{"prompt": text, "label": 1} for text in HARM] + [{"prompt": text, "label": 0} for text in HELP]
    table = "id; Prompt; Label\n" + "".join(f"x; {row['prompt']}; {row['label']}\n" for row in rows)
    pasted = {"lines": table if form == "table" else json.dumps(rows, indent=1), "name": f"pasted {form}"}
    told = client.post("/api/prompts/check", json={"prompts": pasted}).json()
    assert told["counts"] == client.post("/api/prompts/check", json={"prompts": PASTED}).json()["counts"]
    assert any("labels read: 0 as negative, 1 as positive" in note for note in told["notes"])
    asked = {"prompts": pasted, "name": form, "options": {"select": "count:5"}}
    job = finished(studio, client.post("/api/discoveries", json=asked))
    assert job.state == "done", job.error
    kept = studio.collection.pairs(f"pasted-{form}")
    assert kept.hash == PairSet.of(HARM, HELP).hash


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"options": {"select": "fractoin:0.1"}}, "no rule of selection 'fractoin'"),
        ({"options": {"budget": 0.1}}, "Method cna has no option budget"),
        ({"options": {"folds": 1}}, "The number of folds is 1"),
        ({"options": {"universal": None, "universal_share": 0.5}}, "universal is none, and share of it is given"),
        ({"method": "dose", "options": {"margin": "answer"}}, "has no pair of answers"),
        ({"prompts": {"positive": HARM, "negative": HARM}}, "both sides"),
        ({"prompts": {"positive": HARM}}, "negative side has no prompts"),
        ({"prompts": {"lines": "{not json"}}, "line 1 is not JSON"),
        ({"prompts": {"set": "nothing"}}, "no prompt set 'nothing'"),
        ({"options": {"position": "middle"}}, "position"),
    ],
)
def test_a_discovery_that_makes_no_sense_never_starts(client, studio, changes, words):
    response = client.post("/api/discoveries", json={"prompts": PASTED, **changes})
    assert response.status_code in {400, 404}
    assert words in response.json()["error"]["problem"]
    assert studio.queue.jobs() == []


def test_options_of_a_discovery_reach_the_method(client, studio):
    def method(**options):
        asked = {"prompts": PASTED, "options": {"select": "count:4", **options}}
        job = finished(studio, client.post("/api/discoveries", json=asked))
        assert job.state == "done", job.error
        return job.value.circuit.origin.method

    assert method()["universal"] is not None
    assert method(universal=None)["universal"] is None
    assert method(universal_share=0.5)["universal"]["share"] == 0.5
    assert method(select="per-layer:2")["select"] == {"kind": "PerLayer", "value": 2}
    assert method(folds=3)["folds"] == 3
    assert method(score="auroc")["score"] == "auroc"
    assert method(sign="positive")["sign"] == "positive"
    assert method(position="-2")["position"] == {"kind": "Index", "value": -2}
    assert method(skip_layers=[0])["skip_layers"] == [0]
    assert method(system="Be brief.")["system"] == "Be brief."


def test_options_of_doses_reach_the_method():
    options = {"budget": 0.02, "direction": "induce", "x_max": 2.0, "margin": "own-answers", "sign": "both"}
    options |= {"max_degenerate": 0.0, "margin_target": -1.0, "passages": 3, "seed": 4, "draws": 3}
    given = {"select": "fraction:0.01", **options}
    asked = Discovery.model_validate({"prompts": {"set": "formality"}, "method": "dose", "options": given})
    chosen = chosen_method(asked)
    assert {name: getattr(chosen, name) for name in options} == options
    assert chosen.select.value == 0.01
    plain = chosen_method(Discovery.model_validate({"prompts": {"set": "formality"}, "method": "dose"}))
    assert plain == Dose()


@pytest.mark.parametrize(
    ("path", "options", "words"),
    [
        ("discoveries", {"budgte": 0.1}, "budgte"),
        ("discoveries", {"budget": "much"}, "budget"),
        ("discoveries", {"score": "detla"}, "score"),
        ("discoveries", {"folds": 2.5}, "folds"),
        ("discoveries", {"folds": None}, "folds"),
        ("discoveries", {"skip_layers": [0.5]}, "skip_layers"),
        ("discoveries", {"as_published": True}, "as_published"),
        ("discoveries", {"universal": "/etc/passwd"}, "universal"),
        ("discoveries", {"neutral": "../secrets.txt"}, "neutral"),
        ("measurements", {"detectors": ["python:os:system"]}, "detectors"),
        ("measurements", {"detectors": ["regex:(a+)+$"]}, "detectors"),
        ("measurements", {"tasks": ["task.yaml"]}, "tasks"),
        ("measurements", {"max_new_tokens": 10**9}, "max_new_tokens"),
    ],
)
def test_an_option_of_another_shape_is_refused(client, path, options, words):
    asked = {"prompts": PASTED} if path == "discoveries" else {"prompts": "banks", "circuits": ["polite"], "dials": [1]}
    response = client.post(f"/api/{path}", json={**asked, "options": options})
    assert response.status_code == 422
    assert words in response.json()["error"]["problem"]


def test_the_forms_say_what_may_stand_and_what_stands(client):
    found = client.get("/api/options").json()
    methods = {one["name"]: {option["name"]: option for option in one["options"]} for one in found["methods"]}
    assert set(methods) == {"cna", "cna-reference", "dose", "single"}
    assert methods["cna"]["select"]["default"] == "fraction:0.001"
    assert [form["name"] for form in methods["cna"]["select"]["forms"]][:2] == ["fraction", "count"]
    assert methods["cna-reference"]["select"]["default"] == "count:1600"
    assert (methods["cna"]["universal"]["choices"], methods["cna-reference"]["universal"]["default"]) == (
        ["diverse", "neutral", "over_refusal"],
        "none",
    )
    assert methods["dose"]["budget"]["help"].startswith("damage in nats per token")
    evaluation = {option["name"]: option for option in found["evaluation"]}
    assert (evaluation["prompts"]["default"], evaluation["speed"]["default"]) == ("8", "False")
    assert "refusal" in evaluation["detectors"]["choices"]
    assert "tasks" not in evaluation


def test_check_shows_prompts_as_the_model_sees_them(client):
    found = client.post("/api/prompts/check", json={"prompts": PASTED}).json()
    assert found["counts"] == {"discovery": [4, 4], "development": [2, 2], "test": [4, 4]}
    first = found["examples"]["positive"][0]
    assert "".join(first["tokens"]).startswith("<bos><user>Rob bank")
    assert first["read"] == [len(first["tokens"]) - 1]
    other = client.post("/api/prompts/check", json={"prompts": PASTED, "position": "post-instruction"}).json()
    assert len(other["examples"]["positive"][0]["read"]) > 1
    told = client.post("/api/prompts/check", json={"prompts": PASTED, "system": "Be brief."}).json()
    assert "Be brief." in "".join(told["examples"]["positive"][0]["tokens"])
    few = client.post("/api/prompts/check", json={"prompts": {"positive": ["a"], "negative": ["b"]}})
    assert few.status_code == 400
    assert "too few" in few.json()["error"]["problem"]


def test_a_neuron_page(client, studio):
    client.post("/api/discoveries", json={"prompts": PASTED})
    request = {"circuit": "polite", "layer": 1, "index": 3, "prompts": "banks"}
    job = finished(studio, client.post("/api/neurons", json=request))
    assert job.state == "done", job.error
    found = client.get(f"/api/jobs/{job.number}/result").json()
    assert found == {
        "in_circuit": True,
        "measured": False,
        "worded": False,
        "hidden": False,
        "speaker": "tiny-llama",
        "vectors": False,
        "pair": "",
    }
    page = client.get(f"/api/jobs/{job.number}/page")
    assert page.headers["content-security-policy"].startswith("sandbox allow-same-origin; default-src 'none'")
    assert "<script" not in page.text
    for words in ("layer 1, neuron 3 of polite", "strongest, ", "weakest, ", "AUROC", "promotes", "up reads"):
        assert words in page.text, words
    assert [step["description"] for step in job.steps.view()] == ["watching the circuit"]
    again = finished(studio, client.post("/api/neurons", json={**request, "index": 7}))
    assert again.steps.view() == [], "the circuit was watched before"
    refused = client.post("/api/neurons", json={**request, "layer": 9})
    assert "has no neuron" in refused.json()["error"]["problem"]
    assert client.get("/api/jobs/1/page").status_code == 400


def test_a_neurons_dial_alone_and_a_neuron_of_no_circuit(client, studio):
    request = {"circuit": "polite", "layer": 0, "index": 7, "prompts": "formality", "measure": True}
    job = finished(studio, client.post("/api/neurons", json=request))
    assert job.state == "done", job.error
    assert job.value.is_measured
    assert "moves the margin" in job.value.html
    assert "no dial was turned" not in job.value.html
    known = finished(studio, client.post("/api/neurons", json={**request, "measure": False}))
    assert known.value.is_measured, "an earlier page measured it"
    other = finished(studio, client.post("/api/neurons", json={**request, "index": 8, "measure": False}))
    assert not other.value.in_circuit
    assert "which is not in polite" in other.value.html


def test_a_neuron_in_words_with_their_score(studio):
    speaking = LocalExplainer(tiny_subject(max_position_embeddings=4096))
    with TestClient(create_app(replace(studio, explainer=speaking)), base_url=ADDRESS) as client:
        request = {"circuit": "polite", "layer": 1, "index": 3, "prompts": "formality"}
        pages = [
            finished(studio, client.post("/api/neurons", json={**request, **more}))
            for more in ({"words": True}, {}, {"index": 7})
        ]
    worded, known, other = pages
    assert worded.state == "done", worded.error
    assert "In words (tiny-llama, from 8 places)" in worded.value.html
    assert "of 8 places (chance 50 %)" in worded.value.html
    assert known.value.is_worded, "an earlier page's words"
    assert known.steps.view() == []
    assert not other.value.is_worded
    assert "In words" not in other.value.html


def test_words_that_could_not_be_scored_are_not_on_the_page(studio):
    with judge(lambda prompt: "lemons" if "one short sentence" in prompt else "no") as url:
        speaking = ServedExplainer(Endpoint(url, "fake", retries=0))
        with TestClient(create_app(replace(studio, explainer=speaking)), base_url=ADDRESS) as client:
            request = {"circuit": "polite", "layer": 0, "index": 3, "prompts": "formality", "words": True}
            page = finished(studio, client.post("/api/neurons", json=request)).value
    assert page.speaker == "fake"
    assert "nothing that could be scored" in page.html
    assert "lemons" not in page.html


def test_words_of_harmful_prompts_are_left_out_unless_asked_for(client, studio):
    request = {"circuit": "polite", "layer": 0, "index": 3, "prompts": "refusal"}
    hidden, shown = (
        finished(studio, client.post("/api/neurons", json={**request, "show_harmful": is_shown})).value
        for is_shown in (False, True)
    )
    assert hidden.has_hidden
    assert "▮" in hidden.html
    assert not shown.has_hidden
    assert "▮" not in shown.html


def test_a_copy_less_some_neurons(client):
    saved = client.post("/api/circuits", json={"circuit": "polite", "off": [[0, 3]], "name": "less"}).json()["id"]
    assert client.get(f"/api/circuits/{saved}").json()["circuit"]["neurons"] == 5
    overlap = client.get(f"/api/overlap/polite/{saved}").json()
    assert (overlap["shared"], overlap["first"]["neurons"]) == (5, 6)
    nothing = client.post("/api/circuits", json={"name": "x"})
    assert nothing.status_code == 400


def test_openers_are_found_once_and_then_measured(client, studio):
    client.post("/api/discoveries", json={"prompts": PASTED})
    job = finished(studio, client.post("/api/openers", json={"prompts": "banks"}))
    if job.state == "failed":
        assert job.error["kind"] == "MarginError", "a random model's answers need not tell the sides apart"
        studio.found_openers["banks"] = ("A", "B")
    found = client.get("/api/openers").json()
    assert list(found) == ["banks"]
    answer = finished(studio, client.post("/api/answers", json=asked(openers="banks")))
    assert len(answer.events[0]["openers"]) == 2


# ------------------------------------------------------------------------------------------- measuring and shipping


def test_an_evaluation_and_its_report(client, studio):
    client.post("/api/discoveries", json={"prompts": PASTED})
    request = {
        "circuits": ["polite"],
        "prompts": "refusal",
        "dials": [1.0],
        "options": {"prompts": 2, "neutral": 2, "max_new_tokens": 3, "detectors": ["refusal"]},
    }
    job = finished(studio, client.post("/api/measurements", json=request))
    assert job.state == "done", job.error
    [report] = client.get("/api/reports").json()
    assert report == {"id": job.value["report"], "name": job.value["report"], "parts": ["report"]}
    found = client.get(f"/api/reports/{report['id']}/report").json()
    assert [(condition["label"], condition["dial"]) for condition in found["conditions"]] == [
        ("unsteered", 0.0),
        ("polite", 1.0),
    ]
    assert found["metrics"]["kl"]["explanation"].startswith("Nats per token")
    page = client.get(f"/api/reports/{report['id']}/report/page")
    assert page.headers["content-security-policy"].startswith("sandbox;")
    assert "<h1>" in page.text
    assert "<script" not in page.text, "the page may run none, and a browser would complain"
    assert client.get(f"/api/reports/{report['id']}/dense/page").status_code == 404
    again = finished(studio, client.post("/api/measurements", json=request))
    assert again.value == job.value, "the same request is the same report"

    def place(**changes):
        return measurement_place(studio, MeasurementRequest.model_validate({**request, **changes}))[0]

    assert place(dials=[2.0]) != report["id"], "another request is another report"
    assert place(options={**request["options"], "seed": 1}) != report["id"]
    assert place(options={**request["options"], "seed": 0}) == report["id"], "a default that is said changes nothing"


def test_a_frontier_has_two_parts(client, studio):
    client.post("/api/discoveries", json={"prompts": PASTED})
    request = {
        "kind": "frontier",
        "circuits": ["polite"],
        "prompts": "refusal",
        "dials": [0.5, 2.0],
        "options": {"prompts": 2, "neutral": 2, "max_new_tokens": 3, "detectors": ["refusal"]},
    }
    job = finished(studio, client.post("/api/measurements", json=request))
    assert job.state == "done", job.error
    [report] = client.get("/api/reports").json()
    assert report["parts"] == ["dense", "answers"]


def test_an_export_with_its_proof(client, studio):
    job = finished(
        studio,
        client.post(
            "/api/exports", json={"circuits": [{"id": "polite", "dial": 1.0}], "route": "weights", "name": "out"}
        ),
    )
    assert job.state == "done", job.error
    [name] = client.get("/api/exports").json()
    found = client.get(f"/api/exports/{name}").json()
    assert all(one["agrees"] for one in found["proof"]["comparisons"])
    place = [file for file, _ in found["files"]].index("neurodial.json")
    assert client.get(f"/api/exports/{name}/files/{place}").json()["route"] == "weights"
    assert client.get(f"/api/exports/{name}/files/{len(found['files'])}").status_code == 404
    failed = finished(studio, client.post("/api/exports", json={"circuits": [{"id": "polite"}], "route": "gguf"}))
    assert (failed.state, failed.error["kind"]) == ("failed", "ExportError")


# ------------------------------------------------------------------------------------------- safety


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:9999", "https://127.0.0.1.evil.example", "http://["]
)
def test_a_foreign_origin_is_refused(client, origin):
    assert client.get("/api/model", headers={"origin": ADDRESS}).status_code == 200
    for response in (
        client.get("/api/model", headers={"origin": origin}),
        client.post("/api/answers", json=asked(), headers={"origin": origin}),
    ):
        assert response.status_code == 403
        assert "comes from" in response.json()["error"]["problem"]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8421", "127.0.0.1.evil.example", "", "[::1"])
def test_a_foreign_host_is_refused(client, host):
    assert client.get("/api/model", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost:8421", "127.0.0.1:1", "[::1]:8421"])
def test_its_own_names_are_taken(client, host):
    assert client.get("/api/model", headers={"host": host}).status_code == 200


def test_an_open_address_takes_numbers_but_no_foreign_names():
    everywhere = ".".join("0000")
    assert studio_policy(everywhere).takes_host("192.168.0.7:8421")
    assert studio_policy("box.local").takes_host("box.local:8421")
    assert not studio_policy(everywhere).takes_host("evil.example:8421")
    assert not studio_policy("127.0.0.1").takes_host("192.168.0.7:8421")


def test_another_site_is_refused_by_its_fetch_metadata(client):
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
    assert client.get("/api/jobs", headers=headers).status_code == 403
    assert client.get("/", headers={**headers, "sec-fetch-mode": "navigate"}).status_code == 200, "a link is no attack"


def test_large_bodies_are_refused_with_and_without_their_length(client):
    body = b"{" + b" " * BODY_LIMIT + b"}"
    headers = {"content-type": "application/json"}
    assert client.post("/api/answers", content=body, headers=headers).status_code == 413
    chunks = (body[start : start + 100_000] for start in range(0, len(body), 100_000))
    assert client.post("/api/answers", content=chunks, headers=headers).status_code == 413


@pytest.mark.parametrize("name", ["../polite", "..%2f..%2fetc%2fpasswd", "%2e%2e", "/etc/passwd", "a" * 300, "%00"])
@pytest.mark.parametrize(
    "place",
    ["/api/circuits/{}", "/api/reports/{}/report/page", "/api/exports/{}", "/api/exports/{}/files/0", "/{}", "/js/{}"],
)
def test_no_path_leads_out(client, studio, place, name):
    (studio.collection.folder.parent / "polite").write_text("secret")
    response = client.get(place.format(name))
    assert response.status_code in {404, 405} or response.text == client.get("/").text
    assert "secret" not in response.text
    assert "root:" not in response.text


def test_ids_in_requests_are_no_paths_either(client):
    for body in (asked(circuits=[{"id": "../../secret"}]), asked(circuits=[{"id": "/etc/passwd"}])):
        assert client.post("/api/answers", json=body).status_code == 404
    assert client.post("/api/prompts/check", json={"prompts": {"set": "/etc/passwd"}}).status_code == 404
    assert client.post("/api/prompts/check", json={"prompts": {"set": "../x.jsonl"}}).status_code == 404


def test_names_become_ids_that_stay_in_the_folder(client, studio):
    saved = client.post("/api/circuits", json={"circuit": "polite", "name": "../../../evil"}).json()["id"]
    assert saved == "evil"
    assert (studio.collection.folder / "circuits" / "evil.circuit.json").is_file()


def test_a_damaged_circuit_file_hides_nothing_else(client, studio):
    client.post("/api/circuits", json={"circuit": "polite", "name": "good"})
    (studio.collection.folder / "circuits" / "bad.circuit.json").write_text("{")
    assert [one["id"] for one in client.get("/api/circuits").json()] == ["polite", "good"]
    assert client.get("/api/circuits/bad").status_code == 400


def test_pages_load_nothing_from_elsewhere(client):
    page = client.get("/")
    policy = page.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    for file in static_folder().rglob("*.*"):
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text, file
        assert "https://" not in text, file
        for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert forbidden not in text, f"{forbidden} in {file.name}: text becomes text nodes only"


def test_the_page_is_light(client):
    files = [file for file in static_folder().rglob("*.*") if file.is_file()]
    assert len(files) > 10
    assert sum(file.stat().st_size for file in files) < 500_000
    for file in files:
        assert client.get(f"/{file.relative_to(static_folder())}").status_code == 200


def test_jobs_survive_a_reload_and_a_second_tab(client, studio):
    job = finished(studio, client.post("/api/answers", json=asked()))
    [listed] = client.get("/api/jobs").json()
    assert (listed["id"], listed["state"], listed["asked"]["steered"]) == (job.number, "done", HI)
    assert client.get("/api/jobs/99").status_code == 404
    assert client.get("/api/jobs/99/events").status_code == 404
    assert client.get(f"/api/jobs/{job.number}/result").status_code == 200
