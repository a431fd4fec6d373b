"""Reads a config file as YAML, strictly: what YAML would let pass in silence is refused with its line and column.

Scalars follow YAML 1.2: `1e-6` is a number, and only `true` and `false` are booleans (1.1 reads `no` as false).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from harness.errors import UserError

YAML_SUFFIXES = (".yaml", ".yml")
LARGEST_FILE_BYTES = 1 << 20
# A page of aliases can stand for billions of values.
MOST_VALUES = 100_000
DEEPEST = 50  # libyaml builds values recursively and takes the whole process down long before memory ends

# libyaml's parser is ten times faster than the one in Python; the scalars' rules are the same class attribute.
_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Parser):  # type: ignore[misc]  # the class is chosen when this runs
    """A loader with YAML 1.2's scalars that refuses duplicate keys."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, int] = {}
        for key_node, _ in node.value:
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if key_node.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                raise _Unfit(
                    f"line {line}: a key must be text, got {key!r}. Put it in quotes.", key_node.start_mark
                )
            if key in seen:
                raise _Unfit(
                    f"line {line}: key {key!r} must be given once, got it in line {seen[key]} already.",
                    key_node.start_mark,
                )
            seen[key] = line
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping


class _Endless(Exception):
    """An alias to what contains it."""


class _Unfit(yaml.MarkedYAMLError):
    """Well-formed YAML that a config may not hold."""

    def __init__(self, text: str, mark: Any) -> None:
        super().__init__(problem=text, problem_mark=mark)


for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"^[-+]?(?:0|[1-9][0-9]*)$", "-+0123456789"),
    ("float", r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
    ("float", r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", "-+."),
    ("merge", r"^<<$", "<"),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


def read_config_file(path: Path) -> dict[str, Any]:
    """The content of a config file.

    Raises:
        UserError: the file is not there, is not YAML, or holds what no config can: one line that says where.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file.{_nearest_file(path)}")
    if path.is_dir():
        raise UserError(f"{path}: must be a config file, got a folder.{_configs_in(path)}")
    if not path.is_file():
        raise UserError(f"{path}: must be a config file, got a pipe or a device.")
    if (size := path.stat().st_size) > LARGEST_FILE_BYTES:
        raise UserError(f"{path}: must be a config of at most {LARGEST_FILE_BYTES:,} bytes, got {size:,}.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: must be UTF-8 text, got other bytes at position {error.start}.") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    return parse_config(text, str(path))


def parse_config(text: str, where: str) -> dict[str, Any]:
    """The keys and values in a config's text.

    Args:
        text: YAML.
        where: What messages call the source, usually the file's path.

    Raises:
        UserError: as `read_config_file`.
    """
    content = _load(text, where)
    if content is None:
        raise UserError(f"{where}: is empty. `prefduel init` writes a config to start from.")
    if not isinstance(content, dict):
        raise UserError(f"{where}: must be keys with values, got {_kind(content)}.")
    try:
        # Through text: what an alias names twice becomes two values, so that a change of one is not one of both.
        content = json.loads(json.dumps(content))
    except TypeError as error:
        raise UserError(f"{where}: must hold text, numbers, lists and mappings only ({error}).") from error
    refuse_unfit_numbers(content, where)
    plain: dict[str, Any] = content
    return plain


def parse_value(text: str, where: str) -> Any:
    """One value as a config would hold it, such as `0.2` or `[base, sft]`.

    Raises:
        UserError: the text is not YAML, or is a number that is not finite.
    """
    value = _load(text, where)
    refuse_unfit_numbers({"value": value}, where)
    return value


def refuse_unfit_numbers(content: dict[str, Any], where: str) -> None:
    """Refuse infinity and NaN, which no key can mean.

    Raises:
        UserError: names the key.
    """
    for key, value in _leaves(content, ""):
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{where}: {key} must be a finite number, got {value}.")


def _load(text: str, where: str) -> Any:
    try:
        _refuse_deep_nesting(text)
        value = yaml.load(text, Loader=_Loader)  # noqa: S506  # derived from the safe loader
        if _num_values(value, {}) > MOST_VALUES:
            raise UserError(f"{where}: its aliases stand for more than {MOST_VALUES:,} values.")
        return value
    except _Endless as error:
        raise UserError(f"{where}: an alias refers to a mapping that contains it.") from error
    except _Unfit as error:
        raise UserError(f"{where}: {error.problem}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise UserError(f"{where}: {place}not YAML: {_plain(error)}.{_about_tabs(text, mark)}") from error
    except (KeyError, AttributeError) as error:  # of the library's constructors
        raise UserError(f"{where}: not YAML: a value is not of the type that its tag (`!!`) says.") from error
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{where}: not YAML: {str(error).splitlines()[0]}.") from error


def _refuse_deep_nesting(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_Parser):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                mark: Any = event.start_mark
                raise _Unfit(f"line {mark.line + 1}: must be nested at most {DEEPEST} deep.", mark)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _num_values(value: Any, known: dict[int, int | None]) -> int:
    """How many values `value` stands for, what aliases repeat counted each time.

    Args:
        value: What YAML was loaded as.
        known: Counts by `id` of what was counted before; None for what is being counted.
    """
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        known[id(value)] = None
        inner = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_num_values(one, known) for one in inner)
    count = known[id(value)]
    if count is None:
        raise _Endless
    return count


def _plain(error: yaml.MarkedYAMLError) -> str:
    return ", ".join(part for part in (error.context, error.problem) if part)


def _about_tabs(text: str, mark: Any) -> str:
    lines = text.splitlines()
    if mark and mark.line < len(lines) and "\t" in lines[mark.line]:
        return " The line holds a tab: indent with spaces."
    return ""


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(inner, f"{key}.{index}")
    else:
        yield key, value


def _kind(value: Any) -> str:
    return "a list" if isinstance(value, list) else f"only {str(value)[:40]!r}"


def _nearest_file(path: Path) -> str:
    known = {
        file.stem: file
        for folder in (Path("configs"), path.parent)
        if folder.is_dir()
        for file in sorted(folder.iterdir())
        if file.suffix in YAML_SUFFIXES
    }
    near = get_close_matches(path.stem, known, n=1, cutoff=0.5)
    return f" Did you mean {known[near[0]]}?" if near else ""


def _configs_in(folder: Path) -> str:
    found = sorted(file.name for file in folder.iterdir() if file.suffix in YAML_SUFFIXES)
    return f" It holds {', '.join(found[:8])}." if found else ""
