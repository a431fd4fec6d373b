"""Launching: a fresh process, its end noticed, its failure a record, the same numbers however it starts."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.evaluation.loaded import model_of
from harness.launch import Ending, Launcher
from harness.records import ITEMS, LOG, Missing, Record, read_record, write_json
from harness.stage import STAGE, main
from pipelines.models import MODEL
from pipelines.outcomes import TrainOutcome
from pipelines.stages import ConvertSettings, EvaluateSettings, Limits, ModelSettings, Stage, StageInputs
from tests.harness.launched import run_alone
from tests.pipelines.training import tiny


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Launcher:
    return Launcher("forkserver", tmp_path_factory.mktemp("log"))


def placed(root: Path, stage: Stage) -> Path:
    folder = tiny.folder_of(root, stage)
    write_json(folder / STAGE, stage.model_dump(mode="json", by_alias=True))
    return folder


def unloadable() -> Stage:
    model = ModelSettings(name="package:there_is_no_such_package", gguf_file="x.gguf")
    settings = ConvertSettings(kind="convert", model=model, dtype="float32")
    return Stage(id="convert-000000000000", settings=settings, seed=0, threads=1, device="cpu")


def record_of(folder: Path) -> Record:
    record = read_record(folder)
    assert record is not None
    return record


def test_a_stage_that_fails_leaves_a_record_with_one_clear_line(launcher: Launcher, tmp_path: Path) -> None:
    folder = placed(tmp_path, unloadable())
    assert run_alone(launcher, folder / STAGE, lambda *_: None).exit_code == 0
    record = record_of(folder)
    assert record.status == "failed"
    assert record.failure is not None
    assert "'there_is_no_such_package' is not installed" in record.failure.message
    assert "Traceback" in record.failure.evidence
    assert str(Path.home()) + "/" not in record.failure.evidence
    assert (folder / LOG).is_file()


def test_a_killed_child_is_noticed_and_told_by_its_signal(launcher: Launcher, tmp_path: Path) -> None:
    tiny.make_inputs(tmp_path)
    folder = placed(tmp_path, tiny.stage("sft", num_train_epochs=100_000))
    seen: list[int] = []

    def kill_once(phase: str, done: int, total: int) -> None:  # noqa: ARG001
        if phase == "train" and done == 3:
            seen.extend(_stage_processes())
            for child in seen:
                os.kill(child, signal.SIGKILL)

    exit_code = run_alone(launcher, folder / STAGE, kill_once).exit_code
    assert seen
    assert exit_code == -signal.SIGKILL
    assert read_record(folder) is None


def _stage_processes() -> list[int]:
    """Children of the fork server, which is a child of this process."""
    return [grandchild.pid for child in psutil.Process().children() for grandchild in child.children()]


def test_progress_arrives_while_the_stage_runs(launcher: Launcher, tmp_path: Path) -> None:
    tiny.make_inputs(tmp_path)
    folder = placed(tmp_path, tiny.stage("sft", num_train_epochs=1))
    seen: list[tuple[str, int, int]] = []
    run_alone(launcher, folder / STAGE, lambda *moved: seen.append(moved))
    assert ("train", 3, 3) in seen
    assert [phase for phase, done, _ in seen if done == 0] == ["load", "data", "train", "save"]


def test_phases_sum_to_the_stage_and_its_own_process_is_in_the_record(
    launcher: Launcher, tmp_path: Path
) -> None:
    tiny.make_inputs(tmp_path)
    folder = placed(tmp_path, tiny.stage("sft", num_train_epochs=1))
    before = time.monotonic()
    run_alone(launcher, folder / STAGE, lambda *_: None)
    elapsed = time.monotonic() - before
    cost = record_of(folder).cost
    assert cost is not None
    assert sum(phase.seconds for phase in cost.phases) == pytest.approx(cost.total_seconds, rel=1e-6)
    assert cost.total_seconds <= elapsed
    assert cost.warm_up_seconds is not None
    assert cost.waiting_seconds is not None
    assert 0 < cost.waiting_seconds < cost.train_seconds
    assert 0 < cost.warm_up_seconds < cost.train_seconds
    assert cost.energy_joules == Missing(reason="the stage ran on the CPU")
    assert cost.contended is not None
    assert cost.peak_memory_bytes == max(
        phase.peak_resident_bytes for phase in cost.phases if isinstance(phase.peak_resident_bytes, int)
    )


@pytest.mark.slow
def test_forkserver_spawn_and_the_command_line_give_the_same_weights(
    launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")  # the command line runs in this process
    found = {}
    for how in ("forkserver", "spawn", "command"):
        root = tmp_path / how
        root.mkdir()
        tiny.make_inputs(root)
        folder = placed(root, tiny.stage("orpo"))
        if how == "command":
            main([str(folder / STAGE)])
        else:
            run_alone(launcher if how == "forkserver" else Launcher("spawn", root), folder / STAGE)
        record = record_of(folder)
        outcome = record.outcome
        assert isinstance(outcome, TrainOutcome)
        assert record.start_method == (None if how == "command" else how)
        found[how] = outcome.weights_hash
    assert len(set(found.values())) == 1


def evaluation(evaluated: dict[str, Any], number: int, policy: str | None = None) -> Stage:
    settings = EvaluateSettings.model_validate(
        {
            "kind": "evaluate",
            "model": {"name": "toy"},
            "dtype": "float32",
            "max_length": 32,
            "evaluation": evaluated,
        }
    )
    return Stage(
        id=f"evaluate-{number:012d}",
        settings=settings,
        inputs=StageInputs(base=tiny.BASE, data=tiny.DATA, policy=policy),
        seed=0,
        threads=1,
        device="cpu",
    )


GROUPS: tuple[dict[str, Any], ...] = (
    {"group": "generation", "sampled": True, "max_new_tokens": 6},
    {"group": "preference"},
)


def test_groups_of_one_model_share_a_process_that_loads_it_once_and_give_the_same_numbers(
    launcher: Launcher, tmp_path: Path
) -> None:
    """Once: in the shared process the second group finds no weights to load any more."""
    items, processes = {}, {}
    for shared in (True, False):
        root = tmp_path / str(shared)
        root.mkdir()
        tiny.make_inputs(root)
        for number, group in enumerate(GROUPS):
            stage = evaluation(group, number)
            folder = placed(root, stage)
            seen: list[int] = []
            ended = run_alone(
                launcher,
                folder / STAGE,
                lambda *_, seen=seen: seen.extend(_stage_processes()),
                holds=model_of(stage) if shared else None,
            )
            assert ended.exit_code == 0
            record = record_of(folder)
            assert record.status == "done"
            items[shared, number] = (folder / ITEMS).read_bytes()
            processes[shared, number] = set(seen)
            if shared and number == 0:
                shutil.rmtree(root / tiny.BASE / MODEL)
    assert [items[True, number] for number in range(2)] == [items[False, number] for number in range(2)]
    assert processes[True, 0] == processes[True, 1]
    assert len(processes[True, 0]) == 1
    assert not processes[False, 0] & processes[False, 1]


def test_without_a_process_to_share_the_second_group_loads_the_model(
    launcher: Launcher, tmp_path: Path
) -> None:
    tiny.make_inputs(tmp_path)
    for number, group in enumerate(GROUPS):
        folder = placed(tmp_path, evaluation(group, number))
        run_alone(launcher, folder / STAGE, lambda *_: None)
        shutil.rmtree(tmp_path / tiny.BASE / MODEL, ignore_errors=True)
    assert record_of(folder).status == "does_not_load"


def _shared(
    launcher: Launcher, root: Path, second_group: dict[str, Any] = GROUPS[1]
) -> tuple[Path, list[int]]:
    """A first group that is done, the folder of the second, and the process that waits for it."""
    tiny.make_inputs(root)
    groups = (GROUPS[0], second_group)
    first, second = (placed(root, evaluation(group, number)) for number, group in enumerate(groups))
    assert run_alone(launcher, first / STAGE, lambda *_: None, holds="model").exit_code == 0
    return second, _stage_processes()


def _goes_on_in_another_process(launcher: Launcher, folder: Path, ended: int) -> None:
    """The stage that was cut off runs anew, to its end."""
    seen: list[int] = []
    run_alone(launcher, folder / STAGE, lambda *_: seen.extend(_stage_processes()), holds="model")
    assert record_of(folder).status == "done"
    assert seen
    assert ended not in seen
    launcher.close()


def test_an_interrupt_in_the_second_group_ends_the_shared_process(launcher: Launcher, tmp_path: Path) -> None:
    folder, (process,) = _shared(launcher, tmp_path)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_alone(launcher, folder / STAGE, interrupt, holds="model")
    assert not _stage_processes()
    assert read_record(folder) is None
    _goes_on_in_another_process(launcher, folder, process)


def test_sigint_in_the_second_group_leaves_no_record_and_no_process(
    launcher: Launcher, tmp_path: Path
) -> None:
    """As Ctrl-C in a terminal, which reaches every process of the run."""
    # Token by token it takes seconds: it must not have ended when the signal comes.
    slow = {"group": "generation", "max_new_tokens": 64, "batch_size": 1, "sampled": True}
    folder, (process,) = _shared(launcher, tmp_path, slow)
    sent: list[str] = []

    def interrupt(phase: str, done: int, total: int) -> None:  # noqa: ARG001
        if not sent:
            sent.append(phase)
            os.kill(process, signal.SIGINT)

    ended = run_alone(launcher, folder / STAGE, interrupt, holds="model")
    assert sent == ["load"]
    assert ended.exit_code != 0
    assert not _stage_processes()
    assert read_record(folder) is None
    _goes_on_in_another_process(launcher, folder, process)


@pytest.mark.parametrize(
    ("limits", "cut"),
    [(Limits(hang_minutes=0.01), "hung"), (Limits(stage_hours=0.0002), "timed_out")],
    ids=["hang_minutes", "stage_hours"],
)
def test_a_second_group_that_hangs_is_ended_with_the_shared_process(
    launcher: Launcher, tmp_path: Path, limits: Limits, cut: str
) -> None:
    folder, (process,) = _shared(launcher, tmp_path)
    ended = run_alone(
        launcher, folder / STAGE, lambda *_: os.kill(process, signal.SIGSTOP), limits, holds="model"
    )
    assert ended.cut == cut
    assert ended.exit_code == -signal.SIGKILL
    assert not _stage_processes()
    assert read_record(folder) is None
    _goes_on_in_another_process(launcher, folder, process)


def test_a_process_ends_before_a_stage_on_another_model_starts_and_when_the_launcher_closes(
    launcher: Launcher, tmp_path: Path
) -> None:
    tiny.make_inputs(tmp_path)
    stages = [
        evaluation({"group": "preference"}, 0),
        evaluation({"group": "generation", "max_new_tokens": 2}, 1),
    ]
    seen: list[list[int]] = []
    for stage, held in zip(stages, ("one", "another"), strict=True):
        running: list[int] = []
        run_alone(
            launcher,
            placed(tmp_path, stage) / STAGE,
            lambda *_, r=running: r.extend(_stage_processes()),
            holds=held,
        )
        seen.append(running)
    assert len(set(seen[1])) == 1
    assert not set(seen[0]) & set(seen[1])
    assert _stage_processes() == list(set(seen[1]))
    launcher.close()
    assert not _stage_processes()


def test_a_failed_stage_leaves_its_process_to_nobody(launcher: Launcher, tmp_path: Path) -> None:
    tiny.make_inputs(tmp_path)
    gone = evaluation({"group": "preference", "split": "validation"}, 0)
    folder = placed(tmp_path, gone)
    (tmp_path / tiny.DATA / "data.json").unlink()
    assert run_alone(launcher, folder / STAGE, lambda *_: None, holds="model").exit_code == 0
    assert record_of(folder).status == "failed"
    assert not _stage_processes()


def test_a_process_that_is_killed_while_it_waits_costs_nothing(launcher: Launcher, tmp_path: Path) -> None:
    tiny.make_inputs(tmp_path)
    first, second = (evaluation({"group": "preference", "batch_size": size}, size) for size in (3, 4))
    run_alone(launcher, placed(tmp_path, first) / STAGE, lambda *_: None, holds="model")
    (waiting,) = map(psutil.Process, _stage_processes())
    server = psutil.Process(launcher.server_pid())
    server.suspend()  # it cannot notice that its child is gone
    waiting.kill()
    while waiting.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    folder = placed(tmp_path, second)
    noticing = threading.Timer(0.5, server.resume)
    noticing.start()
    assert run_alone(launcher, folder / STAGE, lambda *_: None, holds="model").exit_code == 0
    noticing.join()
    assert record_of(folder).status == "done"
    launcher.close()


@pytest.mark.slow
def test_a_fork_server_that_is_killed_while_it_imports_is_started_again(
    launcher: Launcher, tmp_path: Path
) -> None:
    def server() -> int | None:
        pid = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
        assert pid is None or isinstance(pid, int)
        return pid

    tiny.make_inputs(tmp_path)
    folder = placed(tmp_path, evaluation({"group": "preference", "batch_size": 3}, 3))
    first = launcher.server_pid()
    os.kill(first, signal.SIGKILL)
    while psutil.Process(first).status() != psutil.STATUS_ZOMBIE:  # not waited for: that is the launcher's
        time.sleep(0.01)

    def kill_the_next() -> None:
        while (second := server()) in (first, None):  # None: between the two
            time.sleep(0.01)
        time.sleep(0.5)
        assert second is not None
        os.kill(second, signal.SIGKILL)

    killer = threading.Thread(target=kill_the_next)
    killer.start()
    assert run_alone(launcher, folder / STAGE, lambda *_: None).exit_code == 0
    killer.join()
    assert record_of(folder).status == "done"


def test_of_stages_that_run_at_the_same_time_the_first_to_end_is_told_and_a_killed_one_takes_none_along(
    tmp_path: Path,
) -> None:
    tiny.make_inputs(tmp_path)
    together = Launcher("forkserver", tmp_path, most=2)
    endless = together.start(
        placed(tmp_path, tiny.stage("sft", num_train_epochs=100_000)) / STAGE, lambda *_: None
    )
    short = placed(tmp_path, tiny.stage("orpo", num_train_epochs=1))
    running = together.start(short / STAGE, lambda *_: None)
    assert together.wait([endless, running], seconds=0.01) is None
    assert together.wait([endless, running]) == (running, Ending(0))
    assert record_of(short).status == "done"
    endless.child.process.kill()
    assert together.wait([endless]) == (endless, Ending(-signal.SIGKILL))
    together.close()
    assert not _stage_processes()


def test_an_interrupt_ends_the_stage_when_the_launcher_is_closed(launcher: Launcher, tmp_path: Path) -> None:
    tiny.make_inputs(tmp_path)
    folder = placed(tmp_path, tiny.stage("sft", num_train_epochs=100_000))
    running: list[int] = []

    def interrupt(phase: str, done: int, total: int) -> None:  # noqa: ARG001
        if phase == "train" and done == 3:
            running.extend(_stage_processes())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_alone(launcher, folder / STAGE, interrupt)
    assert running
    assert not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in running)
