"""A judge that is a program: JSON lines in, JSON lines out. It is not trusted to end, nor to write what it should."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from harness.evaluation.judges.interface import (
    Judgement,
    Match,
    Reply,
    checked_score,
    checked_win,
)
from pipelines.errors import PipelineError
from pipelines.judge_settings import CommandJudge

INPUT, OUTPUT = "judge_input.jsonl", "judge_output.jsonl"
MOST_OUTPUT_BYTES = 1 << 28
SECONDS_BETWEEN_LOOKS = 0.5  # at how much the program has written
# Between this process and the program, so that the program ends with it however it ends (Linux; elsewhere nothing).
_DIES_WITH_PARENT = (
    "import os, signal, sys\n"
    "try:\n"
    "    import ctypes; ctypes.CDLL(None).prctl(1, signal.SIGKILL)\n"
    "except (AttributeError, OSError): pass\n"
    "if os.getppid() != int(sys.argv[1]): sys.exit(1)\n"
    "os.execvp(sys.argv[2], sys.argv[2:])\n"
)

Answer = TypeVar("Answer")


class Command:
    """Runs the program once for all items.

    Args:
        settings: What is run.
        folder: Where its input and output are kept while it runs.
    """

    def __init__(self, settings: CommandJudge, folder: Path) -> None:
        self._settings, self._folder = settings, folder
        self._where = f"judge {settings.name}"

    def score(self, replies: Sequence[Reply]) -> list[float]:
        """The `score` that the program wrote for each reply.

        Raises:
            PipelineError: it ended badly, not in time, or wrote something else.
        """
        return self._answers(replies, lambda row, where: checked_score(row.get("score"), f"{where}, score"))

    def compare(self, matches: Sequence[Match]) -> list[Judgement]:
        """The `win` that the program wrote for each match, and its `answer` if it wrote one.

        Raises:
            PipelineError: as for `score`.
        """
        return self._answers(matches, _judgement)

    def _answers(
        self,
        asked: Sequence[Reply] | Sequence[Match],
        read: Callable[[Mapping[str, Any], str], Answer],
    ) -> list[Answer]:
        source, target = self._folder / INPUT, self._folder / OUTPUT
        with source.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in asked)
        try:
            self._run(source, target)
            rows = self._rows(target, {one.item for one in asked})
        finally:
            for path in (source, target):
                _remove(path)
        return [read(rows[one.item], f"{self._where}, item {one.item}") for one in asked]

    def _run(self, source: Path, target: Path) -> None:
        files = {"{input}": str(source), "{output}": str(target)}
        arguments = [
            re.sub("{input}|{output}", lambda found: files[found[0]], argument)
            for argument in self._settings.command
        ]
        # What it prints is its answer only where it gets no file for it; else it belongs in the stage's log.
        prints = not any("{output}" in argument for argument in self._settings.command)
        with source.open("rb") as given, target.open("wb") as taken:
            started = subprocess.Popen(
                [sys.executable, "-c", _DIES_WITH_PARENT, str(os.getpid()), *arguments],
                stdin=given,
                stdout=taken if prints else None,
                start_new_session=True,
            )
        minutes = self._settings.timeout_minutes
        until = time.monotonic() + minutes * 60
        try:
            while (code := _waited(started, min(SECONDS_BETWEEN_LOOKS, until - time.monotonic()))) is None:
                self._check_size(target)
                if time.monotonic() >= until:
                    raise PipelineError(
                        f"{self._where}: its command was ended, as it ran longer than timeout_minutes ({minutes:g})"
                    )
        finally:
            _end(started)
        if code != 0:
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise PipelineError(f"{self._where}: its command {how}; the stage's log.txt has what it said")

    def _check_size(self, target: Path) -> None:
        if target.exists() and target.stat().st_size > MOST_OUTPUT_BYTES:
            raise PipelineError(f"{self._where}: its command wrote more than {MOST_OUTPUT_BYTES >> 20} MiB")

    def _rows(self, target: Path, wanted: set[str]) -> dict[str, Mapping[str, Any]]:
        if not target.is_file():
            raise PipelineError(f"{self._where}: its command left no file where its answers belong")
        self._check_size(target)
        found: dict[str, Mapping[str, Any]] = {}
        with target.open(encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                where = f"{self._where}: line {number} of what its command wrote"
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise PipelineError(f"{where} is not JSON: {line.strip()[:60]!r}") from error
                item = row.get("item") if isinstance(row, dict) else None
                if not isinstance(item, str) or item not in wanted:
                    raise PipelineError(f"{where} must have the `item` of one that it was given")
                if item in found:
                    raise PipelineError(f"{where} has the item {item} again")
                found[item] = row
        if missing := wanted - found.keys():
            raise PipelineError(
                f"{self._where}: its command wrote nothing for {len(missing)} of {len(wanted)} items, {min(missing)} first"
            )
        return found


def _remove(path: Path) -> None:
    """Whatever the program has made of one of its files."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _waited(started: subprocess.Popen[bytes], seconds: float) -> int | None:
    """The exit code once the program has ended; None: it goes on after so many seconds."""
    try:
        return started.wait(timeout=max(seconds, 0))
    except subprocess.TimeoutExpired:
        return None


def _judgement(row: Mapping[str, Any], where: str) -> Judgement:
    if "win" not in row:
        raise PipelineError(f"{where}: must have a `win`: 1, 0.5, 0 or null")
    answer = row.get("answer")
    answers = (str(answer),) if answer is not None else ()
    return Judgement(checked_win(row["win"], f"{where}, win"), answers=answers)


def _end(started: subprocess.Popen[bytes]) -> None:
    """End the program and what it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(started.pid, signal.SIGKILL)
    started.wait()
