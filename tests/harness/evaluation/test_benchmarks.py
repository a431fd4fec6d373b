"""Benchmarks: lm-eval's own numbers, from local files, item by item."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lm_eval.tasks import TaskManager

from harness.benchmark_tasks import DATA_FOLDER_VARIABLE
from harness.evaluation.tasks import load_benchmarks
from pipelines.errors import PipelineError
from pipelines.evaluations import TASK_PRESETS, BenchmarkEvaluation
from tests.harness.evaluation import tiny_models
from tests.harness.evaluation.tiny_tasks import (
    CHOICE,
    answer_as_the_model_does,
    lm_evals_own,
    means,
    run,
)

REPOSITORY = Path(__file__).parents[3]
BLIMP = REPOSITORY / "configs" / "tasks" / "blimp.yaml"
SHARED = REPOSITORY.parent / "shared" / "data"


@pytest.mark.parametrize("num_fewshot", [None, 2])
def test_the_mean_over_items_is_lm_evals_own_number(
    folder: Path, monkeypatch: pytest.MonkeyPatch, num_fewshot: int | None
) -> None:
    model = tiny_models.llama()
    ours = run([folder / "one.yaml", folder / "two.yaml"], model, num_fewshot=num_fewshot)
    monkeypatch.chdir(folder)
    one = lm_evals_own(folder, "one", model=model, num_fewshot=num_fewshot)
    two = lm_evals_own(folder, "two", model=model, num_fewshot=num_fewshot)
    assert means(ours) == {"benchmark_one": one["acc,none"], "benchmark_two": two["acc_norm,none"]}
    assert 0 < one["acc,none"] < 1
    prompts = [sample["prompt_hash"] for sample in ours.logs["samples.jsonl"]]
    assert prompts == one["prompts"] + two["prompts"]


def test_a_task_with_several_metrics_is_scored_by_its_accuracy(folder: Path) -> None:
    text = CHOICE.format(name="three", metric="acc_norm")
    (folder / "three.yaml").write_text(
        text + "  - {metric: acc, aggregation: mean, higher_is_better: true}\n"
    )
    measured = run([folder / "three.yaml"])
    assert {sample["metric"] for sample in measured.logs["samples.jsonl"]} == {"acc"}
    assert means(measured)["benchmark_three"] == means(run([folder / "one.yaml"]))["benchmark_one"]


def test_a_generative_task_is_scored_by_the_first_filter_that_it_declares(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_models.llama()
    answer_as_the_model_does(folder / "rows.jsonl", model)
    monkeypatch.chdir(folder)
    theirs = lm_evals_own(folder, "copy", model=model)
    # A checkpoint's own sampling settings must not reach the task.
    model.generation_config.update(repetition_penalty=9.0)
    ours = run([folder / "copy.yaml"], model)
    assert len(ours.items) == 24
    assert means(ours) == {"benchmark_copy": theirs["exact_match,first"]}
    assert theirs["exact_match,first"] > 0.4


def test_every_item_has_its_id_its_own_column_and_a_sample_that_explains_it(folder: Path) -> None:
    measured = run([folder / "one.yaml", folder / "copy.yaml"], limit=4)
    assert [set(row) for row in measured.items] == [{"item", "benchmark_one"}] * 4 + [
        {"item", "benchmark_copy"}
    ] * 4
    assert [row["item"] for row in measured.items][:4] == ["one/0", "one/1", "one/2", "one/3"]
    samples = measured.logs["samples.jsonl"]
    json.dumps(samples)
    for row, sample in zip(measured.items[:4], samples, strict=False):
        (good, _), (bad, _) = sample["responses"]
        assert row["benchmark_one"] == float(float(good) > float(bad))
        assert len(sample["choices"]) == 2


def test_a_group_is_one_benchmark_over_all_its_items(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "two.yaml").write_text(CHOICE.format(name="two", metric="acc").replace("0\n", "1\n", 1))
    measured = run([folder / "both.yaml"])
    assert {row["item"].split("/")[0] for row in measured.items} == {"one", "two"}
    monkeypatch.chdir(folder)
    theirs = lm_evals_own(folder, "both", model=tiny_models.llama())
    assert means(measured) == {"benchmark_both": pytest.approx(theirs["acc,none"])}


def test_a_tasks_own_function_is_given_paths_that_hold_from_any_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "reading.py").write_text(
        "from pathlib import Path\nfrom datasets import Dataset\n\n"
        "def load(*, data_files, **_):\n"
        "    files = {split: Path(__file__).parent / name for split, name in data_files.items()}\n"
        "    return {split: Dataset.from_json(str(file)) for split, file in files.items()}\n"
    )
    (folder / "own.yaml").write_text(
        CHOICE.format(name="own", metric="acc") + "custom_dataset: !function reading.load\n"
    )
    monkeypatch.chdir(folder.parent)
    measured = run([Path(folder.name) / "own.yaml"])
    assert means(measured)["benchmark_own"] == means(run([folder / "one.yaml"]))["benchmark_one"]


def test_a_preset_stands_for_its_tasks_beside_others() -> None:
    evaluation = BenchmarkEvaluation(tasks=["capabilities", "own.yaml"])
    assert evaluation.tasks == [*TASK_PRESETS["capabilities"], "own.yaml"]
    assert BenchmarkEvaluation.model_validate_json(evaluation.model_dump_json()) == evaluation


@pytest.mark.slow  # lm-eval reads its 14,000 task files
def test_lm_eval_has_the_tasks_of_every_preset() -> None:
    known = TaskManager().all_tasks
    assert [task for tasks in TASK_PRESETS.values() for task in tasks if task not in known] == []


def test_batch_size_does_not_change_a_score(folder: Path) -> None:
    tasks = [folder / "one.yaml", folder / "copy.yaml"]
    assert run(tasks, batch_size=1).items == run(tasks, batch_size=16).items


def test_the_blimp_sample_runs_offline_with_lm_evals_own_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    if not (SHARED / "blimp_sample.jsonl").is_file():
        pytest.skip("blimp_sample.jsonl is not on this machine")
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(SHARED))
    measured = run([BLIMP], limit=30)
    texts = [json.loads(line) for line in (SHARED / "blimp_sample.jsonl").read_text().splitlines()[:30]]
    samples = measured.logs["samples.jsonl"]
    assert [sample["choices"] for sample in samples] == [
        [f" {text['sentence_good']}", f" {text['sentence_bad']}"] for text in texts
    ]
    monkeypatch.chdir(SHARED)
    theirs = lm_evals_own(BLIMP.parent, "blimp_sample", model=tiny_models.llama(), limit=30)
    assert means(measured) == {"benchmark_blimp_sample": theirs["acc,none"]}


def _no_mean(folder: Path) -> list[Path]:
    path = folder / "perplexity.yaml"
    path.write_text(
        "task: perplexity\ndataset_path: json\ndataset_kwargs: {data_files: {test: rows.jsonl}}\ntest_split: test\n"
        "output_type: loglikelihood_rolling\ndoc_to_text: ''\ndoc_to_target: '{{good}}'\n"
        "metric_list: [{metric: word_perplexity}]\n"
    )
    return [path]


def _no_data(folder: Path) -> list[Path]:
    (folder / "rows.jsonl").unlink()
    return [folder / "one.yaml"]


def _no_function(folder: Path) -> list[Path]:
    path = folder / "code.yaml"
    path.write_text((folder / "one.yaml").read_text() + "process_docs: !function gone.away\n")
    return [path]


def _unknown_key(folder: Path) -> list[Path]:
    path = folder / "typo.yaml"
    path.write_text((folder / "one.yaml").read_text() + "doc_to_txt: a\n")
    return [path]


BAD = {
    "no metric that is a mean over items": _no_mean,
    "data of a benchmark task is missing": _no_data,
    "gone.away|module 'gone'": _no_function,
    "doc_to_txt": _unknown_key,
    "no such task file": lambda folder: [folder / "absent.yaml"],
    "'one' is asked for twice": lambda folder: [folder / "one.yaml", folder / "both.yaml"],
}


@pytest.mark.parametrize("message", BAD)
def test_a_task_that_cannot_serve_is_one_clear_line(folder: Path, message: str) -> None:
    with pytest.raises(PipelineError, match=message) as caught:
        run(BAD[message](folder))
    assert "\n" not in str(caught.value)


@pytest.fixture
def _few_named_tasks(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Reading all of lm-eval's own tasks takes 15 s; these stand for them."""
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    monkeypatch.setattr("harness.evaluation.tasks._named_tasks", lambda _metadata: manager)
    monkeypatch.chdir(folder)


@pytest.mark.usefixtures("_few_named_tasks")
def test_tasks_and_groups_are_also_found_by_name() -> None:
    names = [Path("both"), Path("copy")]
    assert set(means(run(names, limit=3))) == {"benchmark_both", "benchmark_copy"}


@pytest.mark.usefixtures("_few_named_tasks")
def test_an_unknown_name_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(PipelineError, match=r"no benchmark task 'copi': did you mean 'copy'\?"):
        load_benchmarks(["copi"])
