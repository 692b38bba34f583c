"""`neurodial words`: activations, what steering changes, what a circuit writes, or a vector, in scored words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.text import Text

from neurodial.cli.console import bars, err, out, print_json, quiet_libraries
from neurodial.cli.declared import OUTPUT, command_options
from neurodial.cli.model_options import ModelOptions
from neurodial.cli.nla_options import PairOptions
from neurodial.cli.options import Texts, TwoLists, joined
from neurodial.errors import OptionError
from neurodial.nla.options import Verbalising

if TYPE_CHECKING:
    from neurodial.activations.position import Position
    from neurodial.circuit.circuit import Circuit
    from neurodial.cli.declared import Given as WordsGiven
    from neurodial.model.subject import Subject
    from neurodial.nla.vector_words import VectorWords
    from neurodial.nla.vectors import NamedVector
    from neurodial.prompts.pairs import PairSet
else:
    WordsGiven = command_options("WordsGiven", {"words": Verbalising()}, shared="How it is said", module=__name__)


def words(
    model: str,
    prompt: str | None = None,
    *,
    at: Texts = None,
    raw: bool = False,
    circuit: Path | None = None,
    dial: float = 1.0,
    behaviour: Annotated[str | None, Parameter(name=["--behaviour", "-b"])] = None,
    vector: Path | None = None,
    reference_texts: str = "neutral",
    force_model: bool = False,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"], group=OUTPUT)] = None,
    force: Annotated[bool, Parameter(group=OUTPUT)] = False,
    json: Annotated[bool, Parameter(group=OUTPUT)] = False,
    given: Annotated[WordsGiven | None, Parameter(name="*")] = None,
    lists: TwoLists | None = None,
    autoencoder: PairOptions | None = None,
    loading: ModelOptions | None = None,
) -> None:
    """Put a model's vectors into words, with how well each vector can be rebuilt from them.

    A prompt: the activations at its tokens; with --circuit, what steering changes there. --circuit without a prompt:
    what its neurons write. --behaviour alone: its contrastive vector. --vector: a steering vector's file.

    Args:
        model: Hub id, local folder, GGUF file, `demo` or `demo-base`.
        prompt: what the model reads.
        at: tokens of the prompt, by default the last: last, post-instruction, or indices, negative ones from the end.
        raw: take the prompt as plain text instead of as a chat message.
        circuit: a circuit's file.
        dial: of the circuit, where there is a prompt.
        behaviour: a shipped behaviour, or a file of contrasted prompts; for --circuit alone by default the circuit's.
        vector: file with steering vectors (.gguf or .safetensors), of which the one of the pair's layer is taken.
        reference_texts: ordinary texts that say what the mean activation is, a shipped list or a file.
        force_model: use a circuit or a pair that was made for another model.
        output: write the words and scores as JSON to this file.
        force: overwrite the file.
        json: print JSON.
        given: how many texts, how long.
        lists: the behaviour as two files.
        autoencoder: the pair of models.
        loading: how the model is loaded.
    """
    from neurodial.activations.position import parse_position
    from neurodial.circuit.file import read_circuit
    from neurodial.files import refuse_existing
    from neurodial.options import changed
    from neurodial.prompts.behaviours import read_prompt_list

    options = changed(Verbalising(), given.values() if given is not None else {}, title="words")
    positions = [parse_position(text) for text in joined(at, "last").split(",")]
    lists, loading = lists or TwoLists(), loading or ModelOptions()
    _one_source(prompt, circuit, vector, has_behaviour=behaviour is not None or lists != TwoLists())
    if prompt is None and (at is not None or raw):
        raise OptionError("--at and --raw are for a prompt.", wanted="a prompt, or neither of them")
    if output is not None:
        refuse_existing(output, overwrite=force)
    quiet_libraries()
    pair = (autoencoder or PairOptions()).pair(model, loading, force=force_model)
    if pair is None:
        raise OptionError(
            "No autoencoder is named.", wanted="--verbaliser and --reconstructor, each a Hub id or a folder",
            fix="Which models have one, and how to train one: docs/how-to/words.md.",
        )  # fmt: skip
    found = None if circuit is None else read_circuit(circuit)
    pairs = None
    if prompt is None and vector is None:
        pairs = lists.pairs(behaviour, [] if found is None else [found])
    reference_list = read_prompt_list(reference_texts)
    subject = loading.load(model)
    pair.check_subject(subject, force=force_model)
    from neurodial.nla.vector_words import activation_reference, put_vectors_into_words, scale_note, words_json

    asked = _Asked(prompt, positions, raw, found, dial, pairs, vector)
    vectors = asked.vectors(subject, pair.layer, force=force_model)
    reference = activation_reference(
        subject, reference_list.prompts, pair.layer, options, name=reference_list.name, progress=bars
    )
    note = scale_note(pair, reference)
    said = put_vectors_into_words(pair, vectors, reference, options, progress=bars)
    value = {**words_json(said, pair, reference), "note": note}
    if json:
        print_json(value)
    else:
        _show(said, note)
    if output is not None:
        from json import dumps

        from neurodial.files import write_atomic

        content = dumps(value, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
        err.print(f"written: {write_atomic(output, content, overwrite=force)}", markup=False)


def _one_source(prompt: str | None, circuit: Path | None, vector: Path | None, *, has_behaviour: bool) -> None:
    """Refuse nothing to put into words, and options that would be left unused."""
    if vector is not None and (prompt is not None or circuit is not None or has_behaviour):
        raise OptionError("--vector came with another source.", wanted="the vector alone")
    if prompt is not None and has_behaviour:
        raise OptionError("A behaviour came with a prompt.", wanted="one of the two")
    if prompt is None and circuit is None and vector is None and not has_behaviour:
        raise OptionError(
            "There is nothing to put into words.", wanted="a prompt, --circuit, --behaviour, or --vector FILE"
        )


@dataclass(frozen=True)
class _Asked:
    """What is put into words."""

    prompt: str | None
    positions: list[Position]
    raw: bool
    circuit: Circuit | None
    dial: float
    pairs: PairSet | None
    vector: Path | None

    def vectors(self, subject: Subject, layer: int, *, force: bool) -> list[NamedVector]:
        """The vectors, of the model that is loaded."""
        from neurodial.intervention.scale import Scale
        from neurodial.nla.vectors import contrast_vector, stored_vector, token_vectors, written_vector

        if self.vector is not None:
            return [stored_vector(self.vector, layer, subject.hidden_size)]
        if self.prompt is not None:
            tokens = subject.encode(self.prompt) if self.raw else subject.render([self.prompt])[0]
            under = None if self.circuit is None else Scale(self.circuit, self.dial, force=force)
            return token_vectors(subject, tokens, self.positions, layer, under=under)
        if self.pairs is None:
            raise OptionError("There is nothing to put into words.", wanted="a prompt, a circuit, or a behaviour")
        contrast = self.pairs.discovery
        if self.circuit is not None:
            return [written_vector(subject, self.circuit, contrast, layer, force=force)]
        return [contrast_vector(subject, contrast, layer, self.pairs.behaviour.name)]


def _show(said: tuple[VectorWords, ...], note: str | None) -> None:
    for words_of in said:
        out.print(Text.assemble((words_of.name, "bold"), f": {words_of.verdict}"))
        for sample in words_of.samples:
            score = "–" if sample.score is None else f"{sample.score.explained:+.2f}"
            problem = "" if sample.problem is None else f" [{sample.problem}]"
            out.print(Text(f"  {score}  {' '.join(sample.text.split())}{problem}"))
        for each in words_of.notes:
            out.print(Text(f"  note: {each}"))
    if note is not None:
        err.print(f"note: {note}", markup=False)
