"""neurodial: find the few neurons behind a behaviour of a language model, and turn it up or down.

Names are imported when they are first used, so `import neurodial` is quick and loads no torch.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from neurodial.activations.position import Index, Last, PostInstruction
    from neurodial.attribution.methods import CNA, Dose, UniversalFilter
    from neurodial.attribution.nodes import Mass, Threshold
    from neurodial.attribution.question import Question, ask
    from neurodial.attribution.rules import Rules
    from neurodial.attribution.trace import trace, why
    from neurodial.circuit.circuit import Circuit, Row
    from neurodial.circuit.compare import compare
    from neurodial.circuit.controls import random_control
    from neurodial.circuit.select import Count, Fraction
    from neurodial.circuit.site import Neuron, Site
    from neurodial.discovery import discover
    from neurodial.errors import NeurodialError
    from neurodial.evaluation.detectors.registry import detector
    from neurodial.evaluation.evaluate import evaluate
    from neurodial.evaluation.options import Evaluation
    from neurodial.evaluation.results import Report
    from neurodial.export.export import export_circuit, verify_export
    from neurodial.export.neurons import read_neurons, write_neurons
    from neurodial.export.vectors import read_vectors, write_vectors
    from neurodial.intervention.base import Together
    from neurodial.intervention.scale import Pin, Scale
    from neurodial.intervention.steer import steer
    from neurodial.intervention.vector import AddVector, ProjectOut
    from neurodial.measurement.audit import Audit, audit
    from neurodial.measurement.generate import Answer, generate
    from neurodial.measurement.options import Decoding
    from neurodial.measurement.single import SingleNeuron, single_neuron
    from neurodial.model.load import load
    from neurodial.model.subject import Subject
    from neurodial.prompts.pairs import Contrast, PairSet
    from neurodial.prompts.prompt import Example, Message

_HOMES = {
    "AddVector": "intervention.vector",
    "Answer": "measurement.generate",
    "Audit": "measurement.audit",
    "CNA": "attribution.methods",
    "Circuit": "circuit.circuit",
    "Contrast": "prompts.pairs",
    "Count": "circuit.select",
    "Decoding": "measurement.options",
    "Dose": "attribution.methods",
    "Evaluation": "evaluation.options",
    "Example": "prompts.prompt",
    "Fraction": "circuit.select",
    "Index": "activations.position",
    "Last": "activations.position",
    "Mass": "attribution.nodes",
    "Message": "prompts.prompt",
    "NeurodialError": "errors",
    "Neuron": "circuit.site",
    "PairSet": "prompts.pairs",
    "Pin": "intervention.scale",
    "PostInstruction": "activations.position",
    "ProjectOut": "intervention.vector",
    "Question": "attribution.question",
    "Report": "evaluation.results",
    "Row": "circuit.circuit",
    "Rules": "attribution.rules",
    "Scale": "intervention.scale",
    "SingleNeuron": "measurement.single",
    "Site": "circuit.site",
    "Subject": "model.subject",
    "Threshold": "attribution.nodes",
    "Together": "intervention.base",
    "UniversalFilter": "attribution.methods",
    "ask": "attribution.question",
    "audit": "measurement.audit",
    "compare": "circuit.compare",
    "detector": "evaluation.detectors.registry",
    "discover": "discovery",
    "evaluate": "evaluation.evaluate",
    "export_circuit": "export.export",
    "generate": "measurement.generate",
    "load": "model.load",
    "random_control": "circuit.controls",
    "read_neurons": "export.neurons",
    "read_vectors": "export.vectors",
    "single_neuron": "measurement.single",
    "steer": "intervention.steer",
    "trace": "attribution.trace",
    "verify_export": "export.export",
    "why": "attribution.trace",
    "write_neurons": "export.neurons",
    "write_vectors": "export.vectors",
}

__all__ = [
    "AddVector",
    "Answer",
    "Audit",
    "CNA",
    "Circuit",
    "Contrast",
    "Count",
    "Decoding",
    "Dose",
    "Evaluation",
    "Example",
    "Fraction",
    "Index",
    "Last",
    "Mass",
    "Message",
    "NeurodialError",
    "Neuron",
    "PairSet",
    "Pin",
    "PostInstruction",
    "ProjectOut",
    "Question",
    "Report",
    "Row",
    "Rules",
    "Scale",
    "SingleNeuron",
    "Site",
    "Subject",
    "Threshold",
    "Together",
    "UniversalFilter",
    "ask",
    "audit",
    "compare",
    "detector",
    "discover",
    "evaluate",
    "export_circuit",
    "generate",
    "load",
    "random_control",
    "read_neurons",
    "read_vectors",
    "single_neuron",
    "steer",
    "trace",
    "verify_export",
    "why",
    "write_neurons",
    "write_vectors",
]

logging.getLogger("neurodial").addHandler(logging.NullHandler())


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'neurodial' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"neurodial.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
