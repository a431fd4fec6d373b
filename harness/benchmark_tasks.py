"""The files behind the benchmark tasks of a config: names, data files, content. Imports neither torch nor lm-eval."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.errors import UserError

DATA_FOLDER_VARIABLE = "PREFDUEL_DATA"
# Builders of `datasets` that read files; with any other `dataset_path`, data_files lie inside a hub repository.
FILE_BUILDERS = frozenset({"json", "csv", "parquet", "text"})
NAME_RULE = "a name on one line, in quotes where YAML would read something else"


class FunctionName(str):
    """The name behind a `!function` tag, such as `utils.process_docs`."""


@dataclass(frozen=True)
class TaskFile:
    """One task YAML, its `include`s merged in.

    Attributes:
        path: The YAML.
        content: Its keys; `!function` tags stay names.
        sources: The YAML, what it includes, the Python files beside it that it takes functions from, and files
            beside it that share its name, such as the data that such a function reads.
    """

    path: Path
    content: dict[str, Any]
    sources: tuple[Path, ...]

    @property
    def data_files(self) -> list[Path]:
        """The local data files that the task reads, there or not."""
        return list(_values(resolved_data_files(self.content, self.path)))


def is_local(task: str) -> bool:
    """Whether `task` is a path to a task YAML; anything else is the name of one of lm-eval's own tasks."""
    return "/" in task or os.sep in task or task.endswith((".yaml", ".yml"))


def benchmark_name(task: str) -> str:
    """The name of a task: of a local file the one inside it.

    Raises:
        UserError: the file is missing or is no task.
    """
    if not is_local(task):
        return task
    content = read_task_file(Path(task)).content
    name: str = content.get("group") or content["task"]
    return name


def named_twice(tasks: list[str]) -> str | None:
    """A name that two of `tasks` share, or that two tasks within them do; None if there is none.

    Raises:
        UserError: a task file is missing or is no task.
    """
    benchmarks = [benchmark_name(task) for task in tasks]
    members = [name for task in tasks for name in _task_names(task)]
    return next((name for names in (benchmarks, members) for name in names if names.count(name) > 1), None)


def task_files(tasks: list[str]) -> list[Path]:
    """Every file that the local ones of `tasks` are made of, data files last; a data file may be missing.

    Raises:
        UserError: a task file is missing or is no task.
    """
    read = [file for task in tasks if is_local(task) for file in _with_members(Path(task))]
    sources = [source for file in read for source in file.sources]
    return list(dict.fromkeys(sources + [path for file in read for path in file.data_files]))


def missing_files(tasks: list[str]) -> list[Path]:
    """Data files of `tasks` that are not on this machine.

    Raises:
        UserError: a task file is missing or is no task.
    """
    return [path for path in task_files(tasks) if not path.is_file()]


def content_hash(tasks: list[str]) -> str:
    """SHA-256 over the names of `tasks` and the bytes of all their files; a missing data file counts as missing.

    Raises:
        UserError: a task file is missing or is no task.
    """
    digest = hashlib.sha256()
    for task in tasks:
        digest.update(f"{benchmark_name(task)}\n".encode())
    for path in task_files(tasks):
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"
        digest.update(f"{path.name} {content}\n".encode())
    return digest.hexdigest()


def read_task_file(path: Path) -> TaskFile:
    """Read a task YAML as lm-eval does: what it includes first, its own keys win.

    Raises:
        UserError: the file is missing, is no YAML mapping, names neither a task nor a group, or one of the keys that are
            read here has another form.
    """
    content, sources = _merged(path)
    if not ("task" in content or "group" in content):
        raise UserError(
            f"{path}: a benchmark task needs the key `task` (or `group`), it has {sorted(map(str, content))}."
        )
    for mistake in _mistakes(content):
        raise _wrong(path, *mistake)
    return TaskFile(path, content, sources)


def member_files(group: TaskFile) -> dict[str, TaskFile]:
    """Name to file of the tasks of a local `group` that lie beside it; other members are lm-eval's own tasks."""
    wanted = _member_names(group)
    found: dict[str, TaskFile] = {}
    for path in sorted(group.path.parent.glob("*.y*ml")) if wanted else ():
        name = _load(path).get("task") if path.is_file() else None
        if isinstance(name, str) and name in wanted:
            found[name] = read_task_file(path)
    return found


def resolved_data_files(content: dict[str, Any], task_file: Path) -> Any:
    """`dataset_kwargs.data_files` of a task in its own form (name, list, or either by split), names made paths.

    A name is looked for beside the task's YAML, then from the working directory, then in the folder that the
    environment variable `PREFDUEL_DATA` names. Found nowhere, it is taken to be missing beside the YAML.
    """
    if content.get("dataset_path") not in FILE_BUILDERS:
        return None
    return _each((content.get("dataset_kwargs") or {}).get("data_files"), task_file.parent)


