"""Failures are results: each is provoked for real, contained, named by its status and told with what to do."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest

from harness.attempts import run_stage
from harness.failures import advice, smaller
from harness.integrity import is_intact
from harness.interrupts import StopRequest
from harness.launch import Launcher
from harness.progress import Quiet
from harness.records import Record, read_record, write_json, write_record
from harness.reserve import reserve
from harness.stage import STAGE, main
from pipelines.stages import DataSettings, Limits, ModelSettings, PrepareSettings, Stage
from tests.harness.launched import to_its_record
from tests.pipelines.training import tiny

REPOSITORY = Path(__file__).resolve().parents[2]
Moved = Callable[[str, int, int], None]


class Told(Quiet):
    """Passes on what the stage tells, and that it is tried again."""

    def __init__(self, moved: Moved) -> None:
        self._moved = moved

    def retried(self, stage: Stage, record: Record) -> None:
        self._moved(f"again after {record.status}", record.num_attempts, stage.limits.retries)

    def moved(self, stage: Stage, phase: str, done: int, total: int) -> None:
        self._moved(phase, done, total)


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Launcher:
    return Launcher("forkserver", tmp_path_factory.mktemp("log"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tiny.make_inputs(tmp_path)
    return tmp_path


def run(
    launcher: Launcher, root: Path, stage: Stage, moved: Moved = lambda *_: None, **limits: float
) -> Record:
    watched = stage.model_copy(update={"limits": Limits(**limits)})
    attempts = run_stage(watched, {}, root, launcher, Told(moved), StopRequest(), decision_hash="0")
    return to_its_record(attempts, launcher)


def stage_processes() -> list[int]:
    """Children of the fork server, which is a child of this process."""
    return [grandchild.pid for child in psutil.Process().children() for grandchild in child.children()]


def endless(kind: str = "sft", **changes: object) -> Stage:
    return tiny.stage(kind, num_train_epochs=100_000, **changes)


def check(record: Record, status: str, message: str, advice: str) -> None:
    assert record.status == status
    assert record.failure is not None
    assert message in record.failure.message
    assert advice in record.failure.advice


def test_a_stage_beyond_the_memory_it_may_have_proposes_half_the_micro_batch(
    launcher: Launcher, root: Path
) -> None:
    def limit(phase: str, done: int, _: int) -> None:
        if (phase, done) == ("load", 0):
            (pid,) = stage_processes()
            most = psutil.Process(psutil.Process(pid).ppid()).memory_info().vms + (256 << 20)
            resource.prlimit(pid, resource.RLIMIT_AS, (most, most))

    shutil.rmtree(root / tiny.DATA)
    tiny.make_inputs(root, rows=[dict(row, chosen_ids=[5] * 1500 + [tiny.EOS]) for row in tiny.pairs()])
    record = run(launcher, root, tiny.stage("sft", micro_batch=12, effective_batch=12), limit)
    check(
        record,
        "out_of_memory",
        "memory",
        "Set training.micro_batch to 6 (it was 12); effective_batch stays 12",
    )


def test_a_killed_stage_is_tried_again_and_goes_on_from_its_checkpoint(
    launcher: Launcher, root: Path
) -> None:
    stage = tiny.stage("sft")
    through = run(launcher, root, stage)
    shutil.rmtree(root / stage.id)
    killed: list[int] = []
    again: list[tuple[str, int, int]] = []

    def kill_once(phase: str, done: int, total: int) -> None:
        if phase.startswith("again"):
            again.append((phase, done, total))
        if (phase, done) == ("train", 7) and not killed:
            killed.extend(stage_processes())
            os.kill(killed[0], signal.SIGKILL)

    record = run(launcher, root, stage, kill_once, save_every_minutes=1e-9, retries=1)
    assert killed
    assert again == [("again after killed", 1, 1)]
    assert record.status == "done"
    assert record.num_attempts == 2
    assert record.cost is not None
    assert record.cost.num_resumes == 1
    assert record.outcome == through.outcome
    assert sum(phase.seconds for phase in record.cost.phases) == pytest.approx(record.cost.total_seconds)


def test_a_killed_stage_without_retries_says_that_it_was_not_for_memory(
    launcher: Launcher, root: Path
) -> None:
    def kill(phase: str, done: int, _: int) -> None:
        if (phase, done) == ("train", 2):
            os.kill(stage_processes()[0], signal.SIGKILL)

    check(run(launcher, root, endless(), kill), "killed", "signal 9", "goes on from the last checkpoint")


def test_a_stage_that_waits_for_ever_is_ended_and_shows_where_it_hangs(
    launcher: Launcher, root: Path
) -> None:
    (arrow,) = (root / tiny.DATA / "splits/train").glob("*.arrow")
    arrow.unlink()
    os.mkfifo(arrow)  # nobody writes into it: whoever opens it waits
    record = run(launcher, root, tiny.stage("orpo"), hang_minutes=5 / 60)
    check(record, "hung", "no step and no new phase", "raise hang_minutes")
    assert record.failure is not None
    assert "read_split" in (root / record.stage.id / "log.txt").read_text()
    assert not stage_processes()


def test_a_stopped_process_is_ended_too(launcher: Launcher, root: Path) -> None:
    def stop(phase: str, done: int, _: int) -> None:
        if (phase, done) == ("train", 2):
            os.kill(stage_processes()[0], signal.SIGSTOP)

    assert run(launcher, root, endless(), stop, hang_minutes=1 / 60).status == "hung"
    assert not stage_processes()


def test_a_stage_over_its_time_is_ended(launcher: Launcher, root: Path) -> None:
    record = run(launcher, root, endless(), stage_hours=1 / 3600)
    check(record, "timed_out", "ran longer than stage_hours", "Raise stage_hours (it was 0.0002")


def test_an_infinite_gradient_is_not_finite_and_advises_no_repetition(launcher: Launcher, root: Path) -> None:
    record = run(launcher, root, tiny.stage("sft", learning_rate=1e30, max_grad_norm=1e30))
    check(record, "not_finite", "at step", "The same settings fail again")


def test_a_loss_that_leaves_for_good_is_diverged_and_advises_no_repetition(
    launcher: Launcher, root: Path
) -> None:
    stage = tiny.stage("sft", learning_rate=3.0, num_train_epochs=30)
    record = run(launcher, root, stage, divergence_factor=2.0)
    check(record, "diverged", "most of the last 20 steps were above", "The same settings fail again")
    assert record.num_attempts == 1


def test_half_a_weights_file_of_an_earlier_stage_is_named_and_that_stage_is_made_again(
    launcher: Launcher, root: Path
) -> None:
    sft = tiny.stage("sft", num_train_epochs=1)
    dpo = tiny.stage("dpo", policy=sft.id, num_train_epochs=1)
    first = run(launcher, root, sft)
    weights = root / sft.id / "model/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-2000])
    record = run(launcher, root, dpo)
    check(
        record, "damaged", f"{sft.id}/model/model.safetensors is not what its stage wrote", "the same command"
    )
    assert not is_intact(root / sft.id)
    assert run(launcher, root, sft).outcome == first.outcome
    assert run(launcher, root, dpo).status == "done"
    assert is_intact(root / sft.id)


def test_a_flipped_bit_in_an_input_is_seen_before_it_is_read(launcher: Launcher, root: Path) -> None:
    sft = tiny.stage("sft", num_train_epochs=1)
    run(launcher, root, sft)
    assert is_intact(root / sft.id)
    weights = root / sft.id / "model/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-9] ^= 1
    weights.write_bytes(content)
    assert not is_intact(root / sft.id)


def prepare(path: Path, model: str) -> Stage:
    settings = PrepareSettings(
        kind="data", model=ModelSettings(name=model), data=DataSettings(path=str(path)), max_length=64
    )
    return Stage(id="data-111111111111", settings=settings, seed=0, threads=1, device="cpu")


def test_a_broken_line_in_the_middle_of_the_data_is_named(launcher: Launcher, tmp_path: Path) -> None:
    rows = [json.dumps({"prompt": f"p{n}", "chosen": f"c{n}", "rejected": f"r{n}"}) for n in range(60)]
    rows[41] = rows[41][:-9]
    (tmp_path / "pairs.jsonl").write_text("\n".join(rows))
    record = run(launcher, tmp_path, prepare(tmp_path / "pairs.jsonl", "toy"))
    check(record, "bad_data", "42", "Mend the named row")


def test_a_tokenizer_that_is_half_a_file_does_not_load(launcher: Launcher, tmp_path: Path) -> None:
    tiny.tokenizer().save_pretrained(tmp_path / "model")
    broken = tmp_path / "model/tokenizer.json"
    broken.write_text(broken.read_text()[:300])
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "p", "chosen": "c", "rejected": "r"}\n' * 20)
    record = run(launcher, tmp_path, prepare(tmp_path / "pairs.jsonl", str(tmp_path / "model")))
    check(record, "does_not_load", "its tokenizer does not load", "Set model.name")


def test_a_model_of_an_unknown_architecture_does_not_load(launcher: Launcher, root: Path) -> None:
    config = root / tiny.BASE / "model/config.json"
    config.write_text(config.read_text().replace('"llama"', '"nosucharchitecture"'))
    check(run(launcher, root, tiny.stage("sft")), "does_not_load", "does not load", "Set model.name")


@pytest.mark.slow
def test_when_the_fork_server_dies_its_stage_goes_on_and_the_next_one_gets_a_new_server(root: Path) -> None:
    # In a process of its own: this one's fork server serves the other tests.
    program = (
        "import os, signal, sys; from pathlib import Path; from multiprocessing import forkserver\n"
        "from tests.harness.test_failures import *\n"
        "root = Path(sys.argv[1]); launcher = Launcher('forkserver', root)\n"
        "def kill(phase, done, total):\n"
        "    if (phase, done) == ('train', 2):\n"
        "        os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)\n"
        "assert run(launcher, root, tiny.stage('sft'), kill).status == 'done'\n"
        "assert run(launcher, root, tiny.stage('orpo', num_train_epochs=1)).status == 'done'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(root)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_full_disk_is_told_and_what_was_half_written_is_removed(
    launcher: Launcher, small_disk: Path
) -> None:
    tiny.make_inputs(small_disk)
    filler = small_disk / "filler"

    def fill(phase: str, done: int, _: int) -> None:
        if (phase, done) == ("train", 1):
            free = shutil.disk_usage(small_disk).free
            filler.write_bytes(b"x" * (free - 20480))

    stage = tiny.stage("sft", num_train_epochs=2)
    with reserve(small_disk):
        record = run(launcher, small_disk, stage, fill)
    check(record, "disk_full", "", "Free space")
    assert not (small_disk / stage.id / "model").exists()
    filler.unlink()
    assert run(launcher, small_disk, stage).status == "done"


class Gated(BaseHTTPRequestHandler):
    """Answers as the hub does for a gated model without a token."""

    def do_HEAD(self) -> None:
        self.send_response(401)
        self.send_header("X-Error-Code", "GatedRepo")
        self.send_header("X-Error-Message", "Access to this model is restricted.")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


def on_hub(root: Path, endpoint: str) -> Record:
    """The record of a stage in a process that takes `endpoint` for the hub."""
    stage = prepare(root / "pairs.jsonl", "somebody/some-model")
    (root / "pairs.jsonl").write_text('{"prompt": "p", "chosen": "c", "rejected": "r"}\n' * 20)
    folder = tiny.folder_of(root, stage)
    write_json(folder / STAGE, stage.model_dump(mode="json", by_alias=True))
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(root / "hub"), "HF_HUB_OFFLINE": "0"}
    subprocess.run(
        [sys.executable, "-m", "harness.stage", str(folder / STAGE)],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        check=False,
    )
    record = read_record(folder)
    assert record is not None
    return record


@pytest.mark.slow
def test_a_gated_model_without_a_token_says_how_to_get_one(tmp_path: Path) -> None:
    server = HTTPServer(("127.0.0.1", 0), Gated)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    record = on_hub(tmp_path, f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    server.server_close()
    check(record, "no_access", "does not load", "HF_TOKEN")


@pytest.mark.slow
def test_a_hub_that_cannot_be_reached_is_told_apart_from_a_model_that_is_not_there(tmp_path: Path) -> None:
    record = on_hub(tmp_path, "http://127.0.0.1:9")  # nothing listens there
    check(record, "unreachable", "does not load", "Bring the connection back")


def test_smaller_settings_are_proposed_one_after_the_other() -> None:
    def proposal(stage: Stage, **changes: object) -> str:
        return smaller(stage.model_copy(update={"settings": stage.settings.model_copy(update=changes)}))

    dpo = tiny.stage("dpo")
    assert "micro_batch to 3 (it was 6)" in proposal(dpo, micro_batch=6, effective_batch=12)
    assert "micro_batch to 6 (it was 15)" in proposal(dpo, micro_batch=15, effective_batch=30)
    assert "gradient_checkpointing to true" in proposal(dpo, micro_batch=1)
    least = {"micro_batch": 1, "gradient_checkpointing": True}
    assert "reference to precomputed" in proposal(dpo, **least)
    assert "tuning to lora" in proposal(dpo, **least, reference="precomputed")
    assert "max_length" in proposal(dpo, **least, reference="precomputed", tuning="lora")


def test_an_evaluation_that_failed_advises_to_mend_what_its_message_names() -> None:
    training = tiny.stage("dpo")
    settings = {
        "kind": "evaluate",
        "model": {"name": "m"},
        "dtype": "float32",
        "max_length": 8,
        "evaluation": {"group": "generation"},
    }
    evaluation = Stage.model_validate(training.model_dump() | {"settings": settings})
    assert advice("failed", evaluation).startswith("Mend what the message names")
    assert "the same command fails again" in advice("failed", training)
    assert advice("killed", evaluation) == advice("killed", training)


def test_the_entry_of_a_stage_says_what_failed_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pairs.jsonl").write_text("{\n")
    stage = prepare(tmp_path / "pairs.jsonl", "toy")
    folder = tiny.folder_of(tmp_path, stage)
    write_json(folder / STAGE, stage.model_dump(mode="json", by_alias=True))
    assert main([str(folder / STAGE)]) == 1
    assert "broken JSON" in capsys.readouterr().err


def test_a_record_of_a_version_before_still_reads(launcher: Launcher, root: Path) -> None:
    record = run(launcher, root, tiny.stage("sft", num_train_epochs=1))
    old = record.model_dump(mode="json", by_alias=True)
    for new in ("files", "num_attempts"):
        del old[new]
    del old["stage"]["limits"]
    del old["cost"]["num_resumes"]
    read = Record.model_validate(old)
    write_record(root, read)
    assert read.num_attempts == 1
    assert read.files == {}
