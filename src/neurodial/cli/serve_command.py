"""`neurodial serve`: an OpenAI-compatible server with a dial for each request."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from neurodial.cli.console import err
from neurodial.cli.model_options import ModelOptions
from neurodial.cli.options import WhichPrompts, read_circuits
from neurodial.errors import MissingPackageError
from neurodial.serve.options import EngineOptions, ServerOptions

if TYPE_CHECKING:
    from neurodial.model.subject import Subject
    from neurodial.serve.names import ModelNames

KEY_VARIABLE = "NEURODIAL_API_KEY"


def serve(
    model: str,
    *arguments: str,
    circuit: Annotated[list[str] | None, Parameter(name=["--circuit", "-c"])] = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    name: str | None = None,
    access_log: bool = False,
    engine: Annotated[EngineOptions | None, Parameter(name="*")] = None,
    server: Annotated[ServerOptions | None, Parameter(name="*")] = None,
    acting: WhichPrompts | None = None,
    loading: ModelOptions | None = None,
) -> None:
    """Serve a model over OpenAI's API, with a dial for each request.

    Args:
        model: Hub id, local folder, GGUF file, `demo` or `demo-base`.
        arguments: circuits, as with --circuit.
        circuit: `[name=]file[@dial]`, repeatable; the dial is that of requests that name none, 1 by default.
        host: the address to listen on; only this machine can reach the default.
        port: the port; 0 takes a free one.
        name: the name of the unsteered model for clients; by default MODEL, or the last part of a path.
        access_log: log each request.
        engine: how requests share the model.
        server: the limits of the server.
        acting: on which prompts circuits act; each request is decided by itself.
        loading: how the model is loaded.
    """
    options = server or ServerOptions()
    if options.api_key is None:
        options = replace(options, api_key=os.environ.get(KEY_VARIABLE) or None)
    _check_packages()
    from neurodial.serve.address import is_loopback, listen
    from neurodial.serve.names import ModelNames, ServedCircuit

    named = {own_name: (read, dial) for own_name, read, dial in read_circuits([*arguments, *(circuit or [])], 1.0)}
    acting = acting or WhichPrompts()
    served = {own_name: ServedCircuit(acting.on(read), dial) for own_name, (read, dial) in named.items()}
    model_names = ModelNames(name or _public_name(model), served, options.max_dial)
    listening = listen(host, port)
    with listening:
        subject = (loading or ModelOptions()).load(model)

        from neurodial.intervention.scale import template_notes
        from neurodial.serve.api import application
        from neurodial.serve.engine import Engine
        from neurodial.serve.prometheus import Metrics
        from neurodial.serve.run import Server

        metrics = Metrics()
        circuits = {own_name: entry.circuit for own_name, entry in served.items()}
        with Engine(subject, circuits, engine, on_pass=metrics.passed) as running:
            app = application(running, model_names, options, metrics)
            for note in template_notes([entry.circuit for entry in served.values()], subject):
                err.print(f"note: {note}", markup=False, style="dim")
            _show(listening.getsockname(), subject, model_names, has_key=options.api_key is not None)
            if not is_loopback(host):
                _warn(host, has_key=options.api_key is not None)
            Server(app, running, grace=options.grace, access_log=access_log).run(sockets=[listening])


def _check_packages() -> None:
    try:
        import fastapi  # noqa: F401  # only whether they are there
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingPackageError(
            f"The server needs the package {error.name}.",
            fix="Install it: pip install 'neurodial[serve]' (in a clone: pip install '.[serve]').",
        ) from error


def _public_name(model: str) -> str:
    """The name that clients see: a local path is shown as its last part, so that it reveals nothing of the machine."""
    path = Path(model).expanduser()
    return path.name if path.exists() or path.is_absolute() else model


def _show(address: tuple[str, int], subject: Subject, model_names: ModelNames, *, has_key: bool) -> None:
    """Where it listens, what it serves, and a request to try."""
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    url = f"http://{'localhost' if address[0] in {'0.0.0.0', '::'} else host}:{address[1]}"  # noqa: S104
    err.print(Text(f"neurodial serves {subject.label} on {url}/v1 (Ctrl-C ends it)"))
    table = Table("model", "what it is", "neurons", "dial")
    table.add_row(model_names.base, "unsteered", "", "")
    for name, served in model_names.circuits.items():
        table.add_row(f"{name}, {name}@0.5", "circuit", str(len(served.circuit)), f"{served.dial:g}")
    err.print(table)
    example = next((f"{name}@0.5" for name in model_names.circuits), model_names.base)
    key = ' -H "Authorization: Bearer $NEURODIAL_API_KEY"' if has_key else ""
    body = f'{{"model": "{example}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
    command = f"curl {url}/v1/chat/completions{key} -H 'Content-Type: application/json' -d '{body}'"
    err.print(Text(f"try: {command}"), soft_wrap=True)


def _warn(host: str, *, has_key: bool) -> None:
    words = f"warning: others on the network can reach {host}"
    words += "; the token goes over it in the clear." if has_key else ", and there is no token: see --api-key."
    err.print(Text(words, style="yellow"))
