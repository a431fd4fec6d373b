"""What `prefduel check` says of a valid config, and the look at its data that a run takes too. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from harness.config import ArmStage, Comparison
from harness.differences import TUNING, planned_differences
from harness.errors import UserError
from harness.hostile import terminal
from harness.judge_budget import judge_budget
from harness.requirements import requirements, requirements_not_met
from harness.sweep import points_of, sweep_metric
from pipelines.data.sources import TOY
from pipelines.data.splitting import SPLITS, share_size
from pipelines.errors import PipelineError
from pipelines.judge_settings import LlmJudge, mode_of

if TYPE_CHECKING:
    from pipelines.data.inspect import Inspection
    from pipelines.evaluations import Split
    from pipelines.stages import DataSettings

SFT_DATA = "sft.data"  # the key

__all__ = ["check_lines", "look_at_data", "look_at_sft_data", "requirements_not_met"]


def check_lines(comparison: Comparison, *, arms: list[str] | None) -> Iterator[str]:
    """Lines for a person: what the config describes, what its data holds, what cannot be checked here.

    Args:
        comparison: A validated config.
        arms: Only these arms; all if None.

    Raises:
        UserError: local data that cannot serve: names file, row and column; or a benchmark that there is nowhere.
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
    found = look_at_data(comparison)
    yield from _data_lines(comparison, found)
    yield from _sft_data_lines(comparison)
    for name in comparison.sweep.arms if comparison.sweep else ():
        yield _line(
            "sweep",
            f"{name}: {len(points_of(comparison, name))} points, chosen by {sweep_metric(comparison)}",
        )
    groups = comparison.evaluations
    measured = [
        group.group
        for group in (groups.preference, groups.generation, groups.benchmarks, groups.drift)
        if group
    ]
    yield _line("evaluations", ", ".join(measured))
    for judge in groups.judges:
        does = "scores replies" if mode_of(judge) == "score" else "compares replies"
        yield _line("judge", f"{judge.name}: {judge.kind}, {does}")
        if isinstance(judge, LlmJudge):
            yield _line("", judge_budget(comparison, judge, found))
    decision = comparison.decision
    yield _line(
        "decision",
        f"{decision.metric}, {decision.compare[0]} against {decision.compare[1]}, margin {decision.margin:g}, "
        f"alpha {decision.alpha:g}",
    )
    yield from needless_lines(comparison)
    for requirement in requirements(comparison):
        if requirement.of == "config":
            raise UserError(requirement.text)
        yield f"not checked here: {requirement.text}"


def needless_lines(comparison: Comparison) -> Iterator[str]:
    """A line for each key of `allow_difference` that is equal in every stage, at every point of a sweep too."""
    recipes = [(name, point.recipe) for name in comparison.arms for point in points_of(comparison, name)]
    at_points = [
        comparison.model_copy(update={"arms": comparison.arms | {name: recipe}}) for name, recipe in recipes
    ]
    differing = {found.key for each in (comparison, *at_points) for found in planned_differences(each)}
    for key in comparison.allow_difference:
        if key not in differing and key != TUNING:  # whether arms were tuned alike is the audit's to count
            yield terminal(f"allow_difference.{key}: nothing differs in it; it can be left out.")


def look_at_data(comparison: Comparison) -> Inspection | None:
    """Read the pairs if they are on this machine, or are the toy world's; None if they are not here.

    Raises:
        UserError: the data cannot serve: names file, row and column.
    """
    found = _looked_at(comparison.data, "data", comparison)
    if found is None:
        return None
    data, usable = comparison.data, found.num_usable
    for split in sorted({"test", *_scored_splits(comparison)}):
        if not found.splits[split]:
            raise UserError(
                f"{data.path}: data.{split}_share ({getattr(data, f'{split}_share'):g}) leaves no pair of {usable} "
                f"usable rows for the {split} split. Use a larger share, or more rows."
            )
    num_sft, batch = _num_sft_pairs(comparison, found), comparison.training.effective_batch
    if num_sft < batch:
        raise UserError(
            f"{data.path}: sft.share must leave SFT at least one step of training.effective_batch ({batch}) pairs, got "
            f"{num_sft} of {_num_train(data, found)} training pairs by {comparison.sft.share:g}. Use a larger share."
        )
    return found


