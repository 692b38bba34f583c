"""What the processes of an engine gathered, each its part: checked to be whole, and given to sinks as `collect` gives.

A piece holds the neurons of one site that one process has, for a run of prompts, in a safetensors file:

- dense: `rows` (prompt, neuron); routed: `rows` (visit, neuron), routing weight times activation, `prompt` and `expert`
  of each visit;
- `tokens` (prompt): how many of each prompt's tokens were seen.

`gathered.json` lists the pieces, and is written last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from neurodial.activations.collect import Reading, Sink, check_finite
from neurodial.circuit.site import Site, site_of
from neurodial.engines.job import GatheringJob
from neurodial.engines.job_results import JobResults, read_results
from neurodial.engines.vllm_range import MANIFEST
from neurodial.errors import EngineError
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.render import Tokens

FORMAT = "neurodial.gathered"
_REMOVE = "Remove the folder and start again."
_AGAIN = "Start it again; if it happens again, the engine's version or this option is not supported: please report it."


class GatheredPiece(BaseModel):
    """One part of what was gathered.

    Attributes:
        file: its name.
        site: the name of its site.
        rank: the process that it comes from.
        first: the first of its prompts.
        last: the prompt after its last.
        start: its first neuron.
        stop: the neuron after its last.
        experts: the experts that the process has, None for a dense site.
        visits: to how many experts each token goes.
    """

    model_config = ConfigDict(extra="forbid")
    file: str
    site: str
    rank: int
    first: int
    last: int
    start: int
    stop: int
    experts: list[int] | None = None
    visits: int = 1


class GatheredList(JobResults):
    """The list of all pieces.

    Attributes:
        dtype: that the engine computed in.
        pieces: all of them.
    """

    dtype: str
    pieces: list[GatheredPiece]


def read_gathered(folder: Path, job: GatheringJob) -> GatheredList:
    """The list of pieces in a folder.

    Raises:
        EngineError: it is damaged, or of another job.
    """
    other = "gathered for another job (model, prompts or position)"
    return read_results(GatheredList, folder / MANIFEST, FORMAT, job.digest, other)


class GatheredRows:
    """Everything that was gathered for a job, whole and once. Its `read` is a `Reader`.

    Args:
        folder: of the pieces.
        subject: the model.
        job: what was asked.
        manifest: the list of pieces.

    Raises:
        EngineError: a neuron or a prompt is not there once.
    """

    def __init__(self, folder: Path, subject: Subject, job: GatheringJob, manifest: GatheredList) -> None:
        self.manifest = manifest
        self._folder, self._subject, self._job = folder, subject, job
        self._runs: dict[tuple[int, int], dict[Site, list[GatheredPiece]]] = {}
        for piece in manifest.pieces:
            run = self._runs.setdefault((piece.first, piece.last), {})
            run.setdefault(site_of(piece.site), []).append(piece)
        self._check_prompts()
        for run in self._runs.values():
            for site in subject.sites:
                _check_neurons(site, subject.shape(site), run.get(site, []))

    def _check_prompts(self) -> None:
        """The runs of prompts follow each other from the first to the last."""
        at = 0
        for first, last in sorted(self._runs):
            if first != at:
                break
            at = last
        if at != len(self._job.read) or sum(last - first for first, last in self._runs) != at:
            raise EngineError(
                f"The engine gave the runs of prompts {sorted(self._runs)}.",
                wanted=f"each of {len(self._job.read)} prompts once",
                fix=_AGAIN,
            )

    def read(
        self,
        subject: Subject,
        sequences: Sequence[Tokens],
        reading: Reading,
        sink: Sink,
        *,
        progress: Progress = silent,
    ) -> None:
        """Give the activations of sequences of the job to a sink, run by run.

        Raises:
            EngineError: a token that is read was not seen once in every piece.
            ActivationError: an activation is not finite.
        """
        del subject, reading
        wanted: dict[int, list[int]] = {}
        for row, tokens in enumerate(sequences):
            wanted.setdefault(self._job.numbers[tokens], []).append(row)
        with progress("reading what was gathered", len(sequences)) as advance:
            for (first, last), run in sorted(self._runs.items()):
                places = [(number - first, row) for number in range(first, last) for row in wanted.get(number, ())]
                if not places:
                    continue
                chosen = torch.tensor([place for place, _ in places])
                for site in self._subject.sites:
                    cells = self._cells(site, last - first, run[site])[chosen]
                    check_finite({site: torch.isfinite(cells).all()})
                    sink(site, cells, tuple(row for _, row in places))
                advance(len(places))

    def _cells(self, site: Site, prompts: int, pieces: Sequence[GatheredPiece]) -> Tensor:
        """The activations of a site for one run of prompts, (prompt, *neuron), in float32."""
        cells = torch.zeros(prompts, *self._subject.shape(site))
        visited: dict[tuple[int, int], Tensor] = {}
        for piece in pieces:
            tensors = self._tensors(piece)
            rows = tensors["rows"].float()
            if not site.routed:
                cells[:, piece.start : piece.stop] = rows
                continue
            prompt, expert = tensors["prompt"].long(), tensors["expert"].long()
            cells[:, :, piece.start : piece.stop].index_put_((prompt, expert), rows, accumulate=True)
            counts = visited.setdefault((piece.start, piece.stop), torch.zeros(prompts, dtype=torch.long))
            counts += torch.bincount(prompt, minlength=prompts)
        for counts in visited.values():
            self._check_visits(site, pieces[0], counts)
        return cells

    def _tensors(self, piece: GatheredPiece) -> Mapping[str, Tensor]:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            tensors = load_file(self._folder / piece.file)
            seen = tensors["tokens"].tolist()
            wide = tensors["rows"].shape[1] == piece.stop - piece.start
        except (OSError, KeyError, IndexError, ValueError, SafetensorError) as error:
            raise EngineError(f"{self._folder / piece.file} is damaged: {error}", fix=_REMOVE) from error
        wanted = [len(self._job.read[number]) for number in range(piece.first, piece.last)]
        if seen != wanted or not wide:
            number = next((n for n, (a, b) in enumerate(zip(seen, wanted, strict=False)) if a != b), 0)
            raise EngineError(
                f"Process {piece.rank} saw {seen[number] if seen else 0} tokens of prompt {piece.first + number} at "
                f"layer {piece.site}.",
                wanted=f"{wanted[number]}, each once",
                fix=_AGAIN,
            )
        return tensors

    def _check_visits(self, site: Site, piece: GatheredPiece, counts: Tensor) -> None:
        wanted = torch.tensor([len(self._job.read[number]) for number in range(piece.first, piece.last)])
        if not torch.equal(counts, wanted * piece.visits):
            raise EngineError(
                f"Tokens that were read came to {int(counts.sum())} experts of layer {site.layer} in all.",
                wanted=f"{int(wanted.sum()) * piece.visits}: each to {piece.visits}",
                fix=_AGAIN,
            )


def _check_neurons(site: Site, shape: tuple[int, ...], pieces: Sequence[GatheredPiece]) -> None:
    """Every neuron of a site lies in one piece."""
    experts = range(shape[0]) if site.routed else (None,)
    for expert in experts:
        mine = [piece for piece in pieces if expert is None or expert in (piece.experts or ())]
        at = 0
        for piece in sorted(mine, key=lambda piece: piece.start):
            if piece.start != at:
                break
            at = piece.stop
        if at != shape[-1] or sum(piece.stop - piece.start for piece in mine) != at:
            parts = ", ".join(f"{piece.start} to {piece.stop} (process {piece.rank})" for piece in mine) or "none"
            of = f"layer {site.layer}" if expert is None else f"expert {expert} of layer {site.layer}"
            raise EngineError(
                f"Of the {shape[-1]} neurons of {of} the engine gave {parts}.",
                wanted="each of them once",
                fix="Is the engine running another model? Otherwise this way of spreading it is not supported.",
            )
