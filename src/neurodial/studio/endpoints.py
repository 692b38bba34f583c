"""The routes: each checks nothing but its input's shape, and hands it on."""

from __future__ import annotations

import dataclasses
from typing import Any

from fastapi import FastAPI
from fastapi.responses import FileResponse, Response

from neurodial import __version__
from neurodial.errors import OptionError, UnknownNameError
from neurodial.evaluation.options import Evaluation
from neurodial.export import formats
from neurodial.methods.comparators import COMPARATORS
from neurodial.methods.registry import METHOD_WORDS, METHODS
from neurodial.studio import requests, tasks, tasks_discover, tasks_explain, tasks_measure
from neurodial.studio.file_routes import file_routes, sandboxed
from neurodial.studio.jobs import Job
from neurodial.studio.option_forms import form
from neurodial.studio.prompt_preview import TokenizerView, check_view
from neurodial.studio.safety import NEURON_POLICY
from neurodial.studio.studio_state import StudioState, without
from neurodial.studio.tasks_discover import Discovered
from neurodial.studio.tasks_explain import ExplainedPage
from neurodial.studio.views import circuit_view, experts_view, overlap_view

Plain = dict[str, Any]


def work_routes(app: FastAPI, studio: StudioState) -> None:
    """What starts a job; each gives the job."""
    queue = studio.queue

    @app.post("/api/answers")
    def answers(asked: requests.AnswerRequest) -> Plain:
        run = tasks.answer(studio, asked)
        title = asked.steered[-1].content[:80]
        return job_values(queue.submit("answer", title, run, asked=asked.model_dump(), is_urgent=True))

    @app.post("/api/strips")
    def strips(asked: requests.StripRequest) -> Plain:
        run = tasks.strip(studio, asked)
        title = asked.chat[-1].content[:80]
        return job_values(queue.submit("strip", title, run, asked=asked.model_dump(), is_urgent=True))

    @app.post("/api/discoveries")
    def discoveries(asked: requests.Discovery) -> Plain:
        run = tasks_discover.discover(studio, asked)
        title = f"{asked.name}: {asked.method} on {asked.prompts.set or asked.prompts.name}"
        return job_values(queue.submit("discover", title, run, asked=asked.model_dump()))

    @app.post("/api/openers")
    def find_openers(asked: requests.OpenersRequest) -> Plain:
        run = tasks_discover.openers(studio, asked)
        return job_values(queue.submit("openers", asked.prompts, run, asked=asked.model_dump()))

    @app.post("/api/neurons")
    def neurons(asked: requests.NeuronRequest) -> Plain:
        run = tasks_explain.neuron(studio, asked)
        title = f"layer {asked.layer}, neuron {asked.index}"
        return job_values(queue.submit("neuron", title, run, asked=asked.model_dump(), is_urgent=True))

    @app.post("/api/wholes")
    def wholes(asked: requests.WholeRequest) -> Plain:
        run = tasks_explain.whole(studio, asked)
        return job_values(queue.submit("whole", asked.circuit, run, asked=asked.model_dump(), is_urgent=True))

    @app.post("/api/measurements")
    def measurements(asked: requests.MeasurementRequest) -> Plain:
        run = tasks_measure.measure(studio, asked)
        title = f"{', '.join(asked.circuits)} on {asked.prompts}"
        return job_values(queue.submit(asked.kind, title, run, asked=asked.model_dump()))

    @app.post("/api/exports")
    def exports(asked: requests.ExportRequest) -> Plain:
        run = tasks_measure.export(studio, asked)
        return job_values(queue.submit("export", f"{asked.name} as {asked.route}", run, asked=asked.model_dump()))

    @app.get("/api/jobs/{number}/result")
    def result(number: int) -> Plain:
        value = _result(studio, number)
        return value.view() if isinstance(value, Discovered | ExplainedPage) else dict(value)

    @app.get("/api/jobs/{number}/page")
    def job_page(number: int) -> Response:
        value = _result(studio, number)
        if not isinstance(value, ExplainedPage):
            raise OptionError(f"Job {number} made no page.", wanted="one that explains a neuron or a circuit")
        return sandboxed(value.html, NEURON_POLICY)


def library_routes(app: FastAPI, studio: StudioState) -> None:
    """What is there to look at."""
    tokenizer_view = TokenizerView(studio.subject)
    collection = studio.collection

    @app.get("/api/model")
    def model() -> Plain:
        return model_view(studio)

    @app.get("/api/prompt-sets")
    def prompt_sets() -> list[Plain]:
        return collection.prompt_sets()

    @app.post("/api/prompts/check")
    def check(asked: requests.CheckRequest) -> Plain:
        return check_view(collection, tokenizer_view, asked)

    @app.get("/api/openers")
    def openers() -> Plain:
        return dict(studio.openers())

    @app.get("/api/circuits")
    def circuits() -> list[Plain]:
        return [
            {
                "id": stored.id,
                "name": stored.circuit.name,
                "direction": stored.circuit.direction,
                "neurons": len(stored.circuit),
                "origin": stored.origin,
            }
            for stored in collection.circuits()
        ]

    @app.get("/api/circuits/{name}")
    def circuit(name: str) -> Plain:
        return {"circuit": circuit_view(name, collection.circuit(name)), "scores": collection.picture(name)}

    @app.post("/api/circuits")
    def save(asked: requests.SaveRequest) -> Plain:
        return {"id": save_circuit(studio, asked)}

    @app.get("/api/overlap/{first}/{second}")
    def overlap(first: str, second: str) -> Plain:
        return overlap_view(collection.circuit(first), collection.circuit(second))

    file_routes(app, studio)  # before the reports' own: a file is no part of a report
    _report_routes(app, studio)
    _export_routes(app, studio)


