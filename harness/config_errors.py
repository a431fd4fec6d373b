"""Turns what pydantic finds wrong with a config into one line for a person."""

from __future__ import annotations

from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from harness.config import ArmStage, Comparison, TrainingShape
from harness.lm_eval_arguments import REFUSED
from harness.trainer_fields import all_argument_names
from pipelines.evaluations import BenchmarkEvaluation

Location = tuple[int | str, ...]
TAG = "kind"  # the key that tells several models of one entry apart

_MUST_BE = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "list_type": "a list",
    "tuple_type": "a list",
}
_COMPARED = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def describe(error: ValidationError, content: dict[str, Any]) -> str:
    """`KEY must ..., got .... Did you mean ...?` for the first mistake, and how many more there are.

    Args:
        error: What validating `content` raised.
        content: The config's content.
    """
    # A misspelt key that is required gives two errors; the unknown key is the one that helps.
    found = sorted(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    places = {_written(one["loc"], content) for one in found}
    more = f" ({len(places) - 1} more mistakes after this one)" if len(places) > 2 else ""
    more = " (1 more mistake after this one)" if len(places) == 2 else more
    return _sentence(found[0], content) + more


def did_you_mean(name: str, known: list[str]) -> str:
    """A sentence that leads on: the nearest of the known names, or all of them."""
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f"Did you mean {near[0]}?"
    return f"Known here: {', '.join(sorted(known))}."


def shown(value: Any) -> str:
    """A value as the config has it, short enough for a line."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _sentence(error: ErrorDetails, content: dict[str, Any]) -> str:
    kind, location = error["type"], error["loc"]
    key = _written(location, content)
    details = error.get("ctx", {})
    got = f"got {shown(error['input'])}."
    if location[-1] == "api_key_env":
        # Whoever writes the key itself there must not find it in a log.
        return f"{key} must be the name of an environment variable that holds the key, got something else (not shown)."
    if kind.startswith("union_tag"):
        return _tag_sentence(key, error)
    if kind == "extra_forbidden":
        return f"{key} is not a key of the config. {_right_key(location)}"
    if kind == "missing":
        if isinstance(location[-1], int):
            return f"{_written(location[:-1], content)} must have 2 entries, got {location[-1]}."
        return f"{key} is missing. {_description(location)}".rstrip()
    if kind == "string_pattern_mismatch":
        return (
            f"{key} must be a name of up to 64 letters, digits, '.', '_' and '-' that starts with a letter or digit, "
            f"{got}"
        )
    if kind == "literal_error":
        return _choice(key, error, location)
    if kind in _COMPARED:
        bound, words = _COMPARED[kind]
        return f"{key} must be {words} {details[bound]:g}, {got}"
    if kind in ("too_short", "too_long"):
        wanted = details.get("min_length") if kind == "too_short" else details.get("max_length")
        words = "at least" if kind == "too_short" else "at most"
        return f"{key} must have {words} {wanted} entr{'y' if wanted == 1 else 'ies'}, got {details['actual_length']}."
    if kind in _MUST_BE:
        words = "".join(f" or {word}" for word in get_args(_literal_at(location[:-1])))
        return f"{key} must be {_MUST_BE[kind]}{words}, {got}"
    return f"{key}: {error['msg']}, {got}"


def _choice(key: str, error: ErrorDetails, location: Location) -> str:
    value = error["input"]
    choices = [str(choice) for choice in get_args(_literal_at(location))]
    if location == ("schema",):
        return f"schema must be 1, got {shown(value)}. This version of prefduel reads no other."
    if len(choices) == 1:
        return f"{key} must be {choices[0]}, got {shown(value)}."
    listed = f"{', '.join(choices[:-1])} or {choices[-1]}" if choices else error["ctx"]["expected"]
    near = get_close_matches(value, choices, n=1) if isinstance(value, str) else []
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"{key} must be {listed}, got {shown(value)}.{hint}"


def _tag_sentence(key: str, error: ErrorDetails) -> str:
    """An entry of several kinds whose `kind` is none of them, or is missing."""
    if error["type"] == "union_tag_not_found":
        return f"{key}.kind is missing. It says which of the kinds that docs/config.md lists this is."
    kinds = error["ctx"]["expected_tags"].replace("'", "")
    return f"{key}.kind must be one of {kinds}, got {shown(error['ctx']['tag'])}."


def _written(location: Location, content: Any) -> str:
    """A location as `--set` takes it, without the parts that pydantic adds for unions and dict keys."""
    parts: list[str] = []
    here = content
    for number, part in enumerate(location):
        inside = isinstance(here, dict) and part in here
        inside = inside or (isinstance(here, list) and isinstance(part, int) and part < len(here))
        tagged = isinstance(here, dict) and here.get(TAG) == part and number > 0
        if not inside and tagged and isinstance(location[number - 1], int):
            continue  # which of several models pydantic took
        parts.append(str(part))
        if inside:
            here = here[part]
        elif not isinstance(here, dict) or number + 1 < len(location):
            # Neither a key nor a position of the content: pydantic's own label, unless a key is missing here.
            parts.pop()
            break
    return ".".join(parts)


def _right_key(location: Location) -> str:
    name = str(location[-1])
    model = _model_at(location[:-1])
    if model is BenchmarkEvaluation and name in REFUSED:
        return f"{REFUSED[name]}."
    known = _keys(model) if model else []
    if get_close_matches(name, known, n=1, cutoff=0.6):
        return did_you_mean(name, known)
    if model in (ArmStage, TrainingShape) and name in all_argument_names():
        return f"Did you mean {'.'.join(map(str, location[:-1]))}.arguments.{name}?"
    elsewhere = [path for path in _all_paths(Comparison, "") if path.rpartition(".")[2] == name]
    if elsewhere:
        return f"Did you mean {elsewhere[0]}?"
    return did_you_mean(name, known)


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _all_paths(model: type[BaseModel], start: str) -> list[str]:
    paths: list[str] = []
    for name, field in model.model_fields.items():
        path = f"{start}{field.alias or name}"
        paths.append(path)
        inner = _as_model(field.annotation)
        if inner:
            paths.extend(_all_paths(inner, f"{path}."))
    return paths


def _description(location: Location) -> str:
    model = _model_at(location[:-1])
    for name, field in model.model_fields.items() if model else ():
        if location[-1] in (name, field.alias):
            return field.description or ""
    return ""


def _model_at(location: Location) -> type[BaseModel] | None:
    return _as_model(_annotation_at(location))


def _annotation_at(location: Location) -> Any:
    here: Any = Comparison
    for part in location:
        model = _as_model(here)
        if tagged := _tagged(here, part):
            here = tagged
        elif model:
            fields = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
            here = fields.get(str(part))
        else:
            here = _entry_type(here)
    return here


def _entry_type(annotation: Any) -> Any:
    """The type of a list's or a mapping's entries; of a union, its first part that has entries."""
    for option in _options(annotation):
        if get_origin(option) in (list, tuple, dict):
            return get_args(option)[-1]
    return None


def _literal_at(location: Location) -> Any:
    return next(
        (option for option in _options(_annotation_at(location)) if get_origin(option) is Literal), None
    )


def _as_model(annotation: Any) -> type[BaseModel] | None:
    for option in _options(annotation):
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return None


def _tagged(annotation: Any, tag: int | str) -> type[BaseModel] | None:
    """Of several models that their `kind` tells apart, the one of this kind."""
    models = [model for option in _options(annotation) if (model := _as_model(option)) is not None]
    kinds = {
        kind: model
        for model in models
        if TAG in model.model_fields and len(models) > 1
        for kind in get_args(model.model_fields[TAG].annotation)
    }
    return kinds.get(tag)


def _options(annotation: Any) -> list[Any]:
    """The alternatives of a union; anything else is its own only one."""
    if get_origin(annotation) is Annotated:
        return _options(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [option for part in get_args(annotation) for option in _options(part)]
    return [annotation]
