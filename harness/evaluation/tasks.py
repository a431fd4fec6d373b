"""lm-eval's task objects behind the `tasks` of a config: by name, by local file, or a group of either."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_eval.config.group import GroupConfig
from lm_eval.tasks import TaskManager

# Private to lm-eval, but alone in resolving `!function` and `include` just as its own loading does.
from lm_eval.tasks._yaml_loader import load_yaml

from harness.benchmark_tasks import (
    TaskFile,
    benchmark_name,
    is_local,
    member_files,
    missing_files,
    read_task_file,
    resolved_data_files,
)
from harness.errors import UserError
from pipelines.errors import PipelineError

if TYPE_CHECKING:
    from lm_eval.api.task import Task

Metadata = dict[str, Any]
GROUP_KEYS = {field.name for field in fields(GroupConfig)}


@dataclass(frozen=True)
class Benchmark:
    """One benchmark of a comparison.

    Attributes:
        name: What its column is called after.
        tasks: One task, or all tasks of a group.
    """

    name: str
    tasks: list[Task]


def load_benchmarks(wanted: list[str], *, metadata: Metadata | None = None) -> list[Benchmark]:
    """The benchmarks that `wanted` names; a group is one, a tag stands for each of its tasks.

    Args:
        wanted: Names of lm-eval's tasks, paths of task files.
        metadata: Given to tasks whose own function makes their data.

    Raises:
        PipelineError: a task is unknown, does not load, comes twice, or misses a file.
    """
    try:
        missing = missing_files(wanted)
        if missing:
            raise PipelineError(
                f"data of a benchmark task is missing: {', '.join(map(str, missing))}. "
                "Put it there, or name its folder in the environment variable PREFDUEL_DATA"
            )
        found = [benchmark for task in wanted for benchmark in _load(task, metadata or {})]
    except UserError as error:
        raise PipelineError(str(error)) from error
    names = [task.task_name for benchmark in found for task in benchmark.tasks]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise PipelineError(f"benchmark task {twice[0]!r} is asked for twice, by itself or within a group")
    return found


def _load(task: str, metadata: Metadata) -> list[Benchmark]:
    try:
        if not is_local(task):
            return _load_named(task, metadata)
        file = read_task_file(Path(task))
        if "group" in file.content:
            return [Benchmark(benchmark_name(task), _load_local_group(file, metadata))]
        return [Benchmark(benchmark_name(task), [_build(_config(file), metadata)])]
    except (ImportError, AttributeError, TypeError, ValueError, KeyError, OSError) as error:
        if isinstance(error, PipelineError):
            raise
        raise PipelineError(
            f"benchmark task {task!r} does not load: {type(error).__name__}: {_line(error)}"
        ) from error


def _load_named(name: str, metadata: Metadata) -> list[Benchmark]:
    manager = _named_tasks(json.dumps(metadata))
    if name not in manager.all_tasks:
        near = difflib.get_close_matches(name, manager.all_tasks, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "a local task is named by the path of its YAML file"
        raise PipelineError(f"lm-eval has no benchmark task {name!r}: {hint}")
    loaded = manager.load([name])
    tasks = list(loaded["tasks"].values())
    if name in manager.all_groups:
        return [Benchmark(name, tasks)]
    return [Benchmark(task.task_name, [task]) for task in tasks]


def _load_local_group(group: TaskFile, metadata: Metadata) -> list[Task]:
    """The tasks of a group; what the group says beside its own keys overrides its members, as in lm-eval."""
    overrides = {key: value for key, value in _config(group).items() if key not in GROUP_KEYS}
    files = member_files(group)
    tasks: list[Task] = []
    for member in group.content["task"]:
        own = member if isinstance(member, dict) else {"task": member}
        if "task" not in own:
            raise PipelineError(f"{group.path}: groups inside a local group are not supported")
        if own["task"] in files:
            tasks.append(_build(_config(files[own["task"]]) | overrides | own, metadata))
        else:
            tasks += [task for found in _load_named(own["task"], metadata) for task in found.tasks]
    return tasks


def _config(file: TaskFile) -> dict[str, Any]:
    """The YAML with functions imported and data files found."""
    config: dict[str, Any] = load_yaml(file.path, resolve_func=True)
    data_files = resolved_data_files(file.content, file.path)
    if data_files is not None:
        config["dataset_kwargs"] = config["dataset_kwargs"] | {"data_files": _as_text(data_files)}
    return config


def _as_text(data_files: Any) -> Any:
    if isinstance(data_files, dict):
        return {split: _as_text(files) for split, files in data_files.items()}
    if isinstance(data_files, list):
        return [_as_text(file) for file in data_files]
    return str(data_files.resolve()) if isinstance(data_files, Path) else str(data_files)


def _build(config: dict[str, Any], metadata: Metadata) -> Task:
    (task,) = TaskManager(include_defaults=False, metadata=metadata).load([config])["tasks"].values()
    return task


@cache
def _named_tasks(metadata: str) -> TaskManager:
    """lm-eval's own tasks. Reading its 14,000 files takes 15 s: only when one is asked for by name."""
    return TaskManager(metadata=json.loads(metadata))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