def _num_train(data: DataSettings, found: Inspection) -> int:
    """Training pairs, before tokens are counted."""
    return min(found.splits["train"], data.max_train_pairs or found.num_usable)


def _num_sft_pairs(comparison: Comparison, found: Inspection) -> int:
    """Those of them that SFT trains on."""
    return share_size(_num_train(comparison.data, found), comparison.sft.share)


def look_at_sft_data(comparison: Comparison) -> Inspection | None:
    """Read the data set for SFT alone, if there is one and it is on this machine, less the prompts that the pairs hold out.

    Raises:
        UserError: the data cannot serve: names file, row and column.
    """
    data = comparison.sft.data
    return None if data is None else _looked_at(data, SFT_DATA, comparison)


def _looked_at(data: DataSettings, key: str, comparison: Comparison) -> Inspection | None:
    if not _is_here(data):
        return None
    from pipelines.data.inspect import inspect_demonstrations, inspect_rows

    try:
        if key == SFT_DATA:
            pairs = comparison.data if _is_here(comparison.data) else None
            found = inspect_demonstrations(data, pairs=pairs)
        else:
            found = inspect_rows(data)
    except PipelineError as error:
        raise UserError(str(error)) from error
    if found.num_dropped > found.num_rows * data.max_dropped:
        worst = max(found.unusable(), key=lambda dropped: dropped.num_rows)
        raise UserError(
            f"{data.path}: at most {data.max_dropped:.0%} of the rows may drop out ({key}.max_dropped), got "
            f"{found.num_dropped} of {found.num_rows}, most of them for: {worst.reason} (row "
            f"{worst.first_rows[0]} first)."
        )
    usable, num_train = found.num_usable, _num_train(data, found)
    if num_train < comparison.training.effective_batch:
        raise UserError(
            f"{data.path}: training.effective_batch must be at most the number of training pairs "
            f"({num_train} of {usable} usable rows{_held_out_words(found)}), got {comparison.training.effective_batch}."
        )
    return found


def _is_here(data: DataSettings) -> bool:
    """Whether it can be read without a download."""
    return data.path == TOY or Path(data.path).exists()


def _held_out_words(found: Inspection) -> str:
    held_out = found.num_held_out
    return f", {held_out} more have a prompt that is held out" if held_out else ""


def _scored_splits(comparison: Comparison) -> Iterator[Split]:
    """Splits that the configured evaluations read."""
    groups = comparison.evaluations
    for group in (groups.preference, groups.generation, groups.drift):
        if group is not None:
            yield group.split
    if comparison.sweep is not None:
        yield "validation"


def _data_lines(comparison: Comparison, found: Inspection | None) -> Iterator[str]:
    data = comparison.data
    if found is None:
        yield _line("data", data.path)
        return
    yield _line("data", f"{data.path}: form {found.form}, {found.num_rows} rows")
    yield _line("", f"columns {', '.join(found.columns)}")
    sizes = ", ".join(f"{found.splits[split]} {split}" for split in SPLITS)
    yield _line("", f"splits {sizes}, before tokens are counted and data.max_*_pairs")
    if comparison.sft.share < 1:
        train = _num_train(data, found)
        yield _line("sft data", f"{_num_sft_pairs(comparison, found)} of {train} training pairs (sft.share)")
    yield from _dropped_lines(found)


def _sft_data_lines(comparison: Comparison) -> Iterator[str]:
    data = comparison.sft.data
    if data is None:
        return
    found = look_at_sft_data(comparison)
    if found is None:
        yield _line("sft data", data.path)
        return
    yield _line("sft data", f"{data.path}: {found.num_rows} rows, columns {', '.join(found.columns)}")
    yield from _dropped_lines(found)
    if not _is_here(comparison.data):
        yield _line(
            "", "how many have a prompt of the validation or test split is told once the pairs are here"
        )


def _dropped_lines(found: Inspection) -> Iterator[str]:
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
