"""`--set key.path=value`: changes to a config's content before it is validated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.errors import UserError
from harness.yaml_source import parse_value


def apply_overrides(content: dict[str, Any], overrides: Sequence[str]) -> None:
    """Change `content` in place, in order.

    A path's parts are keys and, in lists, positions from 0: `arms.orpo.0.arguments.beta=0.2`. A mapping that is
    not there is made; whether its key is a known one, the validation says afterwards.

    Args:
        content: What the config file holds.
        overrides: Texts of the form `key.path=value`; the value is YAML.

    Raises:
        UserError: an override has no `=`, or its path leads through something that has no keys.
    """
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals or not path.strip("."):
            raise UserError(f"--set {override}: must be key.path=value, such as seeds=5.")
        put(content, path.strip().split("."), parse_value(text, f"--set {override}"), f"--set {override}")


def names(overrides: Sequence[str], key: str) -> bool:
    """Whether one of the overrides is of this key."""
    return any(override.partition("=")[0].strip() == key for override in overrides)


def put(content: Any, parts: list[str], value: Any, where: str) -> None:
    """Put `value` into `content`, in place, at the end of the path that `parts` are.

    Raises:
        UserError: the path leads through something that has no keys; the message begins with `where`.
    """
    here = content
    walked: list[str] = []
    while True:
        if isinstance(here, list):
            key: Any = _position(here, parts[0], ".".join(walked), where)
            used = 1
        elif isinstance(here, dict):
            key, used = _key(here, parts)
        else:
            raise UserError(f"{where}: {'.'.join(walked)} holds {here!r}, which has no key {parts[0]!r}.")
        walked.append(str(key))
        parts = parts[used:]
        if not parts:
            here[key] = value
            return
        if isinstance(here, dict) and here.get(key) is None:
            here[key] = {}
        here = here[key]


def value_at(content: Any, parts: list[str]) -> Any:
    """What `content` holds at the end of the path that `parts` are; None where the path does not lead to anything."""
    here = content
    while parts:
        if isinstance(here, dict):
            key, used = _key(here, parts)
            here = here.get(key)
        elif isinstance(here, list) and parts[0].isdigit() and int(parts[0]) < len(here):
            here, used = here[int(parts[0])], 1
        else:
            return None
        parts = parts[used:]
    return here


def _key(mapping: dict[str, Any], parts: list[str]) -> tuple[str, int]:
    """The key that the path means and how many parts it takes: an arm's name may itself hold a dot."""
    for used in range(1, len(parts) + 1):
        if (candidate := ".".join(parts[:used])) in mapping:
            return candidate, used
    return parts[0], 1


def _position(entries: list[Any], part: str, walked: str, where: str) -> int:
    if part.isdigit() and int(part) < len(entries):
        return int(part)
    raise UserError(
        f"{where}: {walked or 'this'} is a list of {len(entries)}, so the next part must be a position from 0 "
        f"to {len(entries) - 1}, got {part!r}."
    )