def _report_routes(app: FastAPI, studio: StudioState) -> None:
    collection = studio.collection

    @app.get("/api/methods")
    def methods() -> list[str]:
        return list(COMPARATORS)

    @app.get("/api/options")
    def options() -> Plain:
        return options_view()

    @app.get("/api/reports")
    def reports() -> list[Plain]:
        names = collection.report_names()
        listed = [(name, collection.report(name)) for name in collection.reports()]
        return [
            {"id": name, "name": names.get(name, name), "parts": tasks_measure.report_parts(folder)}
            for name, folder in listed
        ]

    @app.get("/api/reports/{name}/{part}")
    def report(name: str, part: str) -> Plain:
        called = collection.report_names().get(name, name)
        return {"name": called, **tasks_measure.report_view(name, collection.report(name), part)}

    @app.get("/api/reports/{name}/{part}/page")
    def page(name: str, part: str) -> Response:
        folder = tasks_measure.part_folder(collection.report(name), part)
        return sandboxed((folder / "report.html").read_text(encoding="utf-8"))


def _export_routes(app: FastAPI, studio: StudioState) -> None:
    collection = studio.collection

    @app.get("/api/export-formats")
    def export_formats() -> list[Plain]:
        return export_formats_view()

    @app.get("/api/exports")
    def exports() -> list[str]:
        return collection.exports()

    @app.get("/api/exports/{name}")
    def export(name: str) -> Plain:
        return tasks_measure.export_view(name, collection.export(name))

    @app.get("/api/exports/{name}/files/{number}")
    def file(name: str, number: int) -> Response:
        files = tasks_measure.export_files(collection.export(name))
        if not 0 <= number < len(files):
            raise UnknownNameError(f"There is no file {number}.", wanted=f"0 to {len(files) - 1}")
        return FileResponse(files[number], media_type="application/octet-stream", filename=files[number].name)


def options_view() -> Plain:
    """The forms of what may be asked for: of each method of discovery, and of an evaluation."""
    methods = [{"name": name, "title": METHOD_WORDS[name], "options": form(METHODS[name]())} for name in METHODS]
    return {"methods": methods, "evaluation": form(Evaluation.quick())}


def export_formats_view() -> list[Plain]:
    """The formats that a circuit leaves in, as the page offers them."""
    return [{"name": form.name, "title": form.title, "summary": form.summary} for form in formats.FORMATS]


def model_view(studio: StudioState) -> Plain:
    """What the page says about the model."""
    subject = studio.subject
    return {
        "label": subject.label,
        "family": subject.layout.label,
        "widths": [len(subject.everything.layer_span(layer)) for layer in range(subject.layers)],
        "experts": experts_view(subject.everything, subject.layers),
        "neurons": subject.neurons,
        "context": subject.context_length,
        "chat": subject.has_chat,
        "gguf": (subject.source or "").endswith(".gguf"),
        "adapter": subject.adapter is not None,
        "dtype": str(subject.dtype).removeprefix("torch."),
        "version": __version__,
    }


def save_circuit(studio: StudioState, asked: requests.SaveRequest) -> str:
    """Keep a circuit that a job found, or a copy of one less some neurons.

    Raises:
        OptionError: neither or both are named, or nothing would be left.
        UnknownNameError: there is no such job or circuit.
    """
    if (asked.job is None) == (not asked.circuit):
        raise OptionError("A circuit to save is not named.", wanted="a job that found one, or a circuit")
    picture = None
    if asked.job is not None:
        discovered = _result(studio, asked.job)
        if not isinstance(discovered, Discovered):
            raise OptionError(f"Job {asked.job} found no circuit.", wanted="a discovery")
        circuit, picture = discovered.circuit, discovered.picture
    else:
        circuit, picture = studio.collection.circuit(asked.circuit), studio.collection.picture(asked.circuit)
    kept = without(circuit, asked.off, studio.subject.everything)
    if not len(kept):
        raise OptionError("Every neuron is switched off.", wanted="at least one to keep")
    return studio.collection.save_circuit(
        dataclasses.replace(kept, name=asked.name), picture if not asked.off else None
    )


def job_values(job: Job) -> dict[str, Any]:
    """A job as the page sees it; its events are read apart."""
    description, done, total = job.steps.progress
    return {
        "id": job.number,
        "kind": job.kind,
        "title": job.title,
        "state": job.state,
        "created": job.created,
        "progress": {"description": description, "done": done, "total": total},
        "steps": job.steps.view(),
        "error": job.error,
        "asked": job.asked,
    }


def find_job(studio: StudioState, number: int) -> Job:
    """A job by its number.

    Raises:
        UnknownNameError: there is none.
    """
    job = studio.queue.find(number)
    if job is None:
        raise UnknownNameError(f"There is no job {number}.", fix="It may have been forgotten; start it again.")
    return job


def _result(studio: StudioState, number: int) -> Any:
    job = find_job(studio, number)
    if job.value is None:
        raise OptionError(f"Job {number} is {job.state}.", wanted="one that is done")
    return job.value
