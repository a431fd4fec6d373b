"""Rows of local files, with the place of whatever is malformed in them. Imports no torch."""

from __future__ import annotations

import csv
import gzip
import json
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.errors import PipelineError

Row = dict[str, Any]
_BYTE_ORDER_MARK = "\ufeff"
_LARGEST_CSV_FIELD = 1 << 30
_PARQUET_BATCH = 1000


def read_file(path: Path) -> Iterator[Row]:
    """The rows of a .json, .jsonl, .ndjson, .csv (each also .gz) or .parquet file, in order.

    Raises:
        PipelineError: the file is malformed: `FILE, row N (line N): what is wrong`.
    """
    kind = data_suffix(path)
    if not path.is_file():
        raise PipelineError(f"{path}: must be a file, got a pipe or a device.")
    if kind is None:
        raise PipelineError(
            f"{path}: must be one of {', '.join(SUFFIXES)}, or a folder made by `save_to_disk`."
        )
    return _READERS[kind](path)


def data_suffix(path: Path) -> str | None:
    """The suffix that says how `path` is read, without .gz; None if it is none of ours."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    is_packed = suffixes[-1:] == [".gz"]
    kind = (suffixes[-2:-1] if is_packed else suffixes[-1:]) or [""]
    known = kind[0] in _READERS and not (is_packed and kind[0] == ".parquet")
    return kind[0] if known else None


def _json_rows(path: Path) -> Iterator[Row]:
    """A list of objects, which is read whole, or JSON lines under that name."""
    for _, line in _lines(path):
        if line.strip():
            if line.lstrip().startswith("["):
                break
            yield from _json_line_rows(path)
            return
    try:
        rows = json.loads("".join(line for _, line in _lines(path)) or "[]")
    except json.JSONDecodeError as error:
        raise PipelineError(
            f"{path}, line {error.lineno}, column {error.colno}: broken JSON: {error.msg}."
        ) from error
    except (ValueError, RecursionError) as error:
        raise PipelineError(f"{path}: broken JSON: {_beyond_python(error)}.") from error
    for number, row in enumerate(rows):
        yield _as_row(row, f"{path}, row {number}")


def _json_line_rows(path: Path) -> Iterator[Row]:
    number = 0
    for line_number, line in _lines(path):
        if not line.strip():
            continue
        where = f"{path}, row {number} (line {line_number})"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise PipelineError(f"{where}, column {error.colno}: broken JSON: {error.msg}.") from error
        except (ValueError, RecursionError) as error:
            raise PipelineError(f"{where}: broken JSON: {_beyond_python(error)}.") from error
        yield _as_row(row, where)
        number += 1


def _beyond_python(error: ValueError | RecursionError) -> str:
    """What is wrong with JSON that is well formed, but more than Python reads."""
    if isinstance(error, RecursionError):
        return "nested too deep"
    return f"an integer of more than {sys.get_int_max_str_digits()} digits"


def _csv_rows(path: Path) -> Iterator[Row]:
    csv.field_size_limit(_LARGEST_CSV_FIELD)
    reader = csv.reader((line for _, line in _lines(path)), strict=True)
    number = -1
    try:
        header = next(reader, [])
        if twice := [name for name, count in Counter(header).items() if name and count > 1]:
            raise PipelineError(
                f"{path}, line {reader.line_num}: must name each column once, got {twice[0]!r} {header.count(twice[0])} times."
            )
        for number, fields in enumerate(filter(None, reader)):
            if len(fields) != len(header):
                raise PipelineError(
                    f"{path}, row {number} (line {reader.line_num}): must have {len(header)} columns "
                    f"({', '.join(header)}), got {len(fields)}."
                )
            yield dict(zip(header, fields, strict=True))
    except csv.Error as error:
        raise PipelineError(
            f"{path}, row {number + 1} (line {reader.line_num}): broken CSV: {error}."
        ) from error


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_PARQUET_BATCH):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise PipelineError(f"{path}: broken Parquet: {str(error).splitlines()[0]}") from error


_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".json": _json_rows,
    ".jsonl": _json_line_rows,
    ".ndjson": _json_line_rows,
    ".csv": _csv_rows,
    ".parquet": _parquet_rows,
}
SUFFIXES = (*_READERS, *(f"{suffix}.gz" for suffix in _READERS if suffix != ".parquet"))


def _as_row(row: object, where: str) -> Row:
    if not isinstance(row, dict):
        raise PipelineError(f"{where}: must be an object with columns, got {type(row).__name__}.")
    return row


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines counted from 1, with their line ends."""
    with _opened(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise PipelineError(
                    f"{path}, line {number}, byte {error.start + 1}: must be UTF-8, got 0x{line[error.start]:02x}."
                ) from error
            yield number, text.removeprefix(_BYTE_ORDER_MARK) if number == 1 else text


@contextmanager
def _opened(path: Path) -> Iterator[Iterable[bytes]]:
    if path.suffix.lower() != ".gz":
        with path.open("rb") as plain:
            yield plain
        return
    try:
        with gzip.open(path) as packed:
            yield packed
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise PipelineError(f"{path}: must be a whole gzip file: {error}.") from error
