"""Answers that an endpoint gave, kept by the content of the request: none is paid for twice, not even after a kill.

What attempts without an answer cost is kept beside them: rows without an `answer`.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FORM = {"key": str, "tokens": int, "comparison": str}
FOLDER = "judge_answers"  # beside the results folders: comparisons and nights share it


class KeptAnswers:
    """A file of JSON lines that only grows.

    Args:
        path: The file; its folder is made.
        comparison: Whose cost new answers are.
    """

    def __init__(self, path: Path, comparison: str) -> None:
        self._path, self._comparison = path, comparison
        self._lock = threading.Lock()
        self._answers: dict[str, str] = {}
        self.spent = 0  # tokens that attempts for this comparison cost, in every run of it
        path.parent.mkdir(parents=True, exist_ok=True)
        for row in _rows(path):
            if isinstance(row.get("answer"), str):
                self._answers[row["key"]] = row["answer"]
            self.spent += row["tokens"] * (row["comparison"] == comparison)
        if path.is_file() and not path.read_bytes().endswith(b"\n"):
            self._write(b"\n")  # a kill left half a line

    def get(self, key: str) -> str | None:
        """The answer to the request of this key."""
        return self._answers.get(key)

    def keep(self, key: str, answer: str | None, num_tokens: int) -> None:
        """Remember an answer, or None, and what it cost; both are on the disk when this returns."""
        row: dict[str, Any] = {"key": key, "tokens": num_tokens, "comparison": self._comparison}
        if answer is not None:
            row["answer"] = answer
        with self._lock:
            # In ASCII: an answer may hold halves of characters.
            self._write(json.dumps(row).encode() + b"\n")
            self.spent += num_tokens
            if answer is not None:
                self._answers[key] = answer

    def _write(self, line: bytes) -> None:
        with self._path.open("ab") as file:
            file.write(line)


def key_of(request: Any) -> str:
    """The key of a request: a hash of all that makes its answer."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """Whole lines; others, which a kill left, are passed over."""
    if not path.is_file():
        return
    for line in path.read_bytes().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and {key: type(row.get(key)) for key in FORM} == FORM:
            yield row
