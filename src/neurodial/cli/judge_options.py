"""Options for judges, shared by the commands that judge answers. Torch-free, so that help is quick."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import Group, Parameter

from neurodial.errors import FileError, OptionError

if TYPE_CHECKING:
    from neurodial.evaluation.detectors.base import Detector


@Parameter(name="*", group=Group("Judge", sort_key=30))
@dataclass(frozen=True)
class JudgeOptions:
    """A judge beside the detectors.

    Attributes:
        judge: address of an OpenAI-compatible endpoint, such as http://127.0.0.1:8000/v1.
        judge_model: the judge model's name there.
        judge_key: environment variable that holds the endpoint's key.
        rubric: text file that says when an answer shows the behaviour, or `strongreject` for that formula.
        judge_timeout: seconds to wait for one answer.
        judge_retries: how often a failed request is repeated.
        classifier: folder or Hub id of a local sequence classifier.
        classifier_labels: its labels that stand for the behaviour, between commas.
        classifier_threshold: the probability from which the behaviour counts as shown.
    """

    judge: str | None = None
    judge_model: str = "default"
    judge_key: str = "NEURODIAL_JUDGE_KEY"
    rubric: str | None = None
    judge_timeout: float = 60.0
    judge_retries: int = 3
    classifier: str | None = None
    classifier_labels: str = ""
    classifier_threshold: float = 0.5

    def judges(self) -> list[Detector]:
        """The judges that the options name.

        Raises:
            OptionError: an option is not valid, or is given without the one that it belongs to.
            FileError: there is no such rubric file.
        """
        judges: list[Detector] = []
        if self.judge is None and self.rubric is not None:
            raise OptionError("--rubric came without --judge.", wanted="the address of the judge's endpoint")
        if self.judge is not None:
            from neurodial.evaluation.detectors.endpoint import Endpoint
            from neurodial.evaluation.detectors.judges import REFUSAL_RUBRIC, RubricJudge, StrongReject

            endpoint = Endpoint(
                self.judge, self.judge_model, self.judge_key, timeout=self.judge_timeout, retries=self.judge_retries
            )
            if self.rubric == "strongreject":
                judges.append(StrongReject(endpoint))
            else:
                judges.append(RubricJudge(endpoint, REFUSAL_RUBRIC if self.rubric is None else _text(self.rubric)))
        if self.classifier is not None:
            from neurodial.evaluation.detectors.judges import Scoring, load_classifier

            labels = tuple(label.strip() for label in self.classifier_labels.split(",") if label.strip())
            judges.append(load_classifier(self.classifier, Scoring(labels, self.classifier_threshold)))
        return judges


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"The rubric {path} can't be read: {error}.", wanted="a text file, or strongreject") from error
