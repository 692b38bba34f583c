"""What an evaluation can't have where an engine runs the model: said before anything is loaded, or in the report."""

from __future__ import annotations

from collections.abc import Sequence

from neurodial.errors import OptionError
from neurodial.evaluation.mmlu_run import harness_tasks
from neurodial.evaluation.options import Evaluation
from neurodial.generation.decoding import Decoding
from neurodial.generation.running_engine import RunningEngine
from neurodial.intervention.base import Intervention, Together
from neurodial.intervention.scale import Scale

METHODS = ("random", "random-layer", "prompt")
"""Methods to compare with that need neither slopes nor what goes on in the model."""
_MARGINS = {"spans"}
_ELSEWHERE = (
    "Compare in transformers, on a quantised base (--load-in 4bit) or over several devices (--device-map auto), and "
    "measure the dials here."
)


def check_in_engine(interventions: Sequence[Intervention], against: Sequence[str], options: Evaluation) -> None:
    """Refuse what an engine can't measure: it gives answers, and how likely tokens are.

    Raises:
        OptionError: names it, and the way round.

    Example:
        >>> check_in_engine([], ["caa"], Evaluation())
        Traceback (most recent call last):
        neurodial.errors.OptionError: Method caa reads or changes what goes on in the model, ...
    """
    other = next((name for name in against if name not in METHODS), None)
    if other is not None:
        raise OptionError(
            f"Method {other} reads or changes what goes on in the model, which an engine does not let us do.",
            wanted=f"--against {', '.join(METHODS)}, with an engine",
            fix=_ELSEWHERE,
        )
    if options.margin in _MARGINS:
        raise OptionError(
            f"The margin {options.margin} reads what the model would say otherwise, which an engine does not tell.",
            wanted="openers, alternatives, answer, own-answers or none, with an engine",
        )
    tasks = harness_tasks(options.harness)
    if tasks:
        raise OptionError(
            f"The task {tasks[0]} is run by lm-evaluation-harness on a model in transformers.",
            wanted="--tasks mmlu, with an engine",
            fix="Export the circuit (--as vllm) and run the harness on it: lm_eval --model vllm.",
        )
    if options.decoding.batch_size != Decoding.batch_size:
        raise OptionError(
            f"The batch size is {options.decoding.batch_size}, and an engine makes batches of its own.",
            wanted="no --batch-size, with an engine",
            fix="Use vLLM's option: -- --max-num-seqs 64.",
        )
    for intervention in interventions:
        for part in intervention.parts if isinstance(intervention, Together) else (intervention,):
            _check_part(part)


def _check_part(part: Intervention) -> None:
    if not isinstance(part, Scale):
        raise OptionError(
            f"{type(part).__name__} changes activations in a way that no adapter does.",
            wanted="circuits at dials, with an engine",
            fix=_ELSEWHERE,
        )
    name = part.circuit.name
    if part.when != "all":
        raise OptionError(
            f"The circuit {name!r} acts on the {part.when} tokens alone, and an adapter acts on all.",
            wanted="no --when, with an engine",
            fix=_ELSEWHERE,
        )
    if part.circuit.condition is not None:
        raise OptionError(
            f"The circuit {name!r} acts only on prompts on which a condition holds ({part.circuit.condition.text}), "
            "and an adapter acts on all.",
            wanted="a circuit without a condition, with an engine",
            fix="Leave it out (--condition none), or measure in transformers.",
        )
    if any(row.neuron.expert is not None for row in part.circuit):
        raise OptionError(
            f"The circuit {name!r} has neurons in routed experts, which vLLM takes no adapter for.",
            wanted="neurons of dense and shared MLPs, with an engine",
            fix="Measure it in transformers; or serve it with a dial for each request (neurodial export --as "
            "vllm-bank), or in the weights (--as weights).",
        )


def engine_notes(engine: RunningEngine, options: Evaluation) -> list[str]:
    """What a report says of the engine that ran the model, and of what could not be had there."""
    name = f"{engine.record['name']} {engine.record['version']}"
    speed = "Speed is not measured there: how long a steered pass takes depends on what runs beside it."
    how = "in its own layers, without LoRA" if engine.record.get("dials") == "in the layers" else "as an adapter (LoRA)"
    notes = [f"{name} ran the model, each circuit at each dial {how}. {speed}"]
    if options.questions or options.harness.tasks:
        notes.append(
            "Multiple choice has no positive control here: a random tenth of the neurons is more than an adapter holds."
        )
    return notes