def _each(named: Any, folder: Path) -> Any:
    if isinstance(named, dict):
        return {split: _each(names, folder) for split, names in named.items()}
    if isinstance(named, list):
        return [_each(name, folder) for name in named]
    if named is None or "://" in str(named):
        return named
    elsewhere = os.environ.get(DATA_FOLDER_VARIABLE)
    folders = [folder, Path(), *([Path(elsewhere)] if elsewhere else [])]
    return next((place / named for place in folders if (place / named).is_file()), folder / named)


def _values(resolved: Any) -> Iterator[Path]:
    if isinstance(resolved, Path):
        yield resolved
    elif isinstance(resolved, dict | list):
        for part in resolved.values() if isinstance(resolved, dict) else resolved:
            yield from _values(part)


def _task_names(task: str) -> list[str]:
    """Names of the tasks behind `task`: of a local group its members', else its own."""
    members = _member_names(read_task_file(Path(task))) if is_local(task) else []
    return members or [benchmark_name(task)]


def _member_names(file: TaskFile) -> list[str]:
    """Names of a local group's tasks; none of a file that is no group."""
    members = file.content.get("task", []) if "group" in file.content else []
    return [member["task"] if isinstance(member, dict) else member for member in members]


def _with_members(path: Path) -> list[TaskFile]:
    file = read_task_file(path)
    return [file, *member_files(file).values()]


def _merged(path: Path, including: tuple[Path, ...] = ()) -> tuple[dict[str, Any], tuple[Path, ...]]:
    if path in including:
        raise UserError(f"{path}: includes itself.")
    content = _load(path)
    sources = [path, *_function_files(content, path.parent)]
    sharing_name = sorted(path.parent.glob(f"{glob.escape(path.stem)}.*"))
    sources += (other for other in sharing_name if other.is_file() and other not in sources)
    included = content.pop("include", [])
    if not all(isinstance(name, str) for name in _as_list(included)):
        raise _wrong(path, "include", included, "the name of a file, or a list of them")
    merged: dict[str, Any] = {}
    for name in _as_list(included):
        more, its_sources = _merged(path.parent / name, (*including, path))
        merged |= more
        sources += its_sources
    return merged | content, tuple(sources)


def _mistakes(content: dict[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """Of each key that is read here and has another form than it should: the key, what it holds, its form in words."""
    if "group" in content:
        if not _is_name(content["group"]):
            yield "group", content["group"], NAME_RULE
        members = content.get("task")
        names = [one.get("task") if isinstance(one, dict) else one for one in _as_list(members)]
        if not isinstance(members, list) or not names or not all(map(_is_name, names)):
            yield (
                "task",
                members,
                "a list of task names, or of mappings with a `task`, as the file is a group",
            )
    elif not _is_name(content["task"]):
        yield "task", content["task"], NAME_RULE
    path, arguments = content.get("dataset_path"), content.get("dataset_kwargs")
    if not isinstance(path, str | None):
        yield "dataset_path", path, "text"
    elif not isinstance(arguments, dict | None):
        yield "dataset_kwargs", arguments, "a mapping"
    elif path in FILE_BUILDERS and not _are_file_names(files := (arguments or {}).get("data_files", [])):
        yield "dataset_kwargs.data_files", files, "a file name, a list of them, or either for each split"


def _is_name(value: Any) -> bool:
    """Whether it can be shown on one line and written to a file, which half a surrogate pair can't."""
    return (
        isinstance(value, str) and not isinstance(value, FunctionName) and value != "" and value.isprintable()
    )


def _are_file_names(value: Any) -> bool:
    inside = list(value.values()) if isinstance(value, dict) else _as_list(value)
    return all(
        isinstance(one, str) or (isinstance(one, list | dict) and _are_file_names(one)) for one in inside
    )


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _wrong(path: Path, key: str, found: Any, rule: str) -> UserError:
    text = repr(found)
    return UserError(f"{path}: {key} must be {rule}, got {text if len(text) <= 80 else f'{text[:77]}...'}.")


def _function_files(content: Any, folder: Path) -> Iterator[Path]:
    """Python files in `folder` that `!function` tags anywhere in `content` name."""
    if isinstance(content, FunctionName):
        file = folder / f"{content.rpartition('.')[0].replace('.', '/')}.py"
        if file.is_file():
            yield file
    elif isinstance(content, dict | list):
        for part in content.values() if isinstance(content, dict) else content:
            yield from _function_files(part, folder)


class _TaskLoader(yaml.SafeLoader):
    """YAML in which `!function` is a name and is not imported."""


def _function_name(loader: yaml.SafeLoader, node: yaml.Node) -> FunctionName:
    if not isinstance(node, yaml.ScalarNode):
        raise yaml.constructor.ConstructorError(
            problem="!function must be followed by the name of a function", problem_mark=node.start_mark
        )
    return FunctionName(loader.construct_scalar(node))


_TaskLoader.add_constructor("!function", _function_name)


def _load(path: Path) -> dict[str, Any]:
    try:
        # The loader derives from yaml's safe one.
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_TaskLoader)  # noqa: S506
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: no such task file. It is looked for beside the config, then in the working directory."
        ) from error
    # A date that there is not, or a path with a NUL, is a ValueError.
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: a benchmark task is a YAML mapping, found {type(content).__name__}.")
    return content
