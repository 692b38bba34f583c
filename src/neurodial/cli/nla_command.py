"""`neurodial nla`: train a verbaliser and a reconstructor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.table import Table

from neurodial.cli.console import bars, out, print_json, written
from neurodial.cli.declared import OUTPUT, command_options
from neurodial.cli.model_options import ModelOptions
from neurodial.nla.train_options import Training

if TYPE_CHECKING:
    from neurodial.cli.declared import Given as TrainGiven
else:
    TrainGiven = command_options("TrainGiven", {"nla": Training()}, shared="Training", module=__name__)


def nla(
    action: Literal["train"],
    model: str,
    *,
    texts: str,
    output: Annotated[Path, Parameter(name=["--output", "-o"], group=OUTPUT)],
    force: Annotated[bool, Parameter(group=OUTPUT)] = False,
    json: Annotated[bool, Parameter(group=OUTPUT)] = False,
    given: Annotated[TrainGiven | None, Parameter(name="*")] = None,
    loading: ModelOptions | None = None,
) -> None:
    """Train the two models that put a layer's vectors into words and back (`neurodial words`). Resumable.

    Supervised; with --reinforce N also by its own words' reconstruction, as the published pairs are.

    Args:
        action: train.
        model: Hub id, local folder, GGUF file, `demo` or `demo-base`.
        texts: what the model reads, a shipped list or a file; some thousand texts for words that mean something.
        output: folder for both models and report.json.
        force: overwrite a pair that stands there.
        json: print the scores as JSON.
        given: how it is trained.
        loading: how the model is loaded.
    """
    del action  # there is one so far
    from neurodial.files import refuse_folder
    from neurodial.options import changed
    from neurodial.prompts.behaviours import read_prompt_list

    options = changed(Training(), given.values() if given is not None else {}, title="nla train")
    refuse_folder(output, overwrite=force, mark="report.json")
    listed = read_prompt_list(texts)
    subject = (loading or ModelOptions()).load(model)
    from neurodial.nla.judge_pair import score_rows
    from neurodial.nla.train import train_pair

    trained = train_pair(subject, listed.prompts, output, options=options, overwrite=force, progress=bars)
    if json:
        print_json(trained.report.as_json())
    else:
        table = Table("held-out activations rebuilt from", "variance explained", "cosine", box=None)
        for row in score_rows(trained.report):
            table.add_row(*row)
        out.print(table)
    pair = ("--verbaliser", trained.verbaliser, "--reconstructor", trained.reconstructor)
    written(output, then=[("words", model, "PROMPT", *pair)])
