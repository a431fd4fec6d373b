"""From a config file to a validated `Comparison`: read, override, validate, find its files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.config import Comparison
from harness.config_errors import describe, did_you_mean
from harness.errors import UserError
from harness.overrides import apply_overrides, names
from harness.rules import broken_rules
from harness.sweep_rules import broken_sweep_rules
from harness.yaml_source import parse_config, read_config_file
from pipelines.data.sources import TOY
from pipelines.judge_settings import CommandJudge, Judge, RewardModelJudge
from pipelines.locations import PACKAGE_PREFIX


def load_comparison(path: Path, *, overrides: Sequence[str] = (), seeds: int | None = None) -> Comparison:
    """The comparison that a config file describes.

    Args:
        path: A YAML file.
        overrides: `key.path=value` texts, applied in order.
        seeds: How many seeds, in place of the file's.

    Raises:
        UserError: `FILE: KEY must ..., got ....`, one line.
    """
    if seeds is not None and names(overrides, "seeds"):
        raise UserError("--seeds: says how many seeds, and so does --set seeds. Leave one of them out.")
    return _comparison(read_config_file(path), path, overrides=overrides, seeds=seeds)


def comparison_of_text(text: str, path: Path) -> Comparison:
    """The comparison that a config's text describes.

    Args:
        text: YAML.
        path: Where the text is going to lie; messages name it and its folder is searched for files.

    Raises:
        UserError: as `load_comparison`.
    """
    return _comparison(parse_config(text, str(path)), path, overrides=(), seeds=None)


def chosen_arms(comparison: Comparison, names: Sequence[str]) -> list[str] | None:
    """The arms that `--arm` options name, in the config's order; None (all) if there are none.

    Raises:
        UserError: no arm has such a name.
    """
    for name in names:
        if name not in comparison.arms:
            hint = did_you_mean(name, list(comparison.arms))
            raise UserError(f"--arm {name}: must be the name of an arm of {comparison.name}. {hint}")
    return [name for name in comparison.arms if name in names] or None


def _comparison(
    content: dict[str, Any], path: Path, *, overrides: Sequence[str], seeds: int | None
) -> Comparison:
    apply_overrides(content, overrides)
    if seeds is not None:
        content["seeds"] = seeds
    try:
        # Through JSON, strictly: a list may stand for a tuple, but neither true for 1 nor '3' for 3.
        comparison = Comparison.model_validate_json(json.dumps(content), strict=True)
    except ValidationError as error:
        raise UserError(f"{path}: {describe(error, content)}") from error
    comparison = _with_found_files(comparison, path.parent)
    for key, problem in chain(broken_rules(comparison), broken_sweep_rules(comparison)):
        raise UserError(f"{path}: {key} {problem}")
    return comparison


def _with_found_files(comparison: Comparison, folder: Path) -> Comparison:
    """The comparison with the paths of files that are here: beside the config file first, then where we are."""
    changes: dict[str, Any] = {
        "model": comparison.model.model_copy(update={"name": _found(comparison.model.name, folder)}),
        "data": comparison.data.model_copy(update={"path": _found(comparison.data.path, folder)}),
    }
    of_sft = comparison.sft.data
    if of_sft is not None:
        found = of_sft.model_copy(update={"path": _found(of_sft.path, folder)})
        changes["sft"] = comparison.sft.model_copy(update={"data": found})
    evaluations: dict[str, Any] = {
        "judges": [_with_found_judge_files(judge, folder) for judge in comparison.evaluations.judges]
    }
    benchmarks = comparison.evaluations.benchmarks
    if benchmarks is not None:
        tasks = [_found(task, folder) for task in benchmarks.tasks]
        evaluations["benchmarks"] = benchmarks.model_copy(update={"tasks": tasks})
    changes["evaluations"] = comparison.evaluations.model_copy(update=evaluations)
    return comparison.model_copy(update=changes)


def _with_found_judge_files(judge: Judge, folder: Path) -> Judge:
    """Of a command the arguments that look like files: `python` is a program, whatever lies beside the config."""
    if isinstance(judge, RewardModelJudge):
        return judge.model_copy(update={"model": _found(judge.model, folder)})
    if not isinstance(judge, CommandJudge):
        return judge
    command = [_found(part, folder) if "/" in part or "." in part else part for part in judge.command]
    return judge.model_copy(update={"command": command})


def _found(name: str, folder: Path) -> str:
    """`name` as a path relative to the working directory where it is a file or folder, else as it is."""
    if name == TOY or name.startswith(PACKAGE_PREFIX):
        return name
    path = Path(name).expanduser()
    for candidate in (folder / path, path):
        if candidate.exists():
            whole, here = candidate.resolve(), Path.cwd().resolve()
            return str(whole.relative_to(here) if whole.is_relative_to(here) else candidate)
    return name
