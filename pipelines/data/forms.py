"""How a row holds its preference pair: the row forms, told apart by columns and types. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from pipelines.data.drops import Drop, Unusable
from pipelines.data.files import Row
from pipelines.errors import PipelineError
from pipelines.stages import DataSettings

Message = dict[str, str]  # `role` (system, user or assistant) and `content`
Form = Literal["prompt", "messages", "implicit", "orca", "sharegpt"]

_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "prompter": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
}
_TURN = re.compile(r"\n\n(Human|Assistant):")
_LAST_TURN = "\n\nAssistant:"


@dataclass(frozen=True)
class Pair:
    """A prompt, whose last message is the user's, and two replies to it.

    Attributes:
        category: The prompt's, where the row has one; win rates are shown by it, nothing else looks at it.
    """

    prompt: list[Message]
    chosen: str
    rejected: str
    category: str | None = None

    @cached_property
    def uid(self) -> int:
        """The pair's name, the same for every model: the first 64 bits of the hash of prompt, chosen and rejected."""
        content = json.dumps([self.prompt, self.chosen, self.rejected], sort_keys=True)
        return int.from_bytes(hashlib.sha256(content.encode()).digest()[:8])

    @property
    def num_characters(self) -> int:
        """Of all its texts together."""
        return sum(len(turn["content"]) for turn in self.prompt) + len(self.chosen) + len(self.rejected)


def readable(prompt: Sequence[Message]) -> str:
    """A prompt for people and judges: a single user turn exactly as it is, else every turn with its role."""
    if len(prompt) == 1:
        return prompt[0]["content"]
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in prompt)


def renamed(row: Row, columns: Mapping[str, str]) -> Row:
    """The row with `columns` (our name: name in the data) renamed."""
    if not columns:
        return row
    moved = {ours: row[theirs] for ours, theirs in columns.items() if theirs in row}
    return {name: value for name, value in row.items() if name not in columns.values()} | moved


def check_renamed(columns: Sequence[str], data: DataSettings, *, key: str) -> None:
    """Refuse a renaming of a column that is none of `columns`, which are those of the data.

    Raises:
        PipelineError: names the column and those that are there, and `key`: where the config has `data`.
    """
    for ours, theirs in data.columns.items():
        if theirs not in columns:
            raise PipelineError(
                f"{data.path}: {key}.columns.{ours} names a column {theirs!r} that is not there. {_it_has(columns, key)}"
            )


def find_form(first_rows: Sequence[Row], data: DataSettings, *, key: str = "data") -> Form:
    """The form of a source, from its first rows as they are in the data; `data.form` wins.

    Raises:
        PipelineError: columns are missing; names them and those that are there, and `key`: where the config has `data`.
    """
    has = list(dict.fromkeys(name for row in first_rows for name in row))
    rows = [renamed(row, data.columns) for row in first_rows]
    names = {name for row in rows for name in row}
    form = data.form if data.form != "auto" else _recognised(rows, names)
    needed = {"chosen", "rejected"} | ({"prompt": {"prompt"}, "sharegpt": {"conversations"}}.get(form, set()))
    missing = sorted(needed - names)
    if form == "orca" and not names & {"input", "question"}:
        missing.append("input (or question)")
    if missing:
        raise PipelineError(
            f"{data.path}: form {form} needs the column {', '.join(missing)}. {_it_has(has, key)}"
        )
    return form


def pair_of(row: Row, form: Form) -> Pair | Drop:
    """The pair that a row (columns already renamed) holds in this form, or why it cannot serve."""
    try:
        pair = replace(_READERS[form](row), category=_category(row))
        return _objection(pair) or pair
    except Unusable as unusable:
        return unusable.reason


def _category(row: Row) -> str | None:
    value = row.get("category")
    return value if isinstance(value, str) and value.strip() else None


def _it_has(columns: Sequence[str], key: str) -> str:
    return (
        f"It has: {', '.join(columns)}. Rename columns with {key}.columns."
        if columns
        else "It has no columns."
    )


def _recognised(rows: Sequence[Row], names: set[str]) -> Form:
    if "conversations" in names:
        return "sharegpt"
    if "prompt" in names:
        values = [row.get(name) for row in rows for name in ("prompt", "chosen")]
        return "messages" if any(isinstance(value, list) for value in values) else "prompt"
    return "orca" if names & {"input", "question"} else "implicit"


def _objection(pair: Pair) -> Drop | None:
    texts = [message["content"] for message in pair.prompt] + [
        pair.chosen,
        pair.rejected,
        pair.category or "",
    ]
    if not all(map(_is_unicode, texts)):
        return Drop.NOT_UNICODE
    if not pair.prompt:
        return Drop.EMPTY_PROMPT
    if pair.prompt[-1]["role"] != "user":
        return Drop.NO_USER_TURN
    if not pair.prompt[-1]["content"].strip():
        return Drop.EMPTY_PROMPT
    chosen, rejected = pair.chosen.strip(), pair.rejected.strip()
    if not chosen or not rejected:
        return Drop.EMPTY_REPLY
    return Drop.EQUAL_REPLIES if chosen == rejected else None


