"""The root of every model that crosses between the packages, or is read from a file."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A model that refuses unknown keys and does not change after it was made.

    Built when first used: a config error then does not wait for the models of records and outcomes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, defer_build=True)
