"""The SHA-256 of big files, each read once: kept in the user's cache as long as the file system says it is the same."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from pathlib import Path

from pydantic_core import from_json

from harness.records import write_json

CACHE = Path("prefduel") / "file-hashes.json"
BIG = 1 << 24  # bytes; a smaller file is read in milliseconds
SETTLED_SECONDS = 2.0  # a file that changed later than this may change again without another time


def content_hash(path: Path, *, big: int = BIG) -> str:
    """SHA-256 of a file's bytes, kept where the file has at least `big` of them.

    It is kept with the file's inode, size and times. The time of the last change of the inode is among them, which no
    program sets at will: neither an edit of the same size nor one that puts the old time back goes unnoticed, and a
    file that is only touched is read again and keeps its hash.
    """
    place = str(path.resolve())
    stamp = _stamp(path)
    size = stamp[1]
    known = _read() if size >= big else {}
    if known.get(place, {}).get("stamp") == stamp:
        return str(known[place]["sha256"])
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    settled = stamp == _stamp(path) and time.time() - max(stamp[2:]) / 1e9 > SETTLED_SECONDS
    if settled and size >= big:
        _keep(known | {place: {"stamp": stamp, "sha256": digest}})
    return digest


def cache_file() -> Path:
    """Where hashes are kept: `$XDG_CACHE_HOME/prefduel`, or `~/.cache/prefduel`. It can be deleted at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / CACHE


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _read() -> dict[str, dict[str, object]]:
    try:
        content = from_json(cache_file().read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) and all(isinstance(v, dict) for v in content.values()) else {}


def _keep(hashes: dict[str, dict[str, object]]) -> None:
    """A cache that cannot be written costs time, nothing else."""
    with contextlib.suppress(OSError):
        cache_file().parent.mkdir(parents=True, exist_ok=True)
        write_json(cache_file(), hashes)
