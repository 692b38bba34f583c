"""The model, the collection and the queue together: what every route and every job works with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from neurodial.circuit.circuit import Circuit
from neurodial.circuit.site import AllNeurons
from neurodial.errors import OptionError
from neurodial.explain.explainer import Explainer
from neurodial.explain.vector_section import VectorWording
from neurodial.intervention.base import Together
from neurodial.intervention.scale import Scale
from neurodial.model.subject import Subject
from neurodial.prompts.render import Tokens
from neurodial.studio.collection import Collection
from neurodial.studio.jobs import JobQueue
from neurodial.studio.requests import Turned
from neurodial.studio.views import neuron_of


@dataclass(frozen=True)
class StudioState:
    """What a studio works with.

    Attributes:
        subject: the model; only jobs may run it, one at a time.
        collection: circuits, prompt sets, reports, exports.
        queue: the queue of jobs.
        force: take circuits that were made on another model.
        explainer: who puts neurons into words; None for the model itself.
        autoencoder: a pair of models that puts vectors into words; None for none.
        found_openers: openers by the prompt set that they were found with.
        readings: what neurons' pages were made from, so that the next page of a circuit needs no other pass.
    """

    subject: Subject
    collection: Collection
    queue: JobQueue
    force: bool = False
    explainer: Explainer | None = None
    autoencoder: VectorWording | None = None
    found_openers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    readings: dict[object, Any] = field(default_factory=dict)

    def scale(self, turned: Turned) -> Scale:
        """A circuit at its dial, without the neurons that are switched off.

        Raises:
            UnknownNameError: there is no such circuit.
            OptionError: a neuron to switch off is not in it.
        """
        circuit = without(self.collection.circuit(turned.id), turned.off, self.subject.everything)
        return Scale(circuit, dial=turned.dial, force=self.force)

    def together(self, turned: list[Turned]) -> Together:
        """Several circuits at their dials."""
        return Together(tuple(self.scale(each) for each in turned))

    def openers(self) -> dict[str, tuple[str, ...]]:
        """Openers by their source: those found here, and those that circuits carry."""
        by_source = dict(self.found_openers)
        for stored in self.collection.circuits():
            report = stored.circuit.origin.report
            if report is not None and report.openers:
                by_source[f"circuit:{stored.id}"] = report.openers
        return by_source

    def opener_tokens(self, source: str) -> tuple[Tokens, ...]:
        """Openers of a source as token ids; none for the empty source.

        Raises:
            OptionError: the source has none.
        """
        if not source:
            return ()
        texts = self.openers().get(source)
        if texts is None:
            raise OptionError(f"There are no openers of {source!r}.", fix="Find them first, from a set of prompts.")
        return tuple(self.subject.encode(text, special=False) for text in texts)


def without(circuit: Circuit, off: list[tuple[int, int]], everything: AllNeurons) -> Circuit:
    """The circuit less some neurons, given as the page calls them: layer, and place in it.

    Raises:
        OptionError: one of them is not in it.
    """
    if not off:
        return circuit
    gone = {neuron_of(layer, place, everything) for layer, place in off}
    kept = [row for row in circuit if row.neuron not in gone]
    if len(kept) + len(gone) != len(circuit):
        raise OptionError(
            f"Neurons to switch off are not in the circuit {circuit.name!r}.", wanted="neurons of its table"
        )
    return Circuit.of(kept, name=circuit.name, direction=circuit.direction, origin=circuit.origin)
