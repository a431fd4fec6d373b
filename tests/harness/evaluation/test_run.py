"""A whole evaluation stage: from the folders of its inputs to its items and their means."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from datasets import Dataset

from harness.diagnostics import preference_diagnostics
from harness.evaluation.items import outcome_of
from harness.evaluation.loaded import Loaded
from harness.evaluation.run import evaluate
from harness.items import read_items
from harness.measured import OF_REPLIES
from harness.metrics import is_metric
from pipelines.errors import NotFinite, PipelineError
from pipelines.outcomes import EvaluateOutcome
from pipelines.stages import EvaluateSettings, ModelSettings, Stage, StageInputs
from pipelines.training.train import train
from tests.pipelines.training import tiny


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tiny.make_inputs(tmp_path)
    return tmp_path


def run(
    root: Path,
    evaluation: dict[str, Any],
    *,
    policy: str | None = None,
    base_evaluation: str | None = None,
    name: str = "evaluate-000000000000",
) -> tuple[EvaluateOutcome, Path, list[str]]:
    settings = EvaluateSettings(
        kind="evaluate",
        model=ModelSettings(name="toy"),
        dtype="float32",
        max_length=32,
        evaluation=evaluation,  # type: ignore[arg-type]
    )
    stage = Stage(
        id="evaluate-000000000000",
        settings=settings,
        inputs=StageInputs(base=tiny.BASE, data=tiny.DATA, policy=policy, base_evaluation=base_evaluation),
        seed=0,
        threads=1,
        device="cpu",
    )
    folder = root / name
    folder.mkdir()
    observer = tiny.Silent()
    torch.use_deterministic_algorithms(True)
    try:
        return evaluate(stage, folder, observer, Loaded()), folder, observer.phases
    finally:
        torch.use_deterministic_algorithms(False)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    "evaluation",
    [
        {"group": "preference", "batch_size": 5},
        {"group": "generation", "sampled": True, "max_new_tokens": 6, "batch_size": 5},
    ],
)
def test_every_mean_is_one_pandas_line_over_the_items(root: Path, evaluation: dict[str, Any]) -> None:
    outcome, folder, phases = run(root, evaluation)
    table = pandas.read_json(folder / "items.jsonl", lines=True, dtype={"item": str})
    assert list(table["item"]) == sorted(pair["uid"] for pair in tiny.pairs())
    assert outcome.means == pytest.approx(table[list(outcome.means)].mean().to_dict(), abs=1e-12)
    assert set(outcome.means) == set(filter(is_metric, table.columns))
    assert outcome.num_items == {name: table[name].count() for name in outcome.means}
    assert outcome.num_items[next(iter(outcome.means))] == len(table)
    assert outcome.group == evaluation["group"]
    assert phases == ["load", "data", "evaluate", "save"]


def test_max_items_takes_the_first_uids_however_the_rows_are_ordered(root: Path) -> None:
    _, folder, _ = run(root, {"group": "preference", "max_items": 4}, name="first")
    assert [row["item"] for row in rows(folder / "items.jsonl")] == ["0000", "0001", "0002", "0003"]
    saved = root / tiny.DATA / "splits" / "validation"
    Dataset.from_list(tiny.pairs()[::-1]).save_to_disk(saved)
    _, again, _ = run(root, {"group": "preference", "max_items": 4, "split": "validation"}, name="again")
    of_test = [row | {"split": "validation"} for row in rows(folder / "items.jsonl")]
    assert rows(again / "items.jsonl") == of_test


@pytest.mark.parametrize("group", ["preference", "generation"])
def test_an_empty_split_is_an_error_and_not_a_result_without_numbers(root: Path, group: str) -> None:
    splits = root / tiny.DATA / "splits"
    Dataset.from_list(tiny.pairs()).select([]).save_to_disk(splits / "validation")
    prepared = json.loads((root / tiny.DATA / "data.json").read_text())
    prepared["splits"]["validation"]["num_pairs"] = 0
    (root / tiny.DATA / "data.json").write_text(json.dumps(prepared))
    with pytest.raises(PipelineError, match="the validation split has no pairs"):
        run(root, {"group": group, "split": "validation"})


def test_a_trained_adapter_is_what_is_measured_and_not_its_base(root: Path) -> None:
    base, _, _ = run(root, {"group": "preference"}, name="base")
    stage = tiny.stage("sft", tuning="lora")
    train(stage, tiny.folder_of(root, stage), tiny.Silent())
    tuned, _, _ = run(root, {"group": "preference"}, policy=stage.id, name="tuned")
    assert tuned.means["chosen_nll"] < base.means["chosen_nll"] - 0.1


def test_a_trained_model_is_compared_with_the_base_models_own_evaluation(root: Path) -> None:
    evaluation = {"group": "preference", "train_items": 5}
    splits = root / tiny.DATA / "splits"
    others = [pair | {"uid": f"trained-{pair['uid']}"} for pair in tiny.pairs()]
    Dataset.from_list(others).save_to_disk(splits / "train")
    _, base_folder, _ = run(root, evaluation, name="base")
    stage = tiny.stage("sft")
    train(stage, tiny.folder_of(root, stage), tiny.Silent())
    outcome, folder, _ = run(root, evaluation, policy=stage.id, base_evaluation="base", name="tuned")
    base, tuned = (
        pandas.read_json(at / "items.jsonl", lines=True, dtype={"item": str}) for at in (base_folder, folder)
    )
    assert list(tuned["split"]) == ["test"] * 12 + ["train"] * 5
    for side in ("chosen", "rejected"):
        assert list(tuned[f"{side}_logprob_sum_base"]) == list(base[f"{side}_logprob_sum"])
    gain = (tuned["chosen_logprob_sum"] - base["chosen_logprob_sum"]) / tuned["num_chosen_tokens"]
    assert outcome.means["chosen_logprob_shift"] == pytest.approx(gain[:12].mean())
    assert outcome.means["train_chosen_logprob_shift"] == pytest.approx(gain[12:].mean())
    assert outcome.num_items["train_preference_accuracy"] == 5
    assert gain.mean() > 0.1


def test_every_line_of_the_page_on_results_gives_the_number_that_it_names(root: Path) -> None:
    evaluation = {"group": "preference", "train_items": 5}
    others = [pair | {"uid": f"trained-{pair['uid']}"} for pair in tiny.pairs()]
    Dataset.from_list(others).save_to_disk(root / tiny.DATA / "splits" / "train")
    run(root, evaluation, name="base")
    stage = tiny.stage("sft")
    train(stage, tiny.folder_of(root, stage), tiny.Silent())
    outcome, folder, _ = run(root, evaluation, policy=stage.id, base_evaluation="base", name="tuned")
    diagnostics = preference_diagnostics(read_items(folder / "items.jsonl"), seed=0)
    assert diagnostics is not None
    page = (Path(__file__).parents[3] / "docs" / "results.md").read_text()
    (block,) = [
        block for block in re.findall(r"```python\n(.*?)```", page, re.S) if "preference_margin =" in block
    ]
    found: dict[str, Any] = {"pandas": pandas, "numpy": np}
    exec(block.replace("results/toy/evaluate-0123456789ab", str(folder)), found)
    of_test = {name: mean for name, mean in outcome.means.items() if not name.startswith("train_")}
    assert {name: found[name] for name in of_test} == pytest.approx(of_test, abs=1e-12)
    assert found["margin_length_correlation"] == pytest.approx(diagnostics.margin_length_correlation)
    assert found["gap_of_chosen_nll"] == pytest.approx(diagnostics.train_test_gap["chosen_nll"])
    curve = [one.accuracy for one in diagnostics.calibration[0].bins]
    assert list(found["reliability"]) == pytest.approx(curve)


def test_a_base_evaluation_of_other_pairs_is_refused(root: Path) -> None:
    run(root, {"group": "preference", "max_items": 3}, name="base")
    with pytest.raises(PipelineError, match="the base model's evaluation has no pair 0003"):
        run(root, {"group": "preference"}, base_evaluation="base", name="other")


def test_the_drift_of_a_trained_model_is_measured_against_its_base(root: Path) -> None:
    stage = tiny.stage("sft", tuning="lora")
    train(stage, tiny.folder_of(root, stage), tiny.Silent())
    asked = {"group": "drift", "max_items": 4, "own_replies": True, "max_new_tokens": 5}
    outcome, folder, _ = run(root, asked, policy=stage.id, name="tuned")
    assert outcome.num_items == {"kl_to_base": 4, "kl_to_base_own": 4, "weights_distance": 1}
    assert all(mean > 0 for mean in outcome.means.values())
    assert [row["layer"] for row in rows(folder / "weights.jsonl")][:2] == ["embed_tokens", "layer 0"]
    itself, _, _ = run(root, asked, name="itself")
    assert itself.means == pytest.approx(dict.fromkeys(outcome.means, 0.0), abs=1e-6)


def test_replies_are_kept_with_what_was_asked_and_how_they_ended(root: Path) -> None:
    asked = {"group": "generation", "sampled": True, "temperature": 0.7, "max_new_tokens": 6, "max_items": 5}
    outcome, folder, _ = run(root, asked)
    kept = rows(folder / "replies.jsonl")
    assert [row["temperature"] for row in kept] == [0] * 5 + [0.7] * 5
    assert {row["temperature"] for row in rows(folder / "items.jsonl")} == {0.7}
    for row, item in zip(kept[:5], rows(folder / "items.jsonl"), strict=True):
        assert row["item"] == item["item"]
        assert row["prompt"] == "p"
        assert row["num_tokens"] == item["reply_length_tokens"] <= 6
        assert row["stopped"] == (item["stopped_share"] == 1)
        assert row["gold"] is None
        assert "<eos>" not in row["reply"]
    assert set(outcome.means) == set(OF_REPLIES)


TOY_PROMPT = "{name} on the {plan} plan writes: {product} {problem}. This is ticket C-72, account B-15."


def test_the_gold_judge_scores_greedy_and_sampled_replies_by_component(root: Path) -> None:
    tickets = pytest.importorskip("pipelines.toy.tickets")
    prompt = TOY_PROMPT.format(
        name=next(iter(tickets.NAMES)),
        plan=next(iter(tickets.PLANS)),
        product=next(iter(tickets.PRODUCTS)),
        problem=next(iter(tickets.TEAM_OF)),
    )
    table = [pair | {"prompt_text": prompt} for pair in tiny.pairs()]
    Dataset.from_list(table).save_to_disk(root / tiny.DATA / "splits" / "validation")
    outcome, folder, _ = run(
        root,
        {
            "group": "generation",
            "split": "validation",
            "sampled": True,
            "judges": ["gold"],
            "max_new_tokens": 4,
        },
    )
    gold = pytest.importorskip("pipelines.toy.gold")
    kept = rows(folder / "replies.jsonl")
    assert all(row["gold"] == gold.score(prompt, row["reply"]).components for row in kept)
    by_temperature = [
        sum(gold.score(prompt, row["reply"]).total for row in kept if row["temperature"] == wanted) / 12
        for wanted in (0, 1)
    ]
    assert [outcome.means["gold_score"], outcome.means["gold_score_sampled"]] == pytest.approx(by_temperature)


def test_the_gold_judge_refuses_prompts_of_another_world(root: Path) -> None:
    with pytest.raises(PipelineError, match="grades the toy world's prompts only"):
        run(root, {"group": "generation", "judges": ["gold"], "max_new_tokens": 2})


def test_a_broken_model_is_not_finite_and_writes_no_items(root: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = root / tiny.BASE / "model" / "model.safetensors"
    broken = load_file(weights)
    broken["model.norm.weight"][:] = float("nan")
    save_file(broken, weights, metadata={"format": "pt"})
    with pytest.raises(NotFinite, match="preference_accuracy of item 0000 is nan"):
        run(root, {"group": "preference"})
    assert not (root / "evaluate-000000000000" / "items.jsonl").exists()


def test_a_value_that_no_statistic_can_hold_is_not_finite() -> None:
    with pytest.raises(NotFinite, match=r"gold_score of item a is 1e\+200"):
        outcome_of("generation", [{"item": "a", "gold_score": 1e200}])


def test_benchmarks_run_with_the_datas_tokenizer(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", root / "cache")
    (root / "pairs.jsonl").write_text("".join(f'{{"a": "w{i}", "b": "w{i + 9}"}}\n' for i in range(2, 8)))
    (root / "pairs.yaml").write_text(
        "task: pairs\ndataset_path: json\ndataset_kwargs: {data_files: {test: pairs.jsonl}}\ntest_split: test\n"
        "output_type: multiple_choice\ntarget_delimiter: ''\ndoc_to_text: ''\ndoc_to_target: 0\n"
        "doc_to_choice: '{{[a, b]}}'\nmetric_list: [{metric: acc}]\n"
    )
    outcome, folder, phases = run(root, {"group": "benchmarks", "tasks": [str(root / "pairs.yaml")]})
    assert outcome.num_items == {"benchmark_pairs": 6}
    assert len(rows(folder / "items.jsonl")) == len(rows(folder / "samples.jsonl")) == 6
    assert phases == ["load", "data", "evaluate", "save"]