def _is_unicode(text: str) -> bool:
    r"""Whether it has no lone surrogate (`"\ud800"` in JSON), which neither a tokenizer nor a file of ours takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _prompt_pair(row: Row) -> Pair:
    return Pair(
        _with_system(row, [_user(_text(row, "prompt"))]), _text(row, "chosen"), _text(row, "rejected")
    )


def _orca_pair(row: Row) -> Pair:
    column = "input" if "input" in row else "question"
    return Pair(_with_system(row, [_user(_text(row, column))]), _text(row, "chosen"), _text(row, "rejected"))


def _sharegpt_pair(row: Row) -> Pair:
    prompt = _messages(_value(row, "conversations"))
    if not prompt or prompt[0]["role"] != "system":
        prompt = _with_system(row, prompt)
    return Pair(prompt, _last_reply(row, "chosen"), _last_reply(row, "rejected"))


def _messages_pair(row: Row) -> Pair:
    """Replies as message lists, holding the assistant's turn alone or the whole conversation."""
    given = row.get("prompt")
    if given is None:
        return _implicit_messages_pair(row)
    prompt = _messages(given) if isinstance(given, list) else [_user(_text(row, "prompt"))]
    before_chosen, chosen = _split_reply(row, "chosen")
    before_rejected, rejected = _split_reply(row, "rejected")
    if before_chosen != before_rejected:
        raise Unusable(Drop.NO_SHARED_PROMPT)
    if before_chosen:
        # The whole conversation may begin with more than the prompt column repeats, such as a system text.
        if before_chosen[-len(prompt) :] != prompt:
            raise Unusable(Drop.NO_SHARED_PROMPT)
        prompt = before_chosen
    return Pair(
        prompt if prompt[:1] and prompt[0]["role"] == "system" else _with_system(row, prompt),
        chosen,
        rejected,
    )


def _implicit_pair(row: Row) -> Pair:
    if isinstance(_value(row, "chosen"), list):
        return _implicit_messages_pair(row)
    chosen, rejected = _text(row, "chosen"), _text(row, "rejected")
    start = _shared_prefix(chosen, rejected).rfind(_LAST_TURN)
    if not chosen.strip() or not rejected.strip():
        raise Unusable(Drop.EMPTY_REPLY)
    if start < 0:
        raise Unusable(Drop.NO_SHARED_PROMPT)
    reply_start = start + len(_LAST_TURN)
    replies = chosen[reply_start:], rejected[reply_start:]
    if any(_TURN.search(reply) for reply in replies):  # the conversations part before the last turn
        raise Unusable(Drop.NO_SHARED_PROMPT)
    return Pair(_with_system(row, _dialogue(chosen[:start])), replies[0].strip(), replies[1].strip())


def _implicit_messages_pair(row: Row) -> Pair:
    before_chosen, chosen = _split_reply(row, "chosen")
    before_rejected, rejected = _split_reply(row, "rejected")
    if not before_chosen or before_chosen != before_rejected:
        raise Unusable(Drop.NO_SHARED_PROMPT)
    return Pair(before_chosen, chosen, rejected)


_READERS: dict[Form, Callable[[Row], Pair]] = {
    "prompt": _prompt_pair,
    "messages": _messages_pair,
    "implicit": _implicit_pair,
    "orca": _orca_pair,
    "sharegpt": _sharegpt_pair,
}


def _dialogue(text: str) -> list[Message]:
    r"""Messages of `\n\nHuman: ...\n\nAssistant: ...`; what stands before the first turn is the system's."""
    before, *parts = _TURN.split(text)
    system = [{"role": "system", "content": before.strip()}] if before.strip() else []
    roles = {"Human": "user", "Assistant": "assistant"}
    turns = zip(parts[::2], parts[1::2], strict=True)
    return system + [{"role": roles[name], "content": content.strip()} for name, content in turns]


def _shared_prefix(one: str, other: str) -> str:
    """The beginning that two strings have in common, found by halving: rows can be long."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return one[:low]


def _split_reply(row: Row, column: str) -> tuple[list[Message], str]:
    """The messages before the last one, and the last one's text, which must be the assistant's."""
    value = _value(row, column)
    if not isinstance(value, list):
        return [], _reply_text(value)
    if not value:
        raise Unusable(Drop.EMPTY_REPLY)
    messages = _messages(value)
    if messages[-1]["role"] != "assistant":
        raise Unusable(Drop.WRONG_TYPES)
    return messages[:-1], messages[-1]["content"]


def _last_reply(row: Row, column: str) -> str:
    before, reply = _split_reply(row, column)
    if before:
        raise Unusable(Drop.WRONG_TYPES)
    return reply


def _reply_text(value: object) -> str:
    if isinstance(value, dict):
        message = _message(value)
        if message["role"] != "assistant":
            raise Unusable(Drop.WRONG_TYPES)
        return message["content"]
    return _as_text(value)


def _messages(value: object) -> list[Message]:
    if not isinstance(value, list):
        raise Unusable(Drop.EMPTY_PROMPT if value is None else Drop.WRONG_TYPES)
    return [_message(item) for item in value]


def _message(value: object) -> Message:
    if not isinstance(value, dict):
        raise Unusable(Drop.WRONG_TYPES)
    name = value.get("role") or value.get("from")
    role = _ROLES.get(name) if isinstance(name, str) else None
    content = value.get("content", value.get("value"))
    if role is None or not isinstance(content, str):
        raise Unusable(Drop.WRONG_TYPES)
    return {"role": role, "content": content}


def _with_system(row: Row, messages: list[Message]) -> list[Message]:
    system = _as_text(row.get("system"))
    return [{"role": "system", "content": system}, *messages] if system.strip() else messages


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


def _text(row: Row, column: str) -> str:
    return _as_text(_value(row, column))


def _value(row: Row, column: str) -> Any:
    if column not in row:
        raise Unusable(Drop.MISSING_COLUMN)
    return row[column]


def _as_text(value: object) -> str:
    """A string as it is; null stands for the empty one."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Unusable(Drop.WRONG_TYPES)
    return value
