"""Prints names, types and defaults of every argument of the trainers' config classes as JSON; `make trainer-fields` keeps it.

A config is checked against the kept file, because importing the classes takes 10 seconds.
"""

from __future__ import annotations

import enum
import importlib
import json
import re
import sys
import types
from dataclasses import Field, fields
from importlib.metadata import version
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

CONFIG_CLASSES = {
    "sft": ("trl.trainer.sft_config", "SFTConfig"),
    "dpo": ("trl.trainer.dpo_config", "DPOConfig"),
    # Not TRL's ORPOConfig, whose package may go; what a config may set is the same in both.
    "orpo": ("pipelines.training.fused_orpo", "FusedORPOConfig"),
}
# Such as "Possible values are `nll` and `dft`." in the help of an argument that has no `choices`.
_POSSIBLE_VALUES = re.compile(r"Possible values are:? ([^.]*)\.")
_PLAIN = {int: "int", float: "float", bool: "bool", str: "str", dict: "dict", types.NoneType: "null"}


def all_fields() -> dict[str, Any]:
    """The versions, what arguments are by default, then for each trainer its arguments with the types that each takes.

    A type is `int`, `float`, `bool`, `str`, `dict`, `null`, `list`, `list[<type>]`, or a permitted value in
    single quotes; `list['a'|'b']` is a list of permitted values.
    """
    return {
        "trl": version("trl"),
        "transformers": version("transformers"),
        "defaults": agreed_defaults(),
        **{trainer: _fields_of(*place) for trainer, place in CONFIG_CLASSES.items()},
    }


def as_text(content: dict[str, Any]) -> str:
    """JSON with one argument a line, so that a change of version reads well as a difference."""
    lines = [f'  "{name}": "{value}",' for name, value in content.items() if isinstance(value, str)]
    trainers = [(name, value) for name, value in content.items() if isinstance(value, dict)]
    for name, arguments in trainers:
        inner = [f'    "{argument}": {json.dumps(kinds)}' for argument, kinds in sorted(arguments.items())]
        lines.append(
            f'  "{name}": {{\n' + ",\n".join(inner) + "\n  }" + ("," if name != trainers[-1][0] else "")
        )
    return "{\n" + "\n".join(lines) + "\n}\n"


def agreed_defaults() -> dict[str, Any]:
    """What an argument is where a config is silent; left out where the classes that have it disagree.

    A default that is no plain value, as that of DPO's `loss_type`, does not count.
    """
    by_class = [_defaults_of(*place) for place in CONFIG_CLASSES.values()]
    found: dict[str, list[Any]] = {}
    for defaults in by_class:
        for name, value in defaults.items():
            found.setdefault(name, []).append(value)
    return {name: values[0] for name, values in found.items() if all(value == values[0] for value in values)}


def _defaults_of(module: str, name: str) -> dict[str, Any]:
    config_class = getattr(importlib.import_module(module), name)
    return {
        field.name: field.default
        for field in fields(config_class)
        if field.init and isinstance(field.default, bool | int | float | str | None)
    }


def _fields_of(module: str, name: str) -> dict[str, list[str]]:
    config_class = getattr(importlib.import_module(module), name)
    hints = get_type_hints(config_class)
    return {
        field.name: _narrowed(_kinds(hints[field.name]), _choices(field))
        for field in fields(config_class)
        if field.init
    }


def _choices(field: Field[Any]) -> list[str]:
    """The texts that an argument takes, as its class names them for the command line or says in its help."""
    if "choices" in field.metadata:
        return list(field.metadata["choices"])
    said = _POSSIBLE_VALUES.search(str(field.metadata.get("help", "")))
    return re.findall(r"\w+", said.group(1).replace("(default)", "")) if said else []


def _narrowed(kinds: list[str], choices: list[str]) -> list[str]:
    """`kinds` with the permitted texts in the place of any text."""
    if not choices:
        return kinds
    quoted = [f"'{choice}'" for choice in choices]
    narrowed: list[str] = []
    for kind in kinds:
        if kind == "str":
            narrowed += [choice for choice in quoted if choice not in kinds]
        else:
            narrowed.append(f"list[{'|'.join(quoted)}]" if kind == "list[str]" else kind)
    return narrowed


def _kinds(hint: Any) -> list[str]:
    options = list(get_args(hint)) if get_origin(hint) in (Union, types.UnionType) else [hint]
    chosen = [option for option in options if isinstance(option, type) and issubclass(option, enum.Enum)]
    if chosen:
        # An enumeration stands beside `str` there: the class takes the enumeration's values and no other text.
        options = [option for option in options if option is not str]
    return [kind for option in options for kind in _kinds_of_one(option)]


def _kinds_of_one(option: Any) -> list[str]:
    if option in _PLAIN:
        return [_PLAIN[option]]
    if get_origin(option) is Literal:
        return [f"'{value}'" if isinstance(value, str) else str(value).lower() for value in get_args(option)]
    if get_origin(option) is list:
        (inner,) = get_args(option)
        return [f"list[{_PLAIN[inner]}]" if inner in _PLAIN else "list"]
    if get_origin(option) is dict or option is dict:
        return ["dict"]
    if isinstance(option, type) and issubclass(option, enum.Enum):
        return [f"'{member.value}'" for member in option]
    return []  # an object that no config file can hold


if __name__ == "__main__":
    sys.stdout.write(as_text(all_fields()))
