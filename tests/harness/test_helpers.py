"""What helpers do is what this process would have done, whatever becomes of them."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from harness import helpers
from harness.errors import UserError
from harness.helpers import NOBODY, Helpers, helpers_for
from harness.results import read_results
from tests.harness.fixtures_results import Run, make_results


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that counts as one with many stages, on a machine with two cores; threads that other tests left do not count."""
    monkeypatch.setattr(helpers, "MANY_STAGES", 1)
    monkeypatch.setattr("threading.active_count", lambda: 1)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    (tmp_path / "stage").mkdir()
    return tmp_path


def end_a_helper(own: int) -> int:
    if os.getpid() != own:
        os.kill(os.getpid(), signal.SIGKILL)
    return own


def refuse(what: str) -> None:
    raise UserError(f"{what}: must be another.")


def test_work_is_done_in_another_process_and_an_error_comes_back(many: Path) -> None:
    with helpers_for(many) as helping:
        assert helping.start(os.getpid).result() != os.getpid()
        with pytest.raises(UserError, match="row 3: must be another"):
            helping.start(refuse, "row 3").result()
    assert NOBODY.start(os.getpid).result() == os.getpid()


def test_what_a_killed_helper_had_to_do_is_done_here(many: Path) -> None:
    with helpers_for(many) as helping:
        tasks = [helping.start(end_a_helper, os.getpid()) for _ in range(4)]
        assert [task.result() for task in tasks] == [os.getpid()] * 4
        assert helping.start(os.getpid).result() == os.getpid()


def test_there_are_none_for_few_stages_on_one_core_or_beside_a_thread(
    many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found() -> Helpers:
        with helpers_for(many) as helping:
            return helping

    assert found() != NOBODY
    with monkeypatch.context() as patch:
        patch.setattr(helpers, "MANY_STAGES", 2)
        assert found() == NOBODY
    with monkeypatch.context() as patch:
        patch.setattr("os.cpu_count", lambda: 1)
        assert found() == NOBODY
    with monkeypatch.context() as patch:
        patch.setattr("threading.active_count", lambda: 2)
        assert found() == NOBODY


def test_results_are_the_same_with_helpers_and_so_is_what_is_wrong_with_them(
    many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_results(many, Run(seeds=4))
    monkeypatch.setattr("harness.results.STAGES_AT_ONCE", 3)
    here = read_results(folder)
    with helpers_for(folder) as helping:
        there = read_results(folder, helping)
    assert there.records == here.records
    assert list(there.items) == list(here.items)
    for stage_id, columns in here.items.items():
        found = there.items[stage_id]
        assert list(found) == list(columns)
        for name, column in columns.items():
            assert (found[name].items, found[name].clusters) == (column.items, column.clusters)
            assert found[name].values.tobytes() == column.values.tobytes()
    damaged = next(stage_id for stage_id, columns in reversed(here.items.items()) if columns)
    (folder / damaged / "items.jsonl").write_text("no JSON\n")
    with pytest.raises(UserError) as alone:
        read_results(folder)
    with helpers_for(folder) as helping, pytest.raises(UserError) as helped:
        read_results(folder, helping)
    assert str(helped.value) == str(alone.value)
    assert "line 1 is not JSON" in str(alone.value)


def test_there_are_none_where_the_system_gives_no_processes_or_no_shared_memory(
    many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fork, forked = os.fork, 0

    def first_only() -> int:
        nonlocal forked
        forked += 1
        if forked > 1:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return fork()

    with monkeypatch.context() as patch:
        patch.setattr("os.fork", first_only)
        with helpers_for(many) as helping:
            assert helping == NOBODY
    assert forked == 2
    assert not multiprocessing.active_children()

    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("multiprocessing.synchronize.SemLock.__init__", read_only)
    with helpers_for(many) as helping:
        assert helping == NOBODY
