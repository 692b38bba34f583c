"""What the page may ask for, each input with its bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from neurodial.evaluation.options import Evaluation
from neurodial.export.formats import known_format
from neurodial.methods.registry import METHODS
from neurodial.studio.option_forms import LONGEST_TEXT, request_model

if TYPE_CHECKING:
    from neurodial.studio.option_forms import GivenOptions as EvaluationOptions
    from neurodial.studio.option_forms import GivenOptions as MethodOptions

    MethodName = str
else:
    MethodOptions = request_model("MethodOptions", *(preset() for preset in METHODS.values()), module=__name__)
    EvaluationOptions = request_model("EvaluationOptions", Evaluation(), module=__name__)
    MethodName = Literal[tuple(METHODS)]

Id = Annotated[str, Field(min_length=1, max_length=80)]
Dial = Annotated[float, Field(ge=-100, le=100)]
Text = Annotated[str, Field(max_length=LONGEST_TEXT)]
Name = Annotated[str, Field(min_length=1, max_length=80)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Turned(_Request):
    """A circuit at a dial, some of its neurons perhaps left out."""

    id: Id
    dial: Dial = 1.0
    off: Annotated[list[tuple[int, int]], Field(max_length=20_000)] = []


class ChatTurn(_Request):
    """One message of a chat."""

    role: Literal["user", "assistant"]
    content: Text


Chat = Annotated[list[ChatTurn], Field(min_length=1, max_length=60)]


class _Drawn(_Request):
    """How answers are drawn."""

    system: Text = ""
    temperature: Annotated[float, Field(ge=0, le=10)] = 0.0
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    max_new_tokens: Annotated[int, Field(ge=1, le=2048)] = 128


class AnswerRequest(_Drawn):
    """An answer of both sides. Each side has a chat of its own: the answers in it differ."""

    unsteered: Chat
    steered: Chat
    circuits: Annotated[list[Turned], Field(max_length=8)] = []
    openers: Annotated[str, Field(max_length=80)] = ""


class StripRequest(_Drawn):
    """Answers to one chat with one circuit at several dials; the others stay where they are."""

    chat: Chat
    circuits: Annotated[list[Turned], Field(min_length=1, max_length=8)]
    moved: Id
    dials: Annotated[list[Dial], Field(min_length=1, max_length=8)]


class SavedStrip(_Request):
    """Answers at several dials, as a conversation keeps them."""

    moved: Name
    dials: Annotated[list[Dial], Field(min_length=1, max_length=8)]
    texts: Annotated[list[Text], Field(max_length=8)]


class SavedAnswers(_Request):
    """A prompt with both answers, as a conversation keeps them."""

    prompt: Text
    unsteered: Text = ""
    steered: Text = ""
    strip: SavedStrip | None = None


class ChatSettings(_Request):
    """How the answers of a conversation are drawn."""

    system: Text = ""
    temperature: Annotated[float, Field(ge=0, le=10)] = 0.0
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    length: Annotated[int, Field(ge=1, le=2048)] = 128
    openers: Annotated[str, Field(max_length=80)] = ""


class ConversationRequest(_Request):
    """A conversation to keep; with an id, in the place of the one of that id."""

    name: Name
    id: Annotated[str, Field(max_length=80)] = ""
    settings: ChatSettings = Field(default_factory=ChatSettings)
    circuits: Annotated[list[Turned], Field(max_length=8)] = []
    turns: Annotated[list[SavedAnswers], Field(max_length=200)] = []


class NameRequest(_Request):
    """A new name."""

    name: Name


class OpenRequest(_Request):
    """A file that somebody shared, to be checked and kept."""

    name: Annotated[str, Field(max_length=200)]
    text: Annotated[str, Field(max_length=1_000_000)]


class Prompts(_Request):
    """A contrast: one of the collection's sets, or two lists, or the lines of a JSONL file."""

    set: Annotated[str, Field(max_length=80)] = ""
    positive: Annotated[list[Text], Field(max_length=2000)] = []
    negative: Annotated[list[Text], Field(max_length=2000)] = []
    lines: Annotated[str, Field(max_length=800_000)] = ""
    name: Annotated[str, Field(max_length=80)] = "pasted"


class CheckRequest(_Request):
    """A contrast to look at before anything is run."""

    prompts: Prompts
    position: Annotated[str, Field(max_length=20)] = "last"
    system: Text = ""


class Discovery(_Request):
    """A circuit to find."""

    prompts: Prompts
    name: Name = "circuit"
    method: MethodName = "cna"
    options: MethodOptions = Field(default_factory=MethodOptions)


class OpenersRequest(_Request):
    """Openers to find."""

    prompts: Id


class SaveRequest(_Request):
    """A circuit to keep: one that a job found, or one of the collection less some neurons."""

    name: Name
    job: int | None = None
    circuit: Annotated[str, Field(max_length=80)] = ""
    off: Annotated[list[tuple[int, int]], Field(max_length=20_000)] = []


class Explained(_Request):
    """What is explained: its circuit, the prompts that it is read on, and what is asked for beyond reading."""

    circuit: Id
    prompts: Id
    words: bool = False
    vectors: bool = False
    show_harmful: bool = False


class NeuronRequest(Explained):
    """A neuron to explain: one of a circuit, or another of the model, which then stands alone."""

    layer: Annotated[int, Field(ge=0, le=10_000)]
    index: Annotated[int, Field(ge=0, le=10_000_000)]
    measure: bool = False


class WholeRequest(Explained):
    """A circuit to explain as a whole; with a prompt, the activations at some of its tokens too, in words."""

    prompt: Text = ""
    at: Annotated[str, Field(max_length=80)] = "last"


class MeasurementRequest(_Request):
    """An evaluation or a frontier."""

    kind: Literal["evaluate", "frontier"] = "evaluate"
    circuits: Annotated[list[Id], Field(min_length=1, max_length=8)]
    prompts: Id
    dials: Annotated[list[Dial], Field(min_length=1, max_length=20)]
    against: Annotated[list[Annotated[str, Field(max_length=40)]], Field(max_length=10)] = []
    options: EvaluationOptions = Field(default_factory=EvaluationOptions)


class ExportRequest(_Request):
    """Circuits to ship."""

    circuits: Annotated[list[Turned], Field(min_length=1, max_length=8)]
    route: Annotated[str, AfterValidator(known_format)]
    name: Name = "export"
