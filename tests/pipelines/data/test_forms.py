"""Each row form gives the pair that a person would read in it; rows that cannot serve say why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.data.drops import Drop
from pipelines.data.forms import Pair, find_form, pair_of
from pipelines.data.inspect import inspect_rows
from pipelines.errors import PipelineError
from pipelines.stages import DataSettings


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def from_value(role: str, content: str) -> dict[str, str]:
    return {"from": role, "value": content}


HI, A, B = said("user", "Hi"), said("assistant", "A"), said("assistant", "B")
LONG = [said("user", "1"), said("assistant", "2"), HI]
SYSTEM = said("system", "S")
HH = "\n\nHuman: 1\n\nAssistant: 2\n\nHuman: Hi\n\nAssistant:"


@pytest.mark.parametrize(
    ("form", "row", "prompt"),
    [
        ("prompt", {"prompt": "Hi", "chosen": "A", "rejected": "B"}, [HI]),
        ("prompt", {"system": "S", "prompt": "Hi", "chosen": "A", "rejected": "B"}, [SYSTEM, HI]),
        ("messages", {"prompt": LONG, "chosen": [A], "rejected": [B]}, LONG),
        ("messages", {"prompt": LONG, "chosen": "A", "rejected": "B"}, LONG),
        ("messages", {"prompt": "Hi", "chosen": [HI, A], "rejected": [HI, B]}, [HI]),
        ("messages", {"prompt": [HI], "chosen": [SYSTEM, HI, A], "rejected": [SYSTEM, HI, B]}, [SYSTEM, HI]),
        ("implicit", {"chosen": [*LONG, A], "rejected": [*LONG, B]}, LONG),
        ("implicit", {"chosen": f"{HH} A", "rejected": f"{HH} B"}, LONG),
        ("implicit", {"chosen": f"S{HH} A", "rejected": f"S{HH} B"}, [SYSTEM, *LONG]),
        ("orca", {"system": "S", "input": "Hi", "chosen": "A", "rejected": "B"}, [SYSTEM, HI]),
        ("orca", {"system": "", "question": "Hi", "chosen": "A", "rejected": "B"}, [HI]),
        ("orca", {"system": None, "input": "Hi", "chosen": "A", "rejected": "B", "rating": 3}, [HI]),
        (
            "sharegpt",
            {
                "conversations": [from_value("system", "S"), from_value("human", "Hi")],
                "chosen": from_value("gpt", "A"),
                "rejected": from_value("gpt", "B"),
            },
            [SYSTEM, HI],
        ),
        ("sharegpt", {"conversations": LONG, "chosen": A, "rejected": "B"}, LONG),
    ],
)
def test_each_form_is_recognised_and_read(
    form: str, row: dict[str, Any], prompt: list[dict[str, str]]
) -> None:
    found = find_form([row], DataSettings(path="rows"))
    assert found == form
    assert pair_of(row, found) == Pair(prompt, "A", "B")


@pytest.mark.parametrize(
    ("form", "row", "reason"),
    [
        ("prompt", {"prompt": " \n", "chosen": "A", "rejected": "B"}, Drop.EMPTY_PROMPT),
        ("prompt", {"prompt": None, "chosen": "A", "rejected": "B"}, Drop.EMPTY_PROMPT),
        ("prompt", {"prompt": "Hi", "chosen": "A", "rejected": "\t"}, Drop.EMPTY_REPLY),
        ("prompt", {"prompt": "Hi", "chosen": None, "rejected": "B"}, Drop.EMPTY_REPLY),
        ("prompt", {"prompt": "Hi", "chosen": "A", "rejected": "A\n"}, Drop.EQUAL_REPLIES),
        ("prompt", {"prompt": "Hi", "chosen": 3, "rejected": "B"}, Drop.WRONG_TYPES),
        ("prompt", {"prompt": "Hi", "chosen": "A"}, Drop.MISSING_COLUMN),
        ("prompt", {"prompt": "Hi", "chosen": "A", "rejected": "cut \ud83d"}, Drop.NOT_UNICODE),
        (
            "prompt",
            {"prompt": "Hi", "chosen": "A", "rejected": "B", "category": "\ud83d"},
            Drop.NOT_UNICODE,
        ),
        (
            "messages",
            {"prompt": [said("system", "\udc00"), HI], "chosen": [A], "rejected": [B]},
            Drop.NOT_UNICODE,
        ),
        ("messages", {"prompt": [], "chosen": [A], "rejected": [B]}, Drop.EMPTY_PROMPT),
        ("messages", {"prompt": [HI], "chosen": [], "rejected": [B]}, Drop.EMPTY_REPLY),
        ("messages", {"prompt": [HI], "chosen": [HI], "rejected": [B]}, Drop.WRONG_TYPES),
        ("messages", {"prompt": [HI, A], "chosen": [A], "rejected": [B]}, Drop.NO_USER_TURN),
        ("messages", {"prompt": [HI], "chosen": [*LONG, A], "rejected": [HI, B]}, Drop.NO_SHARED_PROMPT),
        ("messages", {"prompt": "other", "chosen": [HI, A], "rejected": [HI, B]}, Drop.NO_SHARED_PROMPT),
        ("messages", {"prompt": [{"role": "user"}], "chosen": [A], "rejected": [B]}, Drop.WRONG_TYPES),
        ("messages", {"prompt": [said("tool", "x")], "chosen": [A], "rejected": [B]}, Drop.WRONG_TYPES),
        (
            "messages",
            {"prompt": [{"role": 3, "content": "x"}], "chosen": [A], "rejected": [B]},
            Drop.WRONG_TYPES,
        ),
        (
            "messages",
            {"prompt": [{"role": ["user"], "content": "x"}], "chosen": [A], "rejected": [B]},
            Drop.WRONG_TYPES,
        ),
        ("implicit", {"chosen": "A", "rejected": "B"}, Drop.NO_SHARED_PROMPT),
        (
            "implicit",
            {"chosen": f"{HH} A", "rejected": "\n\nHuman: Bye\n\nAssistant: B"},
            Drop.NO_SHARED_PROMPT,
        ),
        (
            "implicit",
            {"chosen": f"{HH} A\n\nHuman: more\n\nAssistant: C", "rejected": f"{HH} B"},
            Drop.NO_SHARED_PROMPT,
        ),
        ("implicit", {"chosen": f"{HH} A", "rejected": f"{HH} A"}, Drop.EQUAL_REPLIES),
        ("implicit", {"chosen": f"{HH} A", "rejected": f"{HH}"}, Drop.EMPTY_REPLY),
        ("implicit", {"chosen": [HI, A], "rejected": [*LONG, B]}, Drop.NO_SHARED_PROMPT),
        ("sharegpt", {"conversations": [HI, A], "chosen": B, "rejected": "C"}, Drop.NO_USER_TURN),
        ("sharegpt", {"conversations": "Hi", "chosen": A, "rejected": B}, Drop.WRONG_TYPES),
        ("sharegpt", {"conversations": [HI], "chosen": HI, "rejected": B}, Drop.WRONG_TYPES),
    ],
)
def test_a_row_that_cannot_serve_says_why(form: Any, row: dict[str, Any], reason: Drop) -> None:
    assert pair_of(row, form) is reason


def test_the_text_of_a_prompt_and_of_a_reply_is_kept_to_the_character() -> None:
    row = {"prompt": "  Hi \n", "chosen": " A ", "rejected": "\nB"}
    assert pair_of(row, "prompt") == Pair([said("user", "  Hi \n")], " A ", "\nB")


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_renamed_columns_are_read_under_our_names(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"q": "Hi", "good": "A", "bad": "B", "prompt_id": 1}])
    found = inspect_rows(
        DataSettings(path=path, columns={"prompt": "q", "chosen": "good", "rejected": "bad"})
    )
    assert (found.form, found.columns, found.num_usable) == ("prompt", ["q", "good", "bad", "prompt_id"], 1)


def test_a_missing_column_is_named_with_the_columns_that_are_there(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"prompt": "Hi", "good": "A", "rejected": "B"}])
    with pytest.raises(PipelineError, match=r"needs the column chosen\. It has: prompt, good, rejected\."):
        inspect_rows(DataSettings(path=path))
    with pytest.raises(PipelineError, match=r"data\.columns\.chosen names a column 'fine' that is not there"):
        inspect_rows(DataSettings(path=path, columns={"chosen": "fine"}))
    with pytest.raises(PipelineError, match=r"form sharegpt needs the column chosen, conversations"):
        inspect_rows(DataSettings(path=path, form="sharegpt"))


def test_a_forced_form_wins_over_what_the_columns_look_like(tmp_path: Path) -> None:
    row = {"prompt": "no", "question": "Hi", "chosen": "A", "rejected": "B"}
    path = write(tmp_path / "a.jsonl", [row])
    assert inspect_rows(DataSettings(path=path)).form == "prompt"
    assert inspect_rows(DataSettings(path=path, form="orca")).form == "orca"


def test_rows_are_counted_with_reasons_and_first_numbers(tmp_path: Path) -> None:
    good = {"prompt": "Hi", "chosen": "A", "rejected": "B"}
    rows = [good, good, good | {"chosen": ""}, good | {"prompt": "other"}, good, good | {"rejected": 1}]
    found = inspect_rows(DataSettings(path=write(tmp_path / "a.jsonl", rows)))
    counts = {group.reason: (group.num_rows, group.first_rows) for group in found.dropped}
    assert counts == {"duplicate": (2, [1, 4]), "empty reply": (1, [2]), "wrong types": (1, [5])}
    assert (found.num_rows, found.num_usable) == (6, 2)
    assert inspect_rows(DataSettings(path=str(tmp_path / "a.jsonl")), max_rows=2).num_rows == 2
