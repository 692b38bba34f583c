"""What an engine wrote down of a job when all of it was there: read, and held to format, version and job."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from neurodial.errors import EngineError

VERSION = 1


class JobResults(BaseModel):
    """What all such files say.

    Attributes:
        format: the file's.
        version: of the format.
        job: digest of the job.
        engine: its name, version and sizes.
    """

    format: str
    version: int
    job: str
    engine: dict[str, Any]


Results = TypeVar("Results", bound=JobResults)


def read_results(kind: type[Results], place: Path, known_as: str, digest: str, other: str) -> Results:
    """The results in a file.

    Args:
        kind: of results.
        place: the file, in the job's folder.
        known_as: its format.
        digest: of the job.
        other: what to say of the results of another job, such as `measured for another job`.

    Raises:
        EngineError: they are damaged, or of another job.
    """
    try:
        found = kind.model_validate_json(place.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise EngineError(f"{place} can't be read: {reason}", fix="Remove the folder and start again.") from error
    if (found.format, found.version) != (known_as, VERSION):
        raise EngineError(
            f"{place} is {found.format!r}, version {found.version}.",
            wanted=f"{known_as!r}, version {VERSION}",
            fix="Install the same neurodial beside the engine as here.",
        )
    if found.job != digest:
        raise EngineError(
            f"What {place.parent} holds was {other}.",
            wanted=f"the job {digest[:12]}; it is of {found.job[:12]}",
            fix="Remove the folder, or name another.",
        )
    return found
