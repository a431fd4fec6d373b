"""What `prefduel check` says of a valid config, and the look at its data that a run takes too. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from harness.config import ArmStage, Comparison
from harness.errors import UserError
from harness.hostile import terminal
from harness.requirements import requirements, requirements_not_met
from harness.rules import TOY, smallest_train_split
from pipelines.errors import PipelineError

if TYPE_CHECKING:
    from pipelines.data.inspect import Inspection

__all__ = ["check_lines", "look_at_data", "requirements_not_met"]


def check_lines(comparison: Comparison, *, arms: list[str] | None) -> Iterator[str]:
    """Lines for a person: what the config describes, what its data holds, what cannot be checked here.

    Args:
        comparison: A validated config.
        arms: Only these arms; all if None.

    Raises:
        UserError: local data that cannot serve: names file, row and column.
    """
    shape = comparison.training
    for name in arms or comparison.arms:
        yield _line("arm", f"{name}: {', then '.join(map(_stage_words, comparison.arms[name]))}")
    yield _line("controls", ", ".join(comparison.controls) or "none")
    last = comparison.first_seed + comparison.seeds - 1
    yield _line("seeds", f"{comparison.seeds} ({comparison.first_seed} to {last})")
    yield _line("model", comparison.model.name)
    accumulation = shape.effective_batch // shape.micro_batch
    yield _line(
        "training",
        f"{shape.tuning}, {shape.dtype}, {shape.effective_batch} pairs a step ({shape.micro_batch} x {accumulation}), "
        f"at most {shape.max_length} tokens a pair",
    )
    yield from _data_lines(comparison)
    groups = comparison.evaluations
    measured = [group.group for group in (groups.preference, groups.generation, groups.benchmarks) if group]
    yield _line("evaluations", ", ".join(measured))
    decision = comparison.decision
    yield _line(
        "decision",
        f"{decision.metric}, {decision.compare[0]} against {decision.compare[1]}, margin {decision.margin:g}, "
        f"alpha {decision.alpha:g}",
    )
    for requirement in requirements(comparison):
        yield f"not checked here: {requirement.text}"


def look_at_data(comparison: Comparison) -> Inspection | None:
    """Read the pairs if they are on this machine; None if they are not, or are the toy world's.

    Raises:
        UserError: the data cannot serve: names file, row and column.
    """
    data = comparison.data
    if data.path == TOY or not Path(data.path).exists():
        return None
    from pipelines.data.inspect import inspect_rows

    try:
        found = inspect_rows(data)
    except PipelineError as error:
        raise UserError(str(error)) from error
    usable = found.num_usable
    if usable < found.num_rows * (1 - data.max_dropped):
        worst = max(found.dropped, key=lambda dropped: dropped.num_rows)
        raise UserError(
            f"{data.path}: at most {data.max_dropped:.0%} of the rows may drop out (data.max_dropped), got "
            f"{found.num_rows - usable} of {found.num_rows}, most of them for: {worst.reason} (row "
            f"{worst.first_rows[0]} first)."
        )
    if (expected := smallest_train_split(comparison, usable)) < comparison.training.effective_batch:
        raise UserError(
            f"{data.path}: training.effective_batch must be at most the number of training pairs (about "
            f"{expected:.0f} of {usable} usable rows), got {comparison.training.effective_batch}."
        )
    return found


def _data_lines(comparison: Comparison) -> Iterator[str]:
    data = comparison.data
    found = look_at_data(comparison)
    if found is None:
        made = f", {data.num_pairs} generated pairs" if data.path == TOY and data.num_pairs else ""
        yield _line("data", f"{data.path}{made}")
        return
    yield _line("data", f"{data.path}: form {found.form}, {found.num_rows} rows")
    yield _line("", f"columns {', '.join(found.columns)}")
    for dropped in found.dropped:
        rows = ", ".join(map(str, dropped.first_rows))
        more = ", ..." if dropped.num_rows > len(dropped.first_rows) else ""
        yield _line("", f"{dropped.num_rows} rows drop out: {dropped.reason} (rows {rows}{more})")


def _stage_words(stage: ArmStage) -> str:
    settings = [f"{name} {value}" for name, value in stage.arguments.items()]
    if stage.trainer == "dpo":
        settings.append(f"reference {stage.reference or 'copy'}")
    return f"{stage.trainer} ({', '.join(settings)})" if settings else stage.trainer


def _line(head: str, text: str) -> str:
    return terminal(f"{head:<12}{text}")
