"""Items are read once, column by column, as the lines say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.items import read_items


def written(tmp_path: Path, *lines: str) -> Path:
    (tmp_path / "items.jsonl").write_text("".join(line + "\n" for line in lines))
    return tmp_path / "items.jsonl"


def test_columns_are_what_json_reads_line_by_line(tmp_path: Path) -> None:
    rows = [{"item": f"é{place % 3}", "a": place, "b": place / 7, "note": "x"} for place in range(5)]
    rows += [{"item": "other", "c": 1.5, "a": None}, {"item": "third", "c": True, "a": 2}]
    columns = read_items(written(tmp_path, *map(json.dumps, rows)))
    assert {name: dict(enumerate(column.items)) for name, column in columns.items()} == {
        name: dict(enumerate(str(row["item"]) for row in rows if isinstance(row.get(name), int | float)))
        for name in ("a", "b", "c")
    }
    for name, column in columns.items():
        expected = [row[name] for row in rows if isinstance(row.get(name), int | float)]
        assert column.values.tolist() == expected


@pytest.mark.parametrize("line", ["{", "[1]", '{"a": 1}', "", '{"item": "x", "a": 1}, {"item": "y"', "nul"])
def test_a_line_that_is_no_item_is_named(tmp_path: Path, line: str) -> None:
    good = '{"item": "x", "a": 1}'
    with pytest.raises(ValueError, match="line 2 is not JSON with an item"):
        read_items(written(tmp_path, good, line, good))


def test_an_empty_file_has_no_columns(tmp_path: Path) -> None:
    assert read_items(written(tmp_path)) == {}
