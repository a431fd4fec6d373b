"""The root of every model that crosses between the packages, or is read from a file."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

LARGEST_VALUE = 1e30  # of anything measured: the statistics' fourth powers, too, must be what float64 holds
# What was used or counted; a file that says otherwise is damaged.
Quantity = Annotated[float, Field(ge=0, le=LARGEST_VALUE, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, lt=2**63)]


class Strict(BaseModel):
    """A model that refuses unknown keys and does not change after it was made.

    Built when first used: a config error then does not wait for the models of records and outcomes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, defer_build=True)
