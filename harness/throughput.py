"""How fast training was: tokens and operations a second, and the share of the device's peak that this is."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.forecast.devices import peak_flops_of
from harness.records import Missing, Record, total
from pipelines.outcomes import Outcome, ReferenceOutcome, TrainOutcome
from pipelines.stages import ReferenceSettings, TrainSettings


def tokens_per_second(records: Sequence[Record]) -> float | None:
    """Tokens through the policy, padding not counted, over the seconds of training and of reference log-probs."""
    seconds = math.fsum(record.cost.train_seconds for record in records if record.cost is not None)
    tokens = sum(outcome.num_policy_tokens for record in records if (outcome := _trained(record.outcome)))
    return tokens / seconds if tokens and seconds > 0 else None


def operations(records: Sequence[Record]) -> float | Missing | None:
    """Floating-point operations by the models' formula; None where no version counted them."""
    return total(_operations(record) for record in records)


def peak_share(records: Sequence[Record]) -> float | Missing | None:
    """Operations by formula over what the device could have done in the same seconds (model FLOPs utilization)."""
    done = operations(records)
    if done is None or isinstance(done, Missing):
        return done
    possible = total(_possible(record) for record in records)
    return possible if isinstance(possible, Missing) else done / possible if possible else None


def _operations(record: Record) -> float | Missing | None:
    outcome = record.outcome
    work = outcome.work if isinstance(outcome, TrainOutcome | ReferenceOutcome) else None
    if work is None or work.operations is not None:
        return None if work is None else work.operations
    return Missing(reason=work.reason or "the model's shape is not known")


def _possible(record: Record) -> float | Missing | None:
    settings, cost = record.stage.settings, record.cost
    if cost is None or not isinstance(settings, TrainSettings | ReferenceSettings):
        return None
    name = record.machine.accelerator
    if record.stage.device == "cpu" or name is None:
        return Missing(reason="no data sheet gives the peak of this processor")
    peak = peak_flops_of(name, settings.dtype)
    if peak is None:
        return Missing(reason=f"the peak of {name} is not in this version's table")
    return cost.train_seconds * peak


def _trained(outcome: Outcome | None) -> TrainOutcome | None:
    return outcome if isinstance(outcome, TrainOutcome) else None
