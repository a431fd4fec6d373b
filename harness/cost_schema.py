"""The form of what `summary.json` says of costs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.records import Missing
from pipelines.stages import Strict


class SeedCost(Strict):
    """What the training of one trial cost, all its stages."""

    seed: int
    train_seconds: float = Field(description="Training loops, and reference log-probs computed before them.")
    total_seconds: float = Field(
        description="The same stages from process start to record, less looks at validation pairs (phase `validate`)."
    )
    peak_memory_bytes: int = Field(description="The largest peak of its stages.")
    peak_device_memory_bytes: int | None = Field(
        None, description="The same by the device itself; null where one of its stages has none."
    )
    num_pairs_seen: int
    num_policy_tokens: int
    num_reference_tokens: int
    steady_train_seconds: float | None = Field(
        None, description="Without the first optimizer step of each stage."
    )
    waiting_seconds: float | None = Field(
        None, description="Of `train_seconds`: waiting for the data loader."
    )
    energy_joules: float | None = Field(None, description="What the GPU's board used, all its stages.")
    tokens_per_second: float | None = Field(None, description="Policy tokens over `train_seconds`.")


class CostSummary(Strict):
    """What training a model costs: means over seeds of sums over stages, peaks as maxima. Evaluation is not in it."""

    train_seconds: float | None = Field(description="null where no seed finished its training.")
    total_seconds: float | None
    shared_seconds: float | None = Field(
        None,
        description="`total_seconds` where a stage that serves several models is split evenly between them.",
    )
    peak_memory_bytes: int | None = Field(description="The largest over seeds and stages.")
    peak_memory_kind: Literal["cuda_reserved", "resident"] | None
    peak_device_memory_bytes: int | Missing
    num_pairs_seen: float | None
    num_policy_tokens: float | None
    num_reference_tokens: float | None
    steady_train_seconds: float | None = Field(
        None, description="Without the first optimizer step of each stage."
    )
    waiting_seconds: float | None = Field(
        None, description="Of `train_seconds`: waiting for the data loader."
    )
    energy_joules: float | Missing | None = Field(None, description="What the GPU's board used.")
    shared_energy_joules: float | None = Field(None, description="The same, split as `shared_seconds` is.")
    tokens_per_second: float | None = Field(
        None, description="Tokens through the policy over `train_seconds`."
    )
    operations: float | Missing | None = Field(None, description="Floating-point, by formula, of one seed.")
    peak_share: float | Missing | None = Field(
        None, description="Those operations over what the device could have done in `train_seconds`."
    )
    money: float | None = Field(description="`total_seconds` at the config's `price_per_hour`.")
    shared_money: float | None = Field(None, description="`shared_seconds` at that price.")
    currency: str
    relaxed: bool = Field(
        False,
        description="Whether stages of it ran where several could at a time (`metering: relaxed`): seconds and money are "
        "unreliable.",
    )
    by_seed: list[SeedCost]


CostQuantity = Literal[
    "train_seconds",
    "total_seconds",
    "peak_memory_bytes",
    "peak_device_memory_bytes",
    "num_policy_tokens",
    "energy_joules",
    "money",
]


class CostRatio(Strict):
    """The cost of the first arm of the verdict over that of the second, paired by seed."""

    quantity: CostQuantity
    ratio: float = Field(description="Geometric mean over seeds.")
    low: float | None = Field(description="Interval with the verdict's confidence; null with a single seed.")
    high: float | None
    num_seeds: int
    relaxed: bool = Field(
        False,
        description="Whether it is of seconds or money, and stages ran where several could at a time (`metering: relaxed`): "
        "it decides nothing.",
    )
    resident: bool = Field(
        False,
        description="Whether it is of peak memory that is a process's own on a CPU, libraries included: it says nothing of a "
        "GPU's.",
    )


class KindCost(Strict):
    """What all distinct stages of one kind took together: what was paid, each stage counted once."""

    kind: str
    num_stages: int
    total_seconds: float
    look_seconds: float = Field(
        0.0, description="Of it: looks at validation pairs during training, which are on no model's bill."
    )
