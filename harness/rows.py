"""The forms of the rows that stages leave in JSON-lines files, and reading them. Older records have no hashes of these files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import ConfigDict, Field, InstanceOf, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from harness.errors import UserError
from harness.records import JUDGEMENTS, LOSSES, REPLIES, VALIDATION, WEIGHTS_BY_LAYER
from pipelines.evaluations import Split
from pipelines.stages import Count, Quantity

BATCHES, PAIRS = "batches.jsonl", "pairs.jsonl"  # what a model received, and what was prepared for it
LINES_AT_ONCE, LONGEST_KEY = 1000, 60
LARGEST = 1e60  # a loss that diverges reaches what float32 holds, 3e38; figures can draw that

STRICT = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)
Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
Text = InstanceOf[str]  # a string with half of a surrogate pair in it is one, too


class LossRow(TypedDict):
    """An optimizer step of a training."""

    step: Count
    loss: NotRequired[Number | None]
    learning_rate: NotRequired[Number | None]


class ValidationRow(TypedDict, extra_items=Number | None):  # type: ignore[call-arg]  # mypy does not know PEP 728
    """A look at one split's pairs during a training, with the mean of each metric; null: it was not finite."""

    step: Count
    split: Split
    num_pairs: Annotated[Count, Field(gt=0)]
    num_policy_tokens: Count
    num_reference_tokens: Count
    train_seconds: Quantity
    total_seconds: Quantity
    energy_joules: NotRequired[Quantity | None]


class BatchRow(TypedDict):
    """What a model received at once; the audit reads its sequences."""

    step: Count
    sequences: list[Any]


class PairRow(TypedDict):
    """A prepared pair: hashes of its texts and their numbers of tokens."""

    uid: str
    split: Split
    prompt: str
    prompt_normalised: str
    chosen: str
    rejected: str
    prompt_tokens: Count
    chosen_tokens: Count
    rejected_tokens: Count
    prompt_ends: Count
    closed: bool


class ReplyRow(TypedDict):
    """A generated reply, with the parts of its gold score where the data have one."""

    item: Text
    temperature: Number
    prompt: Text
    reply: Text
    num_tokens: Count
    stopped: bool
    gold: dict[str, Number] | None


class JudgementRow(TypedDict):
    """A judge's verdict on a reply; its win is null where the answers could not be read."""

    win: Number | None
    answers: list[Text]


class LayerRow(TypedDict):
    """How far a layer's weights went from the base's; null: infinitely far, from zeros."""

    layer: str
    relative: Quantity | None


Form = TypeAdapter[list[Any]]
FORMS: dict[str, Form] = {
    LOSSES: TypeAdapter(list[LossRow], config=STRICT),
    VALIDATION: TypeAdapter(list[ValidationRow], config=STRICT),
    BATCHES: TypeAdapter(list[BatchRow], config=STRICT),
    PAIRS: TypeAdapter(list[PairRow], config=STRICT),
    REPLIES: TypeAdapter(list[ReplyRow], config=STRICT),
    JUDGEMENTS: TypeAdapter(list[JudgementRow], config=STRICT),
    WEIGHTS_BY_LAYER: TypeAdapter(list[LayerRow], config=STRICT),
}
ANY_FORM = TypeAdapter(list[dict[str, Any]])


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file in a stage's folder; its name says of which form they are.

    Raises:
        UserError: a line is damaged.
    """
    form, number = FORMS.get(path.name, ANY_FORM), 0
    with path.open(encoding="utf-8", errors="replace") as file:  # a damaged line is told below
        while lines := list(islice(file, LINES_AT_ONCE)):
            rows = _checked(lines, form)
            yield from rows or (
                _checked_line(line, form, path, place) for place, line in enumerate(lines, start=number + 1)
            )
            number += len(lines)


def _checked(lines: list[str], form: Form) -> list[Any] | None:
    """All of them at once, several times faster than one by one; None where one is damaged, or for the other parser."""
    try:
        rows = form.validate_json(f"[{','.join(lines)}]")
    except ValidationError:
        return None
    return rows if len(rows) == len(lines) else None


def _checked_line(line: str, form: Form, path: Path, number: int) -> Any:
    try:
        # Unlike the other it reads lone surrogates.
        return form.validate_python([json.loads(line, parse_constant=_refused)])[0]
    except ValidationError as error:
        problem = _problem(error)
    except (ValueError, RecursionError):
        problem = "is not JSON"
    raise UserError(f"{path}: line {number} {problem}. Delete the folder {path.parent.name} and run again.")


def _problem(error: ValidationError) -> str:
    first = error.errors()[0]
    if len(first["loc"]) == 1:
        return "is no JSON object"
    key = str(first["loc"][1])[:LONGEST_KEY]
    return f"has no {key!r}" if first["type"] == "missing" else f"has a {key!r} that it cannot have"


def _refused(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
