"""`prefduel why`: what a stage was made from, and which fields of two differ, down to their inputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli import main
from harness.identity import IDENTITY
from harness.plan import COMPARISON, Plan
from harness.planning import make_plan
from harness.records import RECORD, write_json
from tests.harness.fixtures_results import Run


def planned(parent: Path, name: str, **changes: object) -> Plan:
    """A results folder whose stages have left their identities."""
    plan = make_plan(Run(changes={"name": name, **changes}).comparison())
    folder = parent / name
    folder.mkdir()
    write_json(folder / COMPARISON, plan.model_dump(mode="json", by_alias=True))
    for stage in plan.stages:
        (folder / stage.id).mkdir()
        write_json(folder / stage.id / IDENTITY, plan.identities[stage.id])
    return plan


def trained(plan: Plan, name: str, seed: int) -> str:
    return next(t for t in plan.trials if (t.name, t.seed) == (name, seed)).training[-1]


def why(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> list[str]:
    assert main(["why", *map(str, arguments)]) == 0
    return capsys.readouterr().out.splitlines()


def test_a_stage_tells_settings_inputs_seed_code_and_versions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = planned(tmp_path, "a")
    lines = why(capsys, trained(plan, "sft-dpo", 0), "--results", tmp_path)
    fields = {line.strip().split(":")[0] for line in lines[1:]}
    assert {
        "settings.arguments.beta", "inputs.policy", "inputs.data", "seed", "threads", "device",
        "code.pipelines.training.dpo", "versions.torch",
    } <= fields  # fmt: skip


def test_two_trials_that_differ_in_their_seed_differ_in_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planned(tmp_path, "a")
    lines = why(capsys, "orpo seed 0", "orpo seed 1", "--results", tmp_path / "a")
    fields = {line.strip().split(":")[0] for line in lines if line.startswith("  ")}
    assert fields == {"seed", "inputs.policy"}  # the evaluations' policy is another because its seed is


def test_a_change_of_the_data_is_followed_through_the_inputs_to_where_it_happened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = planned(tmp_path, "a")
    second = planned(tmp_path, "b", data={"path": "toy", "num_pairs": 300})
    lines = why(capsys, trained(first, "sft-dpo", 2), trained(second, "sft-dpo", 2), "--results", tmp_path)
    blocks = [line for line in lines if not line.startswith("  ")]
    assert [block.split("-")[0] for block in blocks] == ["dpo", "data", "sft"]
    assert any(line.startswith("  settings.data.num_pairs: 500 | 300") for line in lines)


def test_a_stage_does_not_differ_from_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = trained(planned(tmp_path, "a"), "orpo", 0)
    assert why(capsys, name, name, "--results", tmp_path) == ["no field differs"]


@pytest.mark.parametrize(
    "content",
    [b"[1]", b'{"inputs": 3}', b"\xff\xfe", b"[" * 100_000, b"3"],
    ids=["list", "inputs", "bytes", "deep", "number"],
)
def test_a_damaged_identity_is_one_line_and_exit_2(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = planned(tmp_path, "a")
    stages = [trained(plan, "orpo", seed) for seed in (0, 1)]
    (tmp_path / "a" / stages[0] / IDENTITY).write_bytes(content)
    assert main(["why", *stages, "--results", str(tmp_path / "a")]) == 2
    assert f"{IDENTITY}: is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("file", [RECORD, COMPARISON])
def test_a_damaged_file_is_one_line_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str
) -> None:
    plan = planned(tmp_path, "one")
    folder, stage = tmp_path / "one", plan.stages[0].id
    damaged = folder / COMPARISON if file == COMPARISON else folder / stage / RECORD
    damaged.write_text('{"schema": 1')
    name = "orpo seed 0" if file == COMPARISON else stage
    assert main(["why", name, "--results", str(folder)]) == 2
    assert f"{file}: is damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("orpo seed 9", "there is none"),
        ("", "there is none"),
        ("orpo seed 0", "must be in one comparison"),
    ],
)
def test_a_name_that_means_nothing_or_two_things_is_one_line_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, message: str
) -> None:
    planned(tmp_path, "a")
    planned(tmp_path, "b")
    assert main(["why", name, "--results", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
