"""Closed: what every table of settings is made of."""

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Closed(BaseModel):
    pace: ClassVar[frozenset[str]] = frozenset()
    """Keys that change how fast a stage runs and not what it makes: they make nothing stale."""
    further: ClassVar[frozenset[str]] = frozenset()
    """Keys that only ask for more: what a stage has made stays good, and it goes on from there."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
    )
