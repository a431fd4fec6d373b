"""lm-eval's arguments: each is a key of the config that does what lm-eval's own does, or is refused with a reason."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.huggingface import HFLM

from harness.evaluation.benchmarks import run_benchmarks
from harness.evaluation.tasks import load_benchmarks
from harness.lm_eval_arguments import REFUSED
from pipelines.errors import PipelineError
from pipelines.evaluations import BenchmarkEvaluation, LmEvalModel
from tests.harness.evaluation import tiny_models
from tests.harness.evaluation.tiny_tasks import (
    CHOICE,
    GENERATE,
    answer_as_the_model_does,
    lm_evals_numbers,
    lm_evals_own,
    means,
    run,
)

ASKED = {
    "chat template": {"apply_chat_template": True},
    "examples as turns": {"apply_chat_template": True, "num_fewshot": 2},
    "examples in one turn": {"apply_chat_template": True, "num_fewshot": 2, "fewshot_as_multiturn": False},
    "a system's turn": {"apply_chat_template": True, "system_instruction": "w8 w9"},
    "a system's text": {"system_instruction": "w8 w9"},
    "other examples": {"num_fewshot": 2, "fewshot_random_seed": 7},
    "some items": {"samples": {"one": [2, 5, 11], "copy": [0, 3]}},
    "a share of the items": {"limit": 0.3},
    "a model's arguments": {
        "apply_chat_template": True,
        "model_args": {"max_length": 60, "chat_template_args": {"note": "w9"}},
    },
}


@pytest.mark.parametrize("arguments", ASKED.values(), ids=ASKED)
def test_lm_evals_arguments_give_its_own_prompts_and_numbers_for_choices_and_for_generated_text(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any]
) -> None:
    model = tiny_models.llama()
    answer_as_the_model_does(folder / "rows.jsonl", model)
    ours = run([folder / "one.yaml", folder / "copy.yaml"], model, **arguments)
    monkeypatch.chdir(folder)
    one, copy = lm_evals_numbers(folder, ["one", "copy"], model=model, **arguments).values()
    assert means(ours) == {"benchmark_one": one["acc,none"], "benchmark_copy": copy["exact_match,first"]}
    prompts = [sample["prompt_hash"] for sample in ours.logs["samples.jsonl"]]
    first_filter = len(copy["prompts"]) // 2  # the task has two
    assert prompts == one["prompts"] + copy["prompts"][:first_filter]
    if "samples" in arguments:
        assert [row["item"] for row in ours.items] == ["one/2", "one/5", "one/11", "copy/0", "copy/3"]
    if arguments == ASKED["a system's turn"]:
        assert all(text.startswith("w3 w8 w9 <eos> w4 ") and text.endswith(" w5 ") for text in copy["asked"])


def test_what_a_task_generates_follows_the_configs_arguments_and_its_score_its_sample(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_models.llama()
    answer_as_the_model_does(folder / "rows.jsonl", model, template=True)
    asked: dict[str, Any] = {
        "apply_chat_template": True,
        "gen_kwargs": {"max_gen_toks": 2, "until": ["w30"]},
    }
    ours = run([folder / "copy.yaml"], model, **asked)
    monkeypatch.chdir(folder)
    assert (
        means(ours)["benchmark_copy"]
        == lm_evals_own(folder, "copy", model=model, **asked)["exact_match,first"]
    )
    samples = ours.logs["samples.jsonl"]
    recomputed = [float(sample["responses"] == [sample["target"]]) for sample in samples]
    assert (
        recomputed == [sample["score"] for sample in samples] == [row["benchmark_copy"] for row in ours.items]
    )
    assert 0.4 < sum(recomputed) / len(recomputed) < 1


def test_generated_text_ends_at_the_datas_ends_of_a_turn(folder: Path) -> None:
    """As at a checkpoint's own ends, of which the tokenizer's EOS is but one."""
    text = GENERATE.replace('until: ["w7"], max_gen_toks: 4', "until: [], max_gen_toks: 6")
    text = text[: text.index("filter_list")] + text[text.index("metric_list") :]
    (folder / "long.yaml").write_text(text.replace("task: copy", "task: long"))
    whole = [sample["responses"][0].split() for sample in run([folder / "long.yaml"]).logs["samples.jsonl"]]
    end = next(words[2] for words in whole if len(set(words)) > 2)
    ended = run([folder / "long.yaml"], ends=(int(end[1:]),)).logs["samples.jsonl"]
    assert [sample["responses"][0].split() for sample in ended] == [
        words[: words.index(end) + 1] if end in words else words for words in whole
    ]


def test_metadata_reaches_the_function_that_makes_a_tasks_data(folder: Path) -> None:
    (folder / "making.py").write_text(
        "from datasets import Dataset\n\n"
        "def load(*, rows, **_):\n"
        "    return {'test': Dataset.from_list([{'question': 'w3', 'good': 'w4', 'bad': 'w5'}] * rows)}\n"
    )
    task = CHOICE.format(name="made", metric="acc").replace("fewshot_split: train\n", "")
    (folder / "made.yaml").write_text(task + "custom_dataset: !function making.load\n")
    assert len(run([folder / "made.yaml"], metadata={"rows": 3}).items) == 3


NO_USE = {
    "apply_chat_template: the tokenizer has no chat template": {"apply_chat_template": True},
    r"gen_kwargs: none of the tasks generates \(one\)": {"gen_kwargs": {"max_gen_toks": 2}},
    r"samples: 'two' is none of the tasks that run \(one\)": {"samples": {"two": [1]}},
    "samples: one has 24 items, counted from 0: no 24": {"samples": {"one": [24]}},
}


@pytest.mark.parametrize("message", NO_USE)
def test_an_argument_without_a_use_is_one_clear_line(folder: Path, message: str) -> None:
    evaluation = BenchmarkEvaluation(tasks=[str(folder / "one.yaml")], **NO_USE[message])
    with pytest.raises(PipelineError, match=message) as caught:
        run_benchmarks(
            tiny_models.llama(),
            tiny_models.tokenizer(),
            load_benchmarks(evaluation.tasks),
            evaluation=evaluation,
            end_of_turn_ids=[tiny_models.EOS],
        )
    assert "\n" not in str(caught.value)


def test_every_argument_of_lm_eval_is_a_key_or_is_refused_with_a_reason() -> None:
    ours = set(BenchmarkEvaluation.model_fields) - {"group"}
    theirs = set(signature(simple_evaluate).parameters)
    assert ours | REFUSED.keys() == theirs
    assert not ours & REFUSED.keys()
    defaults = {
        name: (parameter.default or None)  # their None is our empty mapping or list
        for name, parameter in signature(simple_evaluate).parameters.items()
        if name in ours - {"tasks", "batch_size"}
    }
    for name, default in defaults.items():
        own = BenchmarkEvaluation.model_fields[name].get_default(call_default_factory=True)
        assert name == "model_args" or (own or None) == default


def test_every_argument_of_a_model_is_one_that_lm_eval_heeds_of_a_model_that_is_loaded() -> None:
    theirs = signature(HFLM.__init__).parameters
    for name, value in LmEvalModel():
        assert (theirs[name].default or None) == (value or None), name
