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
    from neurodial.circuit.circuit import Circuit, Row
    from neurodial.circuit.compare import compare
    from neurodial.circuit.controls import random_control
    from neurodial.circuit.selection import Count, Fraction, Mass, PerLayer, Threshold
    from neurodial.circuit.site import Neuron, Site
    from neurodial.discovery import discover
    from neurodial.errors import NeurodialError
    from neurodial.evaluation.audit import Audit, audit
    from neurodial.evaluation.detectors.registry import detector
    from neurodial.evaluation.evaluate import evaluate
    from neurodial.evaluation.options import Evaluation
    from neurodial.evaluation.results import Report
    from neurodial.export.export_circuit import export_circuit, verify_export
    from neurodial.export.neurons import read_neurons, write_neurons
    from neurodial.export.vector_file import read_vectors, write_vectors
    from neurodial.generation.decoding import Decoding
    from neurodial.generation.generate import Answer, generate
    from neurodial.intervention.base import Together
    from neurodial.intervention.scale import Pin, Scale
    from neurodial.intervention.steer import steer
    from neurodial.intervention.vector import AddVector, ProjectOut
    from neurodial.methods.cna.options import CNA, UniversalFilter
    from neurodial.methods.dose.options import Dose
    from neurodial.methods.single.find_neuron import SingleNeuron, single_neuron
    from neurodial.model.load import load
    from neurodial.model.subject import Subject
    from neurodial.prompts.pairs import Behaviour, Contrast, PairSet
    from neurodial.prompts.prompt import Example, Message
    from neurodial.prompts.template import Template
    from neurodial.tracing.question import Question, ask
    from neurodial.tracing.rules import Rules
    from neurodial.tracing.trace import trace, why

_HOMES = {
    "AddVector": "intervention.vector",
    "Answer": "generation.generate",
    "Audit": "evaluation.audit",
    "Behaviour": "prompts.pairs",
    "CNA": "methods.cna.options",
    "Circuit": "circuit.circuit",
    "Contrast": "prompts.pairs",
    "Count": "circuit.selection",
    "Decoding": "generation.decoding",
    "Dose": "methods.dose.options",
    "Evaluation": "evaluation.options",
    "Example": "prompts.prompt",
    "Fraction": "circuit.selection",
    "Index": "activations.position",
    "Last": "activations.position",
    "Mass": "circuit.selection",
    "Message": "prompts.prompt",
    "NeurodialError": "errors",
    "Neuron": "circuit.site",
    "PairSet": "prompts.pairs",
    "PerLayer": "circuit.selection",
    "Pin": "intervention.scale",
    "PostInstruction": "activations.position",
    "ProjectOut": "intervention.vector",
    "Question": "tracing.question",
    "Report": "evaluation.results",
    "Row": "circuit.circuit",
    "Rules": "tracing.rules",
    "Scale": "intervention.scale",
    "SingleNeuron": "methods.single.find_neuron",
    "Site": "circuit.site",
    "Subject": "model.subject",
    "Threshold": "circuit.selection",
    "Template": "prompts.template",
    "Together": "intervention.base",
    "UniversalFilter": "methods.cna.options",
    "ask": "tracing.question",
    "audit": "evaluation.audit",
    "compare": "circuit.compare",
    "detector": "evaluation.detectors.registry",
    "discover": "discovery",
    "evaluate": "evaluation.evaluate",
    "export_circuit": "export.export_circuit",
    "generate": "generation.generate",
    "load": "model.load",
    "random_control": "circuit.controls",
    "read_neurons": "export.neurons",
    "read_vectors": "export.vector_file",
    "single_neuron": "methods.single.find_neuron",
    "steer": "intervention.steer",
    "trace": "tracing.trace",
    "verify_export": "export.export_circuit",
    "why": "tracing.trace",
    "write_neurons": "export.neurons",
    "write_vectors": "export.vector_file",
}

__all__ = [
    "AddVector",
    "Answer",
    "Audit",
    "Behaviour",
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
    "PerLayer",
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
    "Template",
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
