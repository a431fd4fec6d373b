"""Every kind of source gives the same rows, and says where it is malformed."""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict

from pipelines.data.inspect import inspect_rows
from pipelines.data.sources import content_hash_of, is_local, open_rows
from pipelines.errors import PipelineError
from pipelines.stages import DataSettings

ROWS = [
    {"prompt": "Wie heißt\ndu?", "chosen": 'Ich heiße "Ada", guten Tag', "rejected": "Nein"},
    {"prompt": "two", "chosen": "zwei,\r\ndrei", "rejected": "vier"},
]


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    if path.suffix == ".gz":
        plain = path.with_suffix("")
        write(plain, rows)
        path.write_bytes(gzip.compress(plain.read_bytes()))
    elif path.name == "list.json":
        path.write_text(json.dumps(rows, indent=1, ensure_ascii=False), encoding="utf-8")
    elif path.suffix in {".json", ".jsonl", ".ndjson"}:
        path.write_text("\n".join(map(json.dumps, rows)) + "\n\n", encoding="utf-8")
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)


def read(path: Path, **settings: Any) -> list[tuple[int, dict[str, Any]]]:
    return list(open_rows(DataSettings(path=str(path), **settings)))


@pytest.mark.parametrize(
    "name",
    [
        "list.json",
        "lines.json",
        "a.jsonl",
        "a.ndjson",
        "a.csv",
        "a.parquet",
        "list.json.gz",
        "a.jsonl.gz",
        "A.csv.gz",
    ],
)
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, ROWS)
    assert read(tmp_path / name) == list(enumerate(ROWS))


def test_blank_lines_are_no_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt,chosen\n\nx,y\n\n")
    (tmp_path / "a.jsonl").write_text('\n{"prompt": "x", "chosen": "y"}\n  \n')
    assert read(tmp_path / "a.csv") == read(tmp_path / "a.jsonl") == [(0, {"prompt": "x", "chosen": "y"})]


