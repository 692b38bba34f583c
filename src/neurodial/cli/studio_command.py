"""`neurodial studio`: a local page to look at circuits, turn their dials, discover, measure and export."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from neurodial.cli.console import err
from neurodial.cli.explainer_options import ExplainerOptions
from neurodial.cli.model_options import ModelOptions
from neurodial.cli.nla_options import PairOptions, vector_wording
from neurodial.cli.options import read_circuits
from neurodial.errors import MissingPackageError

if TYPE_CHECKING:
    import socket

    from fastapi import FastAPI


def studio(
    model: str,
    *,
    circuit: Annotated[list[str] | None, Parameter(name=["--circuit", "-c"])] = None,
    folder: Path = Path("neurodial-studio"),
    host: str = "127.0.0.1",
    port: int = 8421,
    open: Annotated[bool, Parameter(negative="--no-open")] = True,
    force: bool = False,
    in_words: ExplainerOptions | None = None,
    autoencoder: PairOptions | None = None,
    loading: ModelOptions | None = None,
) -> None:
    """Open a local page: chat with a dial, discover, look, measure, export.

    Args:
        model: Hub id, local folder, GGUF file, `demo` or `demo-base`.
        circuit: `[name=]file` of a circuit to start with; repeatable.
        folder: where circuits, prompt sets, reports and exports made on the page are kept.
        host: the address to listen on. Anyone who can reach it can use the model: keep the default if possible.
        port: the port to listen on; 0 takes a free one.
        open: open the page in a browser.
        force: take circuits, and a pair, that were made on another model.
        in_words: a model that puts neurons into words on their pages; by default MODEL itself.
        autoencoder: a pair of models that puts vectors into words on the pages of circuits and neurons.
        loading: how the model is loaded.
    """
    for package in ("fastapi", "uvicorn"):
        if importlib.util.find_spec(package) is None:
            raise MissingPackageError(
                f"The studio needs the package {package}.", fix="Run `pip install 'neurodial[studio]'`."
            )
    in_words = in_words or ExplainerOptions()
    in_words.check()
    loading = loading or ModelOptions()
    circuits = {name: read for name, read, _ in read_circuits(circuit or [], default_dial=1.0)}
    from neurodial.serve.address import listen

    listening = listen(host, port)
    pair = (autoencoder or PairOptions()).pair(model, loading, force=force)
    subject = loading.load(model)
    if pair is not None:
        pair.check_subject(subject, force=force)
    explainer = in_words.made(model, subject, loading)

    from neurodial.intervention.scale import check_fits, template_notes
    from neurodial.studio.app import create_app
    from neurodial.studio.collection import Collection
    from neurodial.studio.jobs import JobQueue
    from neurodial.studio.ready_circuits import ready_circuits
    from neurodial.studio.studio_state import StudioState

    for note in template_notes(circuits.values(), subject):
        err.print(f"note: {note}", markup=False, style="dim")
    for read in circuits.values():
        check_fits(read, subject, force=force)
    queue = JobQueue()
    collection = Collection(folder, circuits, ready_circuits(subject))
    wording = vector_wording(pair, "neutral")
    state = StudioState(subject, collection, queue, force=force, explainer=explainer, autoencoder=wording)
    try:
        _serve(create_app(state, host=host), listening, open_page=open)
    finally:
        queue.close()


def _serve(app: FastAPI, listening: socket.socket, *, open_page: bool) -> None:
    import threading
    import webbrowser

    import uvicorn

    host, port = listening.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"}.get(host, host)  # noqa: S104  # shown, not bound
    address = f"http://{shown}:{port}/"
    err.print(f"the studio is open: {address}   (Ctrl-C ends it)", markup=False, soft_wrap=True)
    if open_page and _has_screen():
        threading.Timer(0.5, webbrowser.open, [address]).start()
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2, server_header=False)
    uvicorn.Server(config).run(sockets=[listening])


def _has_screen() -> bool:
    """Whether a browser window can open: without a display, a text browser would take over the terminal."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
