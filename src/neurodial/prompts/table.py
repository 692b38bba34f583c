"""The TOML file of a behaviour: its fields, and its prompts or the file that holds them."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from neurodial.errors import FileError, PromptError
from neurodial.prompts.cells import fold
from neurodial.prompts.columns import near
from neurodial.prompts.pairs import Behaviour


class BehaviourFile(BaseModel):
    """What the TOML file of a behaviour may hold. Other fields (authors, kind …) are the writer's own."""

    model_config = ConfigDict(extra="ignore", strict=True)
    name: str | None = None
    title: str = ""
    description: str = ""
    margin: Literal["openers", "answer"] = "openers"
    detector: str = ""
    rate_on: Literal["positive", "negative"] = "positive"
    is_harmful: bool = False
    answers: Annotated[tuple[str, str] | None, Field(strict=False)] = None
    system_prompts: Annotated[tuple[str, str] | None, Field(strict=False)] = None
    licence: str = ""
    file: str | None = None
    positive: list[Any] | None = None
    negative: list[Any] | None = None

    def behaviour(self, *, default: str) -> Behaviour:
        """The behaviour described; `default` is its name where the table has none."""
        values = {field.name: getattr(self, field.name) for field in fields(Behaviour)}
        return Behaviour(**{**values, "name": self.name or default})


def read_table(path: Path) -> BehaviourFile:
    """The table in a behaviour's TOML file.

    Raises:
        FileError: the file can't be read, or is not TOML.
        PromptError: a field has a value that is not valid.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FileError(f"{path} can't be read as TOML: {error}.") from error
    named = {fold(name): value for name, value in values.items()}
    if len(named) < len(values):
        raise PromptError(f"{path.name}: a field is listed twice, in other letters: {', '.join(values)}.")
    for name in named.keys() - BehaviourFile.model_fields.keys():
        meant = near(name, BehaviourFile.model_fields.keys() - named.keys())
        if meant is not None:
            raise PromptError(
                f"{path.name}: the field {name!r} is not known. Did you mean {meant!r}?",
                wanted=", ".join(BehaviourFile.model_fields),
                fix="Name it so, or take it out.",
            )
    try:
        return BehaviourFile.model_validate(named)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(key) for key in first["loc"])
        raise PromptError(f"{path.name}: {where} is {first['input']!r}: {first['msg']}.") from error