def test_a_saved_dataset_and_a_split_of_a_saved_dict_give_the_same_rows(tmp_path: Path) -> None:
    Dataset.from_list(ROWS).save_to_disk(tmp_path / "one")
    DatasetDict({"pairs": Dataset.from_list(ROWS)}).save_to_disk(tmp_path / "many")
    assert read(tmp_path / "one") == list(enumerate(ROWS))
    assert read(tmp_path / "many", split="pairs") == list(enumerate(ROWS))
    with pytest.raises(PipelineError, match=r"no split 'train', it has pairs\. Set data\.split"):
        read(tmp_path / "many")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.json",
            b'[{"prompt": "x"},\n {"prompt" "y"}]',
            r"a\.json, line 2, column 12: broken JSON: Expecting ':'",
        ),
        ("a.json", b'[{"prompt": "x"}, 5]', r"a\.json, row 1: must be an object with columns, got int"),
        ("a.json", b"[]", "must have at least 1 row, got none"),
        ("a.json", b"", "must have at least 1 row, got none"),
        ("a.json", b"[" * 100_000, "nested too deep|broken JSON"),
        ("a.json", b"just words", r"a\.json, row 0 \(line 1\), column 1: broken JSON"),
        ("a.jsonl", b'{"prompt": "x"}\n\n{"prompt": }\n', r"row 1 \(line 3\), column 12: broken JSON"),
        (
            "a.jsonl",
            b'{"prompt": "x"}\n["y"]\n',
            r"row 1 \(line 2\): must be an object with columns, got list",
        ),
        ("a.jsonl", b'{"a": "x"}\n{"a": "\xff"}\n', r"line 2, byte 8: must be UTF-8, got 0xff"),
        (
            "a.jsonl",
            b'{"a": 1}\n{"a": ' + b"9" * 5000 + b"}\n",
            r"a\.jsonl, row 1 \(line 2\): broken JSON: an integer of more than 4300 digits",
        ),
        ("a.json", b'[{"a": ' + b"9" * 5000 + b"}]", r"a\.json: broken JSON: an integer of more than 4300"),
        ("a.jsonl", b"", "must have at least 1 row, got none"),
        (
            "a.csv",
            b"prompt,chosen\nx,y\nz\n",
            r"row 1 \(line 3\): must have 2 columns \(prompt, chosen\), got 1",
        ),
        (
            "a.csv",
            b"prompt,chosen,chosen\nx,y,z\n",
            r"a\.csv, line 1: must name each column once, got 'chosen' 2 times\.",
        ),
        ("a.csv", b'prompt,chosen\nx,"y', r"row 0 \(line 2\): broken CSV"),
        ("a.csv", b"prompt,chosen\n", "must have at least 1 row, got none"),
        ("a.csv", b"prompt\n\xe9\n", r"line 2, byte 1: must be UTF-8, got 0xe9"),
        ("a.jsonl.gz", b'{"prompt": "x"}', r"a\.jsonl\.gz: must be a whole gzip file"),
        ("a.jsonl.gz", gzip.compress(b'{"prompt": "x"}' * 99)[:-9], r"must be a whole gzip file"),
        ("a.parquet", b"PAR1 but not really", r"a\.parquet: broken Parquet"),
        ("a.xlsx", b"PK", r"a\.xlsx: must be one of \.json, \.jsonl"),
    ],
)
def test_a_malformed_file_is_refused_with_the_place_of_the_fault(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PipelineError, match=message) as error:
        inspect_rows(DataSettings(path=str(tmp_path / name)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a.parquet", "saved"])
def test_bytes_that_are_no_utf_8_are_refused_in_arrows_files_too(tmp_path: Path, name: str) -> None:
    # Half of a surrogate pair, as a program that does not look writes it.
    prompts = pa.array([b"fine", b"cut \xed\xa0\xbd"]).view(pa.string())
    table = pa.table({"prompt": prompts, "chosen": ["a", "b"], "rejected": ["c", "d"]})
    if name == "saved":
        Dataset(table).save_to_disk(tmp_path / name)
    else:
        pq.write_table(table, tmp_path / name)
    with pytest.raises(PipelineError, match=rf"{name}, row \d or one soon after it: must be UTF-8, got 0xed"):
        inspect_rows(DataSettings(path=str(tmp_path / name)))


def test_a_file_or_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.jsonl", tmp_path / "none"):
        with pytest.raises(PipelineError, match="there is no such file or folder"):
            read(path)
        with pytest.raises(PipelineError, match="there is no such file or folder"):
            content_hash_of(DataSettings(path=str(path)))


def test_a_folder_without_a_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="must be a folder made by `save_to_disk`"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("path", "local"),
    [
        ("argilla/distilabel-intel-orca-dpo-pairs", False),
        ("toy", False),
        ("imdb", False),
        ("data/pairs.jsonl", True),
        ("pairs.csv.gz", True),
        ("/some/where", True),
        ("../data", True),
        ("a/b/c", True),
    ],
)
def test_a_local_path_is_told_from_a_hub_id(path: str, local: bool) -> None:
    assert is_local(path) is local


def test_the_content_hash_follows_the_bytes_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("{}")
    settings = DataSettings(path=str(file))
    first = content_hash_of(settings)
    file.touch()
    assert content_hash_of(settings) == first
    file.write_text("{ }")
    assert content_hash_of(settings) != first


def test_the_content_hash_of_a_folder_does_not_see_caches(tmp_path: Path) -> None:
    Dataset.from_list(ROWS).save_to_disk(tmp_path / "d")
    settings = DataSettings(path=str(tmp_path / "d"))
    first = content_hash_of(settings)
    (tmp_path / "d" / "cache-123.arrow").write_bytes(b"x")
    assert content_hash_of(settings) == first
    (tmp_path / "d" / "more.arrow").write_bytes(b"x")
    assert content_hash_of(settings) != first


def test_the_content_hash_of_hub_and_toy_data_follows_their_settings() -> None:
    hashes = {
        content_hash_of(DataSettings(path="a/b")),
        content_hash_of(DataSettings(path="a/b", revision="v2")),
        content_hash_of(DataSettings(path="a/b", split="test")),
        content_hash_of(DataSettings(path="toy")),
        content_hash_of(DataSettings(path="toy", num_pairs=10)),
    }
    assert len(hashes) == 5
    assert content_hash_of(DataSettings(path="toy")) == content_hash_of(
        DataSettings(path="toy", num_pairs=800)
    )


class FakeHub:
    """Stands for `datasets.load_dataset`; remembers what it was asked for."""

    def __init__(self, rows: list[dict[str, Any]] | None) -> None:
        self.rows = rows
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, path: str, **arguments: Any) -> Dataset:
        self.asked.append((path, arguments))
        if self.rows is None:
            raise ConnectionError("no route\nto the hub")
        return Dataset.from_list(self.rows)


def test_a_hub_dataset_is_asked_for_with_revision_subset_and_split(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = FakeHub(ROWS)
    monkeypatch.setattr("datasets.load_dataset", hub)
    settings = DataSettings(path="org/pairs", revision="abc", subset="en", split="train[:9]")
    assert list(open_rows(settings)) == list(enumerate(ROWS))
    assert hub.asked == [("org/pairs", {"name": "en", "revision": "abc", "split": "train[:9]"})]


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.load_dataset", FakeHub(None))
    with pytest.raises(PipelineError, match=r"^org/pairs: this dataset of the hub does not load: no route$"):
        list(open_rows(DataSettings(path="org/pairs")))


def test_the_toy_world_gives_pairs_with_distinct_prompts() -> None:
    rows = [row for _, row in open_rows(DataSettings(path="toy"))]
    assert len(rows) == len({row["prompt"] for row in rows}) == 800


def test_looking_at_local_data_loads_no_heavy_library() -> None:
    code = (
        "import sys; import pipelines.data.inspect, pipelines.data.splitting; "
        "print([m for m in ('torch', 'transformers', 'datasets', 'pyarrow', 'numpy', 'tokenizers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
