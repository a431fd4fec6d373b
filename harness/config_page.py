"""Prints docs/config.md, the page of every config key, from the models; `make config-page` keeps it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from harness.config import ArmStage, Comparison, Evaluations
from harness.trainer_fields import refused_arguments
from pipelines.judge_settings import Judge

_HEAD = """# Config keys

One YAML file describes one comparison. `prefduel check FILE` says whether it is right and what it will do;
`prefduel init` writes one to start from; `configs/` has ready-made ones. `make config-page` writes this page from
`harness/config.py`, `pipelines/stages.py` and `pipelines/evaluations.py`; a test compares them.

- A key that does not exist, or a value of another type, is refused; nothing is guessed.
- `--set key.path=value` changes a key for one run. Entries of a list are numbered from 0:
  `--set arms.orpo.0.arguments.beta=0.2`.
- Files (`data.path`, `model.name`, benchmark tasks) are looked for beside the config first, then in the working directory.
- Scalars follow YAML 1.2: `8e-6` is a number; only `true` and `false` are booleans.
"""
_ARGUMENTS = """## TRL arguments that a config may not set

Any other argument of TRL's `SFTConfig`, `DPOConfig` or `ORPOConfig` may stand under `arguments`; names and types are
checked against `harness/trainer_fields.json`. These are the same in every arm, so that the comparison is fair:

| argument | instead |
| --- | --- |
"""
_PLAIN = {int: "whole number", float: "number", bool: "true or false", str: "text"}
_BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


def page() -> str:
    """The whole page, Markdown."""
    sections = [_HEAD, *_sections(Comparison, "")]
    refused = "".join(f"| `{name}` | {words} |\n" for name, words in refused_arguments())
    return "\n".join([*sections, _ARGUMENTS + refused])


def _sections(model: type[BaseModel], path: str) -> Iterator[str]:
    title = f"`{path}`" if path else "Top level"
    rows = "".join(_row(field.alias or name, field) for name, field in model.model_fields.items())
    yield f"## {title}\n\n| key | value | default | meaning |\n| --- | --- | --- | --- |\n{rows}"
    for name, field in model.model_fields.items():
        key = f"{path}.{name}" if path else name
        inner = ArmStage if name == "arms" else _model_of(field.annotation)
        if name == "judges" and model is Evaluations:
            for kind in get_args(get_args(Judge)[0]):
                yield from _sections(
                    kind, f"{key}.<position>` of kind `{get_args(kind.model_fields['kind'].annotation)[0]}"
                )
        elif inner:
            yield from _sections(inner, f"{key}.<arm>.<position>" if name == "arms" else key)


def _row(name: str, field: FieldInfo) -> str:
    words = _words(field.annotation, field)
    return f"| `{name}` | {words} | {_default(field)} | {field.description or ''} |\n"


def _words(annotation: Any, field: FieldInfo | None = None) -> str:
    bounds = [
        f"{words} {getattr(rule, bound):g}"
        for rule in (field.metadata if field else ())
        for bound, words in _BOUNDS.items()
        if getattr(rule, bound, None) is not None
    ]
    return ", ".join([_type_words(annotation), *bounds])


def _type_words(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation == Judge:
        return "judges, see below"
    if origin is Annotated:
        return _words(inner[0], next((rule for rule in inner if isinstance(rule, FieldInfo)), None))
    if origin in (Union, UnionType):
        return " or ".join(_type_words(option) for option in inner if option is not NoneType)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in inner)
    if origin is list:
        return f"list of {_type_words(inner[0])}"
    if origin is tuple:
        return f"list of {len(inner)}: {_type_words(inner[0])}"
    if origin is dict:
        return "mapping"
    if _model_of(annotation):
        return "see below"
    return _PLAIN.get(annotation, "anything")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "see below"
    if value is None:
        return "empty"
    if value in ({}, []):
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`[{', '.join(map(str, value))}]`" if isinstance(value, list | tuple) else f"`{value}`"


def _model_of(annotation: Any) -> type[BaseModel] | None:
    options = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else [annotation]
    return next(
        (option for option in options if isinstance(option, type) and issubclass(option, BaseModel)), None
    )


if __name__ == "__main__":
    sys.stdout.write(page())
