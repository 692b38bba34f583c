"""Routes of what has a name and goes out as a file: conversations, runs, circuits; and of views over several."""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response

from neurodial.circuit.file import circuit_json
from neurodial.evaluation.report.comparison import comparison_page
from neurodial.evaluation.report.html_page import render_page, without_script
from neurodial.studio import conversations, requests
from neurodial.studio.compare_runs import compared_runs, comparison_view
from neurodial.studio.safety import REPORT_POLICY
from neurodial.studio.shared_files import open_file, run_file
from neurodial.studio.studio_state import StudioState
from neurodial.studio.views import doses_view

Plain = dict[str, Any]


def file_routes(app: FastAPI, studio: StudioState) -> None:
    """Conversations, files to open and to hand on, comparisons."""
    collection = studio.collection

    @app.get("/api/conversations")
    def listed() -> list[Plain]:
        return conversations.conversations_view(studio)

    @app.post("/api/conversations")
    def save(asked: requests.ConversationRequest) -> Plain:
        return {"id": conversations.save_conversation(studio, asked)}

    @app.get("/api/conversations/{name}")
    def conversation(name: str) -> Plain:
        return conversations.conversation_view(studio, name)

    @app.delete("/api/conversations/{name}")
    def remove(name: str) -> Plain:
        collection.conversation(name).unlink()
        return {"id": name}

    @app.get("/api/conversations/{name}/file")
    def conversation_file(name: str) -> Response:
        path = collection.conversation(name)
        return _attachment(path.read_text(encoding="utf-8"), path.name)

    @app.post("/api/open")
    def opened(asked: requests.OpenRequest) -> Plain:
        return open_file(studio, asked)

    @app.get("/api/circuits/{name}/file")
    def circuit_file(name: str) -> Response:
        return _attachment(circuit_json(collection.circuit(name)), f"{name}.circuit.json")

    _run_routes(app, studio)


def _run_routes(app: FastAPI, studio: StudioState) -> None:
    @app.post("/api/reports/{name}/name")
    def rename(name: str, asked: requests.NameRequest) -> Plain:
        studio.collection.name_report(name, asked.name)
        return {"id": name}

    @app.get("/api/reports/{name}/file")
    def file(name: str) -> Response:
        text = json.dumps(run_file(studio, name), ensure_ascii=False, allow_nan=False, indent=1) + "\n"
        return _attachment(text, f"{name}.run.json")

    @app.get("/api/comparisons/{first}/{first_part}/{second}/{second_part}")
    def comparison(first: str, first_part: str, second: str, second_part: str) -> Plain:
        return comparison_view(compared_runs(studio, (first, first_part), (second, second_part)))

    @app.get("/api/comparisons/{first}/{first_part}/{second}/{second_part}/page")
    def page(first: str, first_part: str, second: str, second_part: str) -> Response:
        compared = compared_runs(studio, (first, first_part), (second, second_part))
        return sandboxed(render_page(comparison_page(compared)))

    @app.get("/api/doses/{listed}")
    def doses(listed: str) -> Plain:
        names = list(dict.fromkeys(listed.split(",")))
        subject = studio.subject
        circuits = {name: studio.collection.circuit(name) for name in names}
        return doses_view(circuits, subject.everything, subject.layers)


def sandboxed(html: str, policy: str = REPORT_POLICY) -> Response:
    """A written page, without its script and without the right to anything."""
    return HTMLResponse(without_script(html), headers={"content-security-policy": policy})


def _attachment(text: str, name: str) -> Response:
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(text, media_type="application/octet-stream", headers=headers)
