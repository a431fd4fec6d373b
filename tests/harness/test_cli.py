"""The commands as a person meets them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli import COMMANDS, main
from harness.load_config import load_comparison
from tests.harness.configs import VALID, write

pytestmark = pytest.mark.usefixtures("never_trains", "has_every_trainer")

NAMES = [command.__name__ for command, _ in COMMANDS]
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("command", NAMES)
def test_help_of_every_command_shows_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"prefduel {command}" in capsys.readouterr().out.split("Example", 1)[1]


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(command in shown for command in NAMES)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["frob"], "No such command 'frob'"),
        (["run"], "Missing argument 'CONFIG'"),
        (["run", "x.yaml", "--sed", "3"], "No such option: --sed"),
        (["run", "x.yaml", "--seeds", "three"], "Invalid value for '--seeds'"),
        (["run", "absent.yaml"], "absent.yaml: no such file"),
        (["run", "folder"], "must be a config file, got a folder"),
        (["check", "confg.yaml"], "Did you mean config.yaml?"),
        (["report", "folder"], "must be a folder that `prefduel run` made"),
        (["run", "config.yaml", "--seeds", "0"], "seeds must be at least 1, got 0"),
        (["run", "config.yaml", "--arm", "orpa"], "Did you mean orpo?"),
        (["run", "config.yaml", "--set", "device=cuda"], "cannot run here: device: cuda needs a CUDA device"),
        (["run", "config.yaml", "--set", "model.name=./absent"], "no folder './absent'"),
        (["init", "a/b"], "name must be a name of"),
        (["init", "x", "--output", "config.yaml"], "config.yaml: exists already"),
        (["init", "x", "--output", "absent/x.yaml"], "there is no folder absent"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_and_exit_2(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    (tmp_path / "folder").mkdir()
    write(tmp_path)
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "folder"]


def test_an_interrupted_run_exits_with_130(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.run.run_comparison", interrupted)
    assert main(["run", str(write(tmp_path))]) == 130
    assert capsys.readouterr().err == "interrupted. The same command goes on where it stopped.\n"
    monkeypatch.setattr("harness.commands.report._refuse_one_name", interrupted)
    (tmp_path / "comparison.json").touch()
    assert main(["report", str(tmp_path), str(tmp_path)]) == 130
    assert capsys.readouterr().err == "interrupted.\n"


def test_run_hands_over_what_the_options_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, object] = {}

    def fake_run(comparison: object, **options: object) -> int:
        seen.update(options, comparison=comparison)
        return 1

    monkeypatch.setattr("harness.run.run_comparison", fake_run)
    path = write(tmp_path)
    options = [
        "--seeds",
        "5",
        "--arm",
        "orpo",
        "--results",
        "r",
        "--reports",
        "p",
        "--quiet",
        "--night",
        "today",
        "--force",
    ]
    assert main(["run", str(path), *options, "--set", "arms.orpo.0.arguments.beta=0.2"]) == 1
    assert seen.pop("comparison") == load_comparison(
        path, overrides=["arms.orpo.0.arguments.beta=0.2"], seeds=5
    )
    assert seen == {
        "arms": ["orpo"],
        "results": Path("r"),
        "reports": Path("p"),
        "quiet": True,
        "night": "today",
        "force": True,
    }


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--model", "toy", "--data", "toy"],
        ["--model", "toy", "--data", "some/pairs"],
        ["--model", "a/b", "--data", 'odd "name" #1.jsonl'],
    ],
)
def test_init_writes_a_config_that_checks(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", "mine", *options]) == 0
    assert main(["check", "mine.yaml"]) == 0
    assert capsys.readouterr().out.endswith("mine.yaml is valid\n")
    comparison = load_comparison(Path("mine.yaml"))
    assert comparison.name == "mine"
    if options:
        assert (comparison.model.name, comparison.data.path) == (options[1], options[3])


def test_python_m_harness_is_the_same_command(tmp_path: Path) -> None:
    path = write(tmp_path, VALID + "sed: 1\n")
    done = subprocess.run(
        [sys.executable, "-m", "harness", "check", str(path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"{path}: sed is not a key of the config. Did you mean seeds?\n"
