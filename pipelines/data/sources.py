"""Where rows come from: a local file or folder, the hub, the toy world. Imports no torch; `datasets` only when needed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.data.files import Row, data_suffix, read_file
from pipelines.errors import PipelineError
from pipelines.stages import DataSettings
from pipelines.toy.tickets import make_pairs

TOY = "toy"
TOY_PAIRS = 800
TOY_SEED = 2024  # of its own: neither the corpus, nor the questions, nor the calibration draws from it
_HUB_ID = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")


def open_rows(data: DataSettings, *, key: str = "data") -> Iterator[tuple[int, Row]]:
    """The rows of a source with their numbers, counted from 0, columns named as in the source.

    Args:
        data: Which source.
        key: Where the config has `data`, for messages.

    Raises:
        PipelineError: there is no such source, it has no rows, or it is malformed; the message says where.
    """
    number = -1
    try:
        for number, row in enumerate(_rows(data, key)):
            yield number, row
    except UnicodeDecodeError as error:
        # Arrow does not look at the bytes that it is handed as text, and gives rows out in batches.
        raise PipelineError(
            f"{data.path}, row {number + 1} or one soon after it: must be UTF-8, got 0x{error.object[error.start]:02x}."
        ) from error
    if number < 0:
        raise PipelineError(f"{data.path}: must have at least 1 row, got none.")


def is_local(path: str) -> bool:
    """Whether `data.path` means a file or a folder: one that is here, or what cannot be a hub id."""
    return path != TOY and (
        Path(path).exists() or data_suffix(Path(path)) is not None or not _HUB_ID.fullmatch(path)
    )


def content_hash_of(data: DataSettings) -> str:
    """What identifies the rows of a source, without reading them as rows.

    Returns:
        SHA-256 of a local file's or folder's bytes; a hub dataset's id and revision; the toy world's settings.

    Raises:
        PipelineError: a local file or folder is not there.
    """
    if data.path == TOY:
        return f"{TOY} {data.num_pairs or TOY_PAIRS} seed {TOY_SEED}"
    if not is_local(data.path):
        return f"{data.path}@{data.revision} {data.subset} {data.split}"
    path = _present(data.path)
    # Beside a dataset's own files its folder may hold caches of later `map` calls.
    files = (
        [path]
        if path.is_file()
        else sorted(p for p in path.rglob("*") if not p.name.startswith(("cache-", ".")))
    )
    digest = hashlib.sha256()
    for file in filter(Path.is_file, files):
        with file.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{file.relative_to(path) if file != path else ''}\n{content}\n".encode())
    return digest.hexdigest()


def _rows(data: DataSettings, key: str) -> Iterator[Row]:
    if data.path == TOY:
        yield from make_pairs(data.num_pairs or TOY_PAIRS, seed=TOY_SEED)
    elif not is_local(data.path):
        yield from _hub_rows(data)
    elif _present(data.path).is_dir():
        yield from _folder_rows(data, key)
    else:
        yield from read_file(Path(data.path))


def _present(path: str) -> Path:
    if not Path(path).exists():
        raise PipelineError(f"{path}: there is no such file or folder.")
    return Path(path)


def _folder_rows(data: DataSettings, key: str) -> Iterator[Row]:
    from datasets import DatasetDict, load_from_disk

    try:
        loaded: Any = load_from_disk(data.path)
    except (OSError, ValueError, KeyError) as error:
        raise PipelineError(
            f"{data.path}: must be a folder made by `save_to_disk`: {_first_line(error)}"
        ) from error
    if isinstance(loaded, DatasetDict):
        if data.split not in loaded:
            raise PipelineError(
                f"{data.path}: has no split {data.split!r}, it has {', '.join(loaded)}. Set {key}.split."
            )
        loaded = loaded[data.split]
    yield from loaded


def _hub_rows(data: DataSettings) -> Iterator[Row]:
    from datasets import load_dataset

    try:
        loaded = load_dataset(data.path, name=data.subset, revision=data.revision, split=data.split)
    except (OSError, ValueError, RuntimeError) as error:
        raise PipelineError(
            f"{data.path}: this dataset of the hub does not load: {_first_line(error)}"
        ) from error
    yield from loaded


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
