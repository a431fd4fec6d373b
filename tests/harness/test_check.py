"""`prefduel check`: what it finds in local data, what it refuses, what it leaves to the machine."""

from __future__ import annotations

import gzip
import json
import os
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import requirements
from harness.check import check_lines
from harness.cli import main
from harness.errors import UserError
from harness.load_config import load_comparison
from harness.requirements import has_stock_orpo, requirements_not_met
from pipelines.data.splitting import split_of
from pipelines.stages import DataSettings
from tests.harness.configs import VALID, write

pytestmark = pytest.mark.usefixtures("never_trains")

Row = dict[str, Any]


def rows(count: int = 40) -> list[Row]:
    return [{"prompt": f"p{i}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(count)]


def lines(some: list[Row]) -> str:
    return "".join(json.dumps(row) + "\n" for row in some)


def config(folder: Path, data: str, *, more: str = "", text: str = VALID) -> Path:
    text = text.replace("{path: toy, num_pairs: 100}", f"{{path: {data}{more}}}")
    return write(folder, text.replace("judges: [gold]", ""))


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(requirements, "has_stock_orpo", lambda: True)


def test_it_shows_form_columns_rows_and_drops(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    some = rows()
    some[3] = some[1]
    some[7] = {**some[7], "rejected": some[7]["chosen"]}
    (tmp_path / "pairs.jsonl").write_text(lines(some))
    assert main(["check", str(config(tmp_path, "pairs.jsonl"))]) == 0
    shown = capsys.readouterr().out
    assert "data        pairs.jsonl: form prompt, 40 rows" in shown
    assert "columns prompt, chosen, rejected" in shown
    assert "splits 27 train, 3 validation, 8 test" in shown
    assert "1 rows drop out: duplicate (rows 3)" in shown
    assert "1 rows drop out: equal chosen and rejected (rows 7)" in shown
    assert "arm         sft-dpo: sft, then dpo (reference copy)" in shown
    assert "seeds       3 (0 to 2)" in shown


def _write(name: str, content: bytes | str) -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return name

    return make


def _folder(folder: Path) -> str:
    (folder / "saved").mkdir()
    return "saved"


def _pipe(folder: Path) -> str:
    os.mkfifo(folder / "a.jsonl")
    return "a.jsonl"


GOOD = lines(rows())
# name of the case: (makes the data and returns its path, more keys of `data`, every piece that the line must hold)
MALFORMED: dict[str, tuple[Callable[[Path], str], str, list[str]]] = {
    "an empty file": (_write("a.jsonl", ""), "", ["a.jsonl", "at least 1 row"]),
    "broken JSON in a line": (
        _write("a.jsonl", GOOD + '{"prompt": "x", \n'), "", ["a.jsonl", "40", "line 41", "column"],
    ),
    "a line that is no object": (_write("a.jsonl", GOOD + "[1, 2]\n"), "", ["a.jsonl", "40", "object"]),
    "JSON that is no list": (_write("a.json", '"text"'), "", ["a.json"]),
    "JSON cut short": (_write("a.json", json.dumps(rows())[:-40]), "", ["a.json", "broken JSON"]),
    "a row of CSV with a column more": (
        _write("a.csv", "prompt,chosen,rejected\na,b,c\na,b,c,d\n"), "", ["a.csv, row 1 (line 3)", "got 4"],
    ),
    "bytes that are no text": (_write("a.jsonl", b'{"prompt": "\xff"}\n'), "", ["a.jsonl, line 1", "UTF-8"]),
    "no gzip": (_write("a.jsonl.gz", b"plain"), "", ["a.jsonl.gz", "gzip"]),
    "gzip cut short": (_write("a.jsonl.gz", gzip.compress(GOOD.encode())[:-30]), "", ["a.jsonl.gz", "gzip"]),
    "no Parquet": (_write("a.parquet", b"not parquet at all"), "", ["a.parquet", "broken Parquet"]),
    "a folder of something else": (_folder, "", ["saved", "save_to_disk"]),
    "a missing column": (
        _write("a.jsonl", lines([{"prompt": "a", "chosen": "b"}])), "", ["a.jsonl", "rejected", "It has: prompt, chosen"],
    ),
    "a renamed column that is not there": (
        _write("a.jsonl", GOOD), ", columns: {prompt: question}", ["data.columns.prompt", "'question'", "It has: prompt"],
    ),
    "a form that the columns do not have": (
        _write("a.jsonl", GOOD), ", form: sharegpt", ["form sharegpt needs", "conversations"],
    ),
    "too many rows that cannot serve": (
        _write("a.jsonl", lines(rows() + rows()[:10])), "", ["a.jsonl", "max_dropped", "10 of 50", "duplicate"],
    ),
    "rows of the wrong types": (
        _write("a.jsonl", lines([{**row, "chosen": 3} for row in rows()])), "", ["a.jsonl", "40 of 40", "wrong types"],
    ),
    "fewer rows than a batch": (
        _write("a.jsonl", lines(rows(9))), "", ["training.effective_batch must be at most", "9 usable rows", "got 8"],
    ),
    "a share that leaves no test pair": (
        _write("a.jsonl", GOOD), ", test_share: 0.001", ["a.jsonl", "data.test_share (0.001)", "40 usable rows", "larger share"],
    ),
    "a pipe": (_pipe, "", ["a.jsonl", "must be a file"]),
}  # fmt: skip


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_data_is_one_line_that_says_where_and_nothing_is_written(
    case: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, more, pieces = MALFORMED[case]
    config(tmp_path, make(tmp_path), more=more)
    before = sorted(tmp_path.rglob("*"))
    assert main([command, "config.yaml"]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert "Traceback" not in shown
    assert [piece for piece in pieces if piece not in shown] == [], shown
    assert sorted(tmp_path.rglob("*")) == before


HELD_OUT = [
    row
    for row in rows()
    if split_of([{"role": "user", "content": row["prompt"]}], DataSettings(path="pairs.jsonl")) != "train"
]
SFT_DATA = "\nsft: {data: {path: more.jsonl}}\nallow_difference: {sft.data: as published}\n"


def sft_row(number: int) -> Row:
    return {"prompt": f"another {number}", "completion": f"reply {number}"}


def test_data_for_sft_alone_is_looked_at_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pairs.jsonl").write_text(GOOD)
    some = [*map(sft_row, range(30)), {"prompt": "x", "completion": ""}]
    (tmp_path / "more.jsonl").write_text(lines(some))
    assert main(["check", str(config(tmp_path, "pairs.jsonl", text=VALID + SFT_DATA))]) == 0
    shown = capsys.readouterr().out
    assert "sft data    more.jsonl: 31 rows, columns prompt, completion" in shown
    assert "1 rows drop out: empty reply (rows 30)" in shown


def test_rows_for_sft_whose_prompt_the_pairs_hold_out_are_counted_in_the_data_stages_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pairs.jsonl").write_text(GOOD)
    nearly = [{"prompt": f" {row['prompt'].upper()}? ", "completion": "so"} for row in rows()]
    (tmp_path / "more.jsonl").write_text(lines([*map(sft_row, range(20)), *nearly]))
    assert main(["check", str(config(tmp_path, "pairs.jsonl", text=VALID + SFT_DATA))]) == 0
    first = ", ".join(str(20 + rows().index(row)) for row in HELD_OUT[:10])
    more = ", ..." if len(HELD_OUT) > 10 else ""
    told = f"{len(HELD_OUT)} rows drop out: prompt of the validation or test split (rows {first}{more})"
    assert told in capsys.readouterr().out
    # What a split's cap leaves out is in no split.
    caps = ", max_test_pairs: 1, validation_share: 0"
    assert main(["check", str(config(tmp_path, "pairs.jsonl", more=caps, text=VALID + SFT_DATA))]) == 0
    assert "1 rows drop out: prompt of the validation or test split" in capsys.readouterr().out


def test_what_is_held_out_is_not_told_of_pairs_that_are_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "more.jsonl").write_text(lines([*map(sft_row, range(20))]))
    assert main(["check", str(config(tmp_path, "some/pairs", text=VALID + SFT_DATA))]) == 0
    assert "is told once the pairs are here" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_share_for_sft_of_less_than_a_step_is_one_line(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pairs.jsonl").write_text(GOOD)
    share = "\nsft: {share: 0.0001}\nallow_difference: {sft.share: little}\n"
    assert main([command, str(config(tmp_path, "pairs.jsonl", text=VALID + share))]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "pairs.jsonl: sft.share must leave SFT at least one step" in said
    assert "got 1 of 27 training pairs by 0.0001" in said


def test_how_many_pairs_a_share_for_sft_is_of_those_that_the_cap_leaves_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pairs.jsonl").write_text(GOOD)
    share = "\nsft: {share: 0.5}\nallow_difference: {sft.share: half}\n"
    path = config(tmp_path, "pairs.jsonl", more=", max_train_pairs: 20", text=VALID + share)
    assert main(["check", str(path)]) == 0
    assert "sft data    10 of 20 training pairs (sft.share)" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize(
    ("content", "pieces"),
    [
        (lines([sft_row(0)]) + "{broken\n", ["more.jsonl, row 1 (line 2)"]),
        (lines([{"prompt": "a", "answer": "b"}]), ["more.jsonl", "prompt and completion", "It has: prompt, answer"]),
        (lines([*map(sft_row, range(9)), *map(sft_row, range(9))]), ["sft.data.max_dropped", "9 of 18", "duplicate"]),
        (lines([*map(sft_row, range(5))]), ["more.jsonl: training.effective_batch", "5 of 5 usable rows)"]),
        (
            lines([*map(sft_row, range(5)), *({"prompt": row["prompt"], "completion": "so"} for row in HELD_OUT)]),
            ["more.jsonl: training.effective_batch", f"5 of 5 usable rows, {len(HELD_OUT)} more have a prompt that is held out"],
        ),
    ],
)  # fmt: skip
def test_malformed_data_for_sft_alone_is_one_line(
    content: str, pieces: list[str], command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pairs.jsonl").write_text(GOOD)
    (tmp_path / "more.jsonl").write_text(content)
    assert main([command, str(config(tmp_path, "pairs.jsonl", text=VALID + SFT_DATA))]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert [piece for piece in pieces if piece not in shown] == [], shown


# name of the case: (what the config says otherwise, what is then missing here)
MISSING: dict[str, tuple[list[str], str]] = {
    "a file": (["data={path: absent.jsonl}"], "data.path: there is no file 'absent.jsonl'"),
    "a hub dataset": (["data={path: some/pairs}"], "data.path: some/pairs is not downloaded"),
    "a hub model": (["model.name=some/model"], "model.name: some/model is not downloaded"),
    "a folder of a model": (["model.name=./weights"], "model.name: there is no folder './weights'"),
    "a folder without a model": (["model.name=."], "model.name: the folder '.' holds no config.json"),
    "a GGUF file that is not there": (
        ["model.name=.", "model.gguf_file=x.gguf"],
        "model.name: the folder '.' holds no x.gguf",
    ),
    "a package": (
        ["model.name=package:no_such_package"],
        "the Python package 'no_such_package' is not installed",
    ),
    "a CUDA device": (["device=cuda"], "device: cuda needs a CUDA device"),
    "CUDA for QLoRA": (["training.tuning=qlora"], "training.tuning: qlora needs a CUDA device"),
    "DeepSpeed": (["training.arguments.deepspeed=zero3.json"], "deepspeed needs the package deepspeed"),
    "a tracker": (["training.arguments.report_to=mlflow"], "report_to: mlflow needs the package mlflow"),
    "a benchmark's file": (["evaluations.benchmarks.tasks=[absent.yaml]"], "absent.yaml"),
}


@pytest.mark.parametrize("case", MISSING)
def test_what_is_not_here_is_said_by_check_and_refused_by_run(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, said = MISSING[case]
    write(tmp_path, VALID.replace("judges: [gold]", ""))
    options = [option for change in changes for option in ("--set", change)]
    assert main(["check", "config.yaml", *options]) == 0
    (line,) = [one for one in capsys.readouterr().out.splitlines() if one.startswith("not checked here: ")]
    assert said in line
    assert main(["run", "config.yaml", *options]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("config.yaml: cannot run here: ")
    assert said in shown
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_a_model_that_only_the_hub_has_does_not_stop_a_run_when_the_hub_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparison = load_comparison(write(tmp_path), overrides=["model.name=some/model"])
    monkeypatch.setattr(requirements, "why_unreachable", lambda: None)
    assert requirements.requirements_not_met(comparison) == []
    monkeypatch.setattr(requirements, "why_unreachable", lambda: "no route")
    assert "no route" in requirements.requirements_not_met(comparison)[0]


def test_a_task_of_lm_evals_own_is_for_the_run_to_find(tmp_path: Path) -> None:
    comparison = load_comparison(write(tmp_path), overrides=["evaluations.benchmarks.tasks=[arc_easy]"])
    assert [found.of for found in requirements.requirements(comparison)] == ["later"]
    assert requirements.requirements_not_met(comparison) == []


def test_a_benchmark_that_lm_eval_does_not_have_is_refused_by_check_and_by_run(tmp_path: Path) -> None:
    comparison = load_comparison(write(tmp_path), overrides=["evaluations.benchmarks.tasks=[gsm8q]"])
    message = "evaluations.benchmarks.tasks: gsm8q is none of lm-eval's tasks. Did you mean 'gsm8k'?"
    with pytest.raises(UserError, match=re.escape(message)):
        list(check_lines(comparison, arms=None))
    assert message in requirements_not_met(comparison)


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ("a.yaml, a.yaml", r"evaluations\.benchmarks\.tasks: each task may come once, .* got 'a' twice"),
        ("a.yaml, group.yaml", "got 'a' twice"),
        ("members.yaml", r"bad\.yaml: dataset_path must be text, got \[1\]"),
    ],
)
def test_benchmark_tasks_that_cannot_run_are_refused_by_check_and_by_run(
    tmp_path: Path, tasks: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text("task: a\n")
    (tmp_path / "bad.yaml").write_text("task: bad\ndataset_path: [1]\n")
    (tmp_path / "group.yaml").write_text("group: g\ntask: [a]\n")
    (tmp_path / "members.yaml").write_text("group: g\ntask: [bad]\n")
    comparison = load_comparison(write(tmp_path), overrides=[f"evaluations.benchmarks.tasks=[{tasks}]"])
    with pytest.raises(UserError, match=message):
        list(check_lines(comparison, arms=None))
    assert any(re.search(message, lacking) for lacking in requirements_not_met(comparison))


def test_a_task_whose_packages_are_not_installed_stops_a_run_before_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requirements, "_installed", lambda module: module not in ("langdetect", "nltk"))
    comparison = load_comparison(write(tmp_path), overrides=["evaluations.benchmarks.tasks=[capabilities]"])
    found = requirements.requirements(comparison)
    (lacking,) = [one.text for one in found if one.of == "machine"]
    assert "ifeval needs the Python packages langdetect, nltk, which are not installed" in lacking
    assert "lm_eval[ifeval]" in lacking


@pytest.mark.parametrize(
    ("capability", "refused"), [((7, 5), True), ((8, 0), False), ((9, 0), False), (None, False)]
)
def test_bfloat16_needs_a_device_that_has_it(
    capability: tuple[int, int] | None, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requirements, "choose_device", lambda _: "cuda")
    monkeypatch.setattr(requirements, "_capability", lambda: capability)
    comparison = load_comparison(write(tmp_path), overrides=["training.dtype=bfloat16"])
    assert any("bfloat16" in text for text in requirements.requirements_not_met(comparison)) is refused


def test_deep_opens_the_tokenizer_and_the_first_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path)
    assert main(["check", "config.yaml", "--deep"]) == 0
    shown = capsys.readouterr().out
    assert "chat template from: tokenizer" in shown
    assert "first 100 rows: median" in shown
    assert main(["check", "config.yaml", "--deep", "--set", "training.max_length=8"]) == 2
    assert "training.max_length must leave room for pairs, got 8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("installed", "refused"),
    [
        ("0.28.0", True),
        ("1.14.0", True),
        ("1.15.2", True),
        ("1.16.0", False),
        ("1.16.3", False),
        ("1.17.0", True),
    ],
)
def test_a_trl_that_was_not_tried_is_refused(
    installed: str, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requirements, "version", lambda _: installed)
    lacking = requirements.requirements_not_met(load_comparison(write(tmp_path)))
    assert [text.split(": ")[0] for text in lacking] == [
        f"the package trl must be 1.16, and this machine has {installed}"
    ] * refused


def test_the_trl_that_is_taken_is_the_one_that_is_installed_with_the_project() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    (bounds,) = [one for one in project["project"]["dependencies"] if one.startswith("trl")]
    assert bounds == "trl>=1.16,<1.17"
    assert requirements.SUPPORTED_TRL == "1.16"


class WithoutExperimental:
    """A finder that lacks TRL's experimental ORPO, as a later TRL may."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name.startswith("trl.experimental"):
            raise ModuleNotFoundError(name)


def test_stock_orpo_needs_a_trl_that_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path)
    monkeypatch.setattr(requirements, "has_stock_orpo", has_stock_orpo)
    monkeypatch.setattr(sys, "meta_path", [WithoutExperimental, *sys.meta_path])
    assert main(["check", str(path)]) == 0
    line = "arms.orpo.0.implementation: trl needs TRL's experimental ORPOTrainer, and the installed trl has none."
    assert f"not checked here: {line}" in capsys.readouterr().out
    assert main(["run", str(path)]) == 2
    assert line in capsys.readouterr().err
    path.write_text(VALID.replace("- trainer: orpo", "- trainer: orpo\n      implementation: fused"))
    assert main(["check", str(path)]) == 0
    assert "implementation" not in capsys.readouterr().out


@pytest.mark.parametrize(("workers", "refused"), [("2", True), ("auto", False), ("1", False)])
def test_on_a_gpu_several_stages_at_a_time_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: str, refused: bool
) -> None:
    together = ["device=auto", "metering=relaxed", "threads=1", f"workers={workers}"]
    comparison = load_comparison(write(tmp_path), overrides=together)
    monkeypatch.setattr(requirements, "choose_device", lambda _: "cuda")
    found = [text for text in requirements.requirements_not_met(comparison) if text.startswith("workers")]
    assert found == (
        ["workers: 2 needs `device: cpu`: on a GPU one stage runs at a time. Use 1, or auto."] * refused
    )


def test_a_declared_difference_that_is_none_is_told_in_one_line_and_one_of_a_sweeps_points_is_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = "allow_difference.{}: nothing differs in it; it can be left out."
    text = VALID + "allow_difference: {optim: why, weight_decay: why, max_grad_norm: why}\n"
    text = text.replace("beta: 0.1", "beta: 0.1, max_grad_norm: 0.5")
    assert main(["check", str(write(tmp_path, text))]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line for line in shown if "allow_difference" in line] == [
        told.format("optim"),
        told.format("weight_decay"),
    ]
    swept = (
        text + "sweep: {arms: {orpo: {grid: {0.arguments.weight_decay: [0.0, 0.1]}}}, unequal_effort: why}\n"
    )
    assert main(["check", str(write(tmp_path, swept))]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line for line in shown if "allow_difference" in line] == [told.format("optim")]
