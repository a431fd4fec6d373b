"""Malformed configs: exit 2, one line that names the key and what to do, nothing run, nothing written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.cli import main
from tests.harness.configs import VALID, write

pytestmark = pytest.mark.usefixtures("never_trains")

ORPO = "      arguments: {learning_rate: 1e-3, beta: 0.1}"


def replaced(old: str, new: str) -> str:
    assert old in VALID
    return VALID.replace(old, new, 1)


def benchmarks(keys: str) -> str:
    return f"{VALID}  benchmarks: {{tasks: [a], {keys}}}\n"


# name of the case: (the config's text, every piece that the line must hold)
MISTAKES: dict[str, tuple[str, list[str]]] = {
    "an empty file": ("", ["is empty"]),
    "only a comment": ("# nothing\n", ["is empty"]),
    "a list": ("- a\n", ["must be keys with values, got a list"]),
    "a word": ("hello\n", ["must be keys with values", "hello"]),
    "a tab": (replaced("    - trainer: orpo", "\t- trainer: orpo"), ["line 8, column 1", "tab"]),
    "an open bracket": (replaced("{name: toy}", "{name: toy"), ["line", "column", "not YAML"]),
    "a key given twice": (VALID + "name: again\n", ["line 16: key 'name'", "line 2"]),
    "an argument given twice": (
        replaced("beta: 0.1", "beta: 0.1, beta: 0.2"), ["'beta' must be given once"],
    ),
    "a key that is a number": (replaced("  orpo:\n", "  7:\n"), ["line 7", "must be text"]),
    "an alias to itself": (replaced("arms:", "arms: &a\n  loop: *a"), ["alias"]),
    "a page of aliases": (
        "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)),
        ["aliases", "100,000"],
    ),
    "a hundred thousand brackets": (replaced("{name: toy}", "[" * 100_000), ["line 3: must be nested at most 50 deep"]),
    "a binary tag": (replaced("name: small", "name: !!binary aGk="), ["text, numbers, lists"]),
    "a text tagged as a truth value": (replaced("name: small", 'name: !!bool "x"'), ["not YAML", "`!!`"]),
    "a text tagged as a time": (replaced("name: small", 'name: !!timestamp "x"'), ["not YAML", "`!!`"]),
    "a tag of Python": (replaced("name: small", "name: !!python/name:os.system"), ["not YAML"]),
    "no schema": (replaced("schema: 1\n", ""), ["schema is missing"]),
    "a later schema": (replaced("schema: 1", "schema: 2"), ["schema must be 1, got 2"]),
    "no model": (replaced("model: {name: toy}\n", ""), ["model is missing"]),
    "a model without keys": (replaced("model: {name: toy}", "model: toy"), ["model must be a mapping", "'toy'"]),
    "a model of nothing": (replaced("model: {name: toy}", "model:"), ["model must be a mapping", "got nothing"]),
    "an unknown key": (replaced("name: small", "name: small\nsed: 3"), ["sed is not a key", "Did you mean seeds?"]),
    "an unknown key further in": (
        replaced("effective_batch", "efective_batch"),
        ["training.efective_batch is not a key", "Did you mean effective_batch?"],
    ),
    "a misspelt required key": (replaced("model:", "modle:"), ["modle is not a key", "Did you mean model?"]),
    "an unknown key of a stage": (
        replaced("- trainer: dpo\n      reference", "- trainer: dpo\n      refrence"),
        ["arms.sft-dpo.1.refrence", "Did you mean reference?"],
    ),
    "an argument beside the arguments": (
        replaced(ORPO, "      beta: 0.1"), ["arms.orpo.0.beta", "Did you mean arms.orpo.0.arguments.beta?"],
    ),
    "a key in the wrong place": (
        replaced("name: small", "name: small\nmax_length: 64"), ["Did you mean training.max_length?"],
    ),
    "a key that would command the terminal": (
        VALID + '"a\\e[31m\\r\\nb": 1\n', ["is not a key of the config", "a␛[31m b"],
    ),
    "text for a number": (VALID + "seeds: three\n", ["seeds must be a whole number, got 'three'"]),
    "text for a number that may be auto": (VALID + "threads: many\n", ["threads must be a whole number or auto, got 'many'"]),
    "a number in quotes": (VALID + 'seeds: "3"\n', ["seeds must be a whole number, got '3'"]),
    "true for a number": (VALID + "seeds: true\n", ["seeds must be a whole number, got true"]),
    "yes for true": (VALID + "base_per_seed: yes\n", ["base_per_seed must be true or false, got 'yes'"]),
    "a broken number": (VALID + "seeds: 2.5\n", ["seeds must be a whole number, got 2.5"]),
    "no seeds": (VALID + "seeds: 0\n", ["seeds must be at least 1, got 0"]),
    "infinity": (VALID + "decision: {margin: .inf}\n", ["decision.margin must be a finite number, got inf"]),
    "not a number": (replaced("1e-3", ".nan"), ["arms.orpo.0.arguments.learning_rate must be a finite number"]),
    "a margin of 0": (VALID + "decision: {margin: 0}\n", ["decision.margin must be more than 0, got 0"]),
    "an alpha that no data reach": (
        VALID + "decision: {alpha: 1.0e-300}\n", ["decision.alpha must be at least 1e-06, got 1e-300"],
    ),
    "a name with a slash": (replaced("name: small", "name: a/b"), ["name must be a name of", "'a/b'"]),
    "an arm's name with a blank": (replaced("  orpo:\n", "  o r:\n"), ["arms.o r", "must be a name of"]),
    "an unknown trainer": (
        replaced("trainer: orpo", "trainer: orpoo"),
        ["arms.orpo.0.trainer must be sft, dpo or orpo, got 'orpoo'. Did you mean orpo?"],
    ),
    "an unknown dtype": (
        replaced("micro_batch: 4", "micro_batch: 4, dtype: bfloat"), ["training.dtype", "Did you mean bfloat16?"],
    ),
    "arms as a list": (
        VALID[: VALID.index("arms:")] + "arms: [orpo]\n", ["arms must be a mapping", "got a list"],
    ),
    "no arms": (VALID[: VALID.index("arms:")] + "arms: {}\n", ["arms must have at least 1 entry, got 0"]),
    "an empty arm": (VALID + "", []),  # replaced below: needs another cut of the text
    "an arm called like a control": (replaced("  orpo:\n", "  base:\n"), ["arms.base must not be called base"]),
    "an arm called like an outcome": (replaced("  orpo:\n", "  undecided:\n"), ["arms.undecided must not be called undecided"]),
    "one arm to compare": (VALID + "decision: {compare: [orpo]}\n", ["decision.compare must have 2 entries"]),
    "three arms to compare": (
        VALID + "decision: {compare: [orpo, sft-dpo, orpo]}\n", ["decision.compare", "2 entries"],
    ),
    "an arm that is not there": (
        VALID + "decision: {compare: [orpo, sft-dbo]}\n",
        ["decision.compare.1 must be the name of an arm, got 'sft-dbo'", "Did you mean sft-dpo?"],
    ),
    "an arm against itself": (VALID + "decision: {compare: [orpo, orpo]}\n", ["two different arms"]),
    "an unknown metric": (
        VALID + "decision: {metric: preference_acuracy}\n",
        ["decision.metric", "Did you mean preference_accuracy?"],
    ),
    "a metric that nothing measures": (
        VALID + "decision: {metric: gold_score_sampled}\n", ["decision.metric", "sampled: true"],
    ),
    "a metric without a better": (VALID + "decision: {metric: reply_length_tokens}\n", ["decision.metric", "neither"]),
    "money without a price": (VALID + "decision: {cost: money}\n", ["decision.cost", "price_per_hour"]),
    "a batch that does not divide": (
        replaced("micro_batch: 4", "micro_batch: 3"), ["training.effective_batch must be a multiple", "(3)", "got 8"],
    ),
    "a batch larger than the data": (
        replaced("num_pairs: 100", "num_pairs: 10"), ["training.effective_batch must be at most", "got 8"],
    ),
    "the best of no looks": (
        replaced("micro_batch: 4", "micro_batch: 4, select: best_validation, eval_every: null"),
        ["training.eval_every must be given with `select: best_validation`"],
    ),
    "the best on no validation pairs": (
        replaced("micro_batch: 4", "micro_batch: 4, select: best_validation").replace(
            "num_pairs: 100", "num_pairs: 100, validation_share: 0"
        ),
        ["data.validation_share must be above 0 with `select: best_validation`"],
    ),
    "a target without looks": (
        replaced("micro_batch: 4", "micro_batch: 4, eval_every: null")
        + "target: {metric: preference_accuracy, value: 0.7}\n",
        ["training.eval_every must be given with `target`"],
    ),
    "a target that is no share": (
        VALID + "target: {metric: preference_accuracy, value: 70}\n",
        ["target.value must be a share, at most 1, for preference_accuracy, got 70"],
    ),
    "a batch larger than max_train_pairs": (
        replaced("num_pairs: 100", "num_pairs: 100, max_train_pairs: 5"), ["data.max_train_pairs (5), got 8"],
    ),
    "nothing left to train on": (
        replaced("num_pairs: 100", "num_pairs: 100, test_share: 0.6, validation_share: 0.5"),
        ["data.test_share and data.validation_share", "less than 1, got 1.1"],
    ),
    "label smoothing that the loss leaves out": (
        replaced("trainer: dpo", "trainer: dpo\n      arguments: {label_smoothing: 0.1}"),
        ["arms.sft-dpo.1.arguments.label_smoothing must be 0", "[sigmoid]", "[robust]"],
    ),
    "label smoothing of SFT alone": (
        replaced("micro_batch: 4", "micro_batch: 4, arguments: {label_smoothing_factor: 0.1}"),
        ["training.arguments.label_smoothing_factor must not be set here: DPO and ORPO would leave it out"],
    ),
    "LoRA dropout": (
        replaced("micro_batch: 4", "micro_batch: 4, tuning: lora, lora: {dropout: 0.1}"),
        ["training.lora.dropout must be 0, got 0.1"],
    ),
    "LoRA settings of a full fine-tuning": (
        replaced("micro_batch: 4", "micro_batch: 4, lora: {r: 8}"), ["training.lora", "tuning: full"],
    ),
    "bfloat16 updates of float32 weights": (
        replaced("micro_batch: 4", "micro_batch: 4, master_weights: none"),
        ["training.master_weights must not be none unless `dtype: bfloat16` and `tuning: full`"],
    ),
    "QLoRA on a CPU": (
        replaced("micro_batch: 4", "micro_batch: 4, tuning: qlora") + "device: cpu\n",
        ["training.tuning must not be qlora", "CUDA"],
    ),
    "an adapter as reference without LoRA": (
        replaced("reference: copy", "reference: adapter"), ["arms.sft-dpo.1.reference must not be adapter"],
    ),
    "a reference of an sft stage": (
        replaced("- trainer: sft\n", "- trainer: sft\n      reference: copy\n"),
        ["arms.sft-dpo.0.reference must not be given for sft"],
    ),
    "an implementation of a dpo stage": (
        replaced("reference: copy", "implementation: trl"), ["arms.sft-dpo.1.implementation"],
    ),
    "a stock trainer that is not stock": (
        replaced("- trainer: orpo\n", "- trainer: orpo\n      preset: stock\n      implementation: fused\n"),
        ["arms.orpo.0.implementation must not be fused with `preset: stock`"],
    ),
    "a weight of a term that dpo lacks": (
        replaced("reference: copy", "nll_weight: 0"), ["arms.sft-dpo.1.nll_weight must not be given for dpo"],
    ),
    "a loss that depends on the micro-batch": (
        replaced("reference: copy", "arguments: {loss_type: [sigmoid, aot]}"),
        ["arms.sft-dpo.1.arguments.loss_type must not name aot", "micro_batch to 8", "preset: stock"],
    ),
    "an nll of a dpo stage": (replaced("reference: copy", "nll: completion"), ["arms.sft-dpo.1.nll"]),
    "a control twice": (VALID + "controls: [base, base]\n", ["controls must name each control once"]),
    "an unknown control": (VALID + "controls: [sfd]\n", ["controls.0 must be base or sft", "Did you mean sft?"]),
    "a gold judge without toy data": (
        replaced("{path: toy, num_pairs: 100}", "{path: some/pairs}"), ["evaluations.generation.judges", "gold"],
    ),
    "a base for each seed of a real model": (
        replaced("{name: toy}", "{name: some/model}") + "base_per_seed: true\n", ["base_per_seed must be false"],
    ),
    "generated pairs of real data": (
        replaced("path: toy, num_pairs", "path: some/pairs, num_pairs"), ["data.num_pairs", "max_train_pairs"],
    ),
    "the validation split of no share": (
        replaced("num_pairs: 100", "num_pairs: 100, validation_share: 0").replace(
            "{judges: [gold]}", "{judges: [gold], split: validation}"
        ),
        ["evaluations.generation.split must not be validation"],
    ),
    "an unknown argument": (
        replaced("learning_rate: 1e-3", "learning_rat: 1e-3"),
        ["arms.orpo.0.arguments.learning_rat is not an argument of TRL's ORPOConfig", "Did you mean learning_rate?"],
    ),
    "an argument of another trainer": (
        replaced("beta: 0.1", "loss_weights: [1.0]"), ["arms.orpo.0.arguments.loss_weights", "DPOConfig"],
    ),
    "a shared argument that one trainer lacks": (
        replaced("micro_batch: 4", "micro_batch: 4, arguments: {beta: 0.1}"),
        ["training.arguments.beta is not an argument of TRL's SFTConfig", "arms.sft-dpo.0"],
    ),
    "text for an argument's number": (
        replaced("1e-3", "fast"), ["arms.orpo.0.arguments.learning_rate must be a number, got 'fast'"],
    ),
    "true for an argument's number": (replaced("beta: 0.1", "beta: true"), ["beta must be a number, got true"]),
    "a beta of 0": (replaced("beta: 0.1", "beta: 0"), ["beta must be more than 0, got 0", "0.05 to 0.2"]),
    "an unknown schedule": (
        replaced("beta: 0.1", "lr_scheduler_type: cosin"), ["lr_scheduler_type must be", "got 'cosin'. Did you mean cosine?"],
    ),
    "an unknown divergence": (
        replaced("reference: copy", "arguments: {f_divergence_type: bogus}"),
        ["arms.sft-dpo.1.arguments.f_divergence_type must be 'reverse_kl' or", "got 'bogus'"],
    ),
    "a misspelt loss": (
        replaced("reference: copy", "arguments: {loss_type: [sigmoid, hing]}"),
        ["loss_type must be a list of 15 names such as 'sigmoid'", "Did you mean hinge?"],
    ),
    "an order of one's own": (
        replaced("beta: 0.1", "train_sampling_strategy: sequential"), ["train_sampling_strategy", "the seed"],
    ),
    "an unknown attention": (
        replaced("{name: toy}", "{name: some/model, attn_implementation: flash_attention}"),
        ["model.attn_implementation must be one of", "Did you mean flash_attention_"],
    ),
    "no steps": (replaced("beta: 0.1", "max_steps: 0"), ["max_steps must be at least 1"]),
    "a seed of one's own": (replaced("beta: 0.1", "seed: 7"), ["arguments.seed must not be set here", "first_seed"]),
    "a batch size of one's own": (
        replaced("beta: 0.1", "per_device_train_batch_size: 2"), ["training.micro_batch"],
    ),
    "an evaluation of one's own": (replaced("beta: 0.1", "eval_steps: 5"), ["arguments.eval_steps", "evaluations"]),
    "an unknown group of evaluations": (
        VALID.replace("generation:", "generations:"), ["evaluations.generations", "Did you mean generation?"],
    ),
    "no benchmark tasks": (
        VALID + "  benchmarks: {tasks: []}\n", ["evaluations.benchmarks.tasks must have at least 1 entry"],
    ),
    "a device for lm-eval alone": (
        benchmarks("device: cpu"), ["benchmarks.device is not a key", "the config's own `device`"],
    ),
    "a model for lm-eval": (benchmarks("model: hf"), ["benchmarks.model is not a key", "Every model"]),
    "a misspelt argument of lm-eval": (
        benchmarks("apply_chat_templat: true"), ["Did you mean apply_chat_template?"],
    ),
    "an argument of a model's weights": (
        benchmarks("model_args: {dtype: float16}"), ["model_args.dtype is not a key", "Did you mean training.dtype?"],
    ),
    "a limit that is no whole number": (
        benchmarks("limit: 1.5"), ["limit must be a whole number, or a share below 1, got 1.5"],
    ),
    "a limit of chosen items": (benchmarks("limit: 5, samples: {a: [1]}"), ["limit must not be given with samples"]),
    "no items": (benchmarks("samples: {a: []}"), ["samples.a must list numbers of items"]),
    "turns without a template": (
        benchmarks("fewshot_as_multiturn: false"), ["must not be given without apply_chat_template"],
    ),
    "thinking without an end": (
        benchmarks("apply_chat_template: true, model_args: {enable_thinking: true}"),
        ["model_args.think_end_token must be given"],
    ),
    "a temperature of no sample": (
        VALID.replace("generation: {", "generation: {temperature: 0.5, "),
        ["generation.temperature must not be given without `sampled: true`"],
    ),
    "a temperature of 0": (
        VALID.replace("generation: {", "generation: {sampled: true, temperature: 0, "),
        ["generation.temperature must be more than 0"],
    ),
}  # fmt: skip
MISTAKES["an empty arm"] = (
    replaced("    - trainer: orpo\n" + ORPO, "    []"),
    ["arms.orpo must have at least 1 stage"],
)


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_that_names_the_key_and_nothing_is_written(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text, pieces = MISTAKES[case]
    monkeypatch.chdir(tmp_path)
    write(tmp_path, text)
    assert main(["run", "config.yaml"]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("config.yaml: ")
    assert shown.err.count("\n") == 1
    assert "Traceback" not in shown.err
    assert [piece for piece in pieces if piece not in shown.err] == []
    assert shown.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_bytes_that_are_no_text_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"name: \xff\xfe\n")
    assert main(["run", str(path)]) == 2
    assert "UTF-8" in capsys.readouterr().err


def test_the_number_of_further_mistakes_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, VALID + "seeds: x\nthreads: y\nfirst_seed: z\n")
    assert main(["run", str(path)]) == 2
    assert "(2 more mistakes after this one)" in capsys.readouterr().err


def test_a_bug_is_called_a_bug_and_debug_shows_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("broken inside")

    monkeypatch.setattr("harness.load_config.load_comparison", broken)
    assert main(["check", str(write(tmp_path))]) == 70
    quiet = capsys.readouterr().err
    assert "a bug in prefduel" in quiet
    assert quiet.count("\n") == 1
    assert main(["check", str(write(tmp_path)), "--debug"]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_a_pipe_and_a_huge_file_are_no_configs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe, huge = tmp_path / "pipe.yaml", tmp_path / "huge.yaml"
    os.mkfifo(pipe)
    huge.write_bytes(b"#" * (1 << 20) + b"\n")
    assert main(["check", str(pipe)]) == 2
    assert "got a pipe or a device" in capsys.readouterr().err
    assert main(["check", str(huge)]) == 2
    assert "at most 1,048,576 bytes" in capsys.readouterr().err
