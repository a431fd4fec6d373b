"""Measures the toy world on its base model and on SFT alone: `python -m benchmarks.calibrate_toy --seeds 3`.

This is how the world is calibrated (docs/toy-world.md): on pairs of a seed of its own, which no comparison uses, and
without a look at an arm. For each seed it pre-trains a base, trains SFT as the pipeline does, and scores replies to
200 prompts that neither has seen.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel, PrinterCallback, set_seed

from pipelines.stages import LoraSettings, ModelSettings, Phase, PretrainSettings, Stage, TrainSettings
from pipelines.toy import gold
from pipelines.toy.pretrain import pretrain
from pipelines.toy.tickets import make_pairs
from pipelines.toy.tokenizer import make_tokenizer
from pipelines.training.arguments import shared_arguments
from pipelines.training.parts import Parts
from pipelines.training.sft import sft_trainer

CALIBRATION_SEED = 991
NUM_TRAIN, NUM_PROMPTS = 400, 200
MAX_NEW_TOKENS = 96
TASKS = Path(__file__).parents[1] / "configs" / "tasks"

Scores = dict[str, float]


class Unwatched:
    """An observer that looks away."""

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """Do nothing about it."""
        yield

    def progress(self, done: int, total: int) -> None:
        """Do nothing about it."""


def main() -> None:
    """Calibrate and print a table, and one JSON line for each row of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="how many bases, numbered from 0")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)
    pairs = make_pairs(NUM_TRAIN + NUM_PROMPTS, seed=CALIBRATION_SEED)
    rows: dict[str, list[Scores]] = {
        "chosen": [_mean_of(pairs, "chosen")],
        "rejected": [_mean_of(pairs, "rejected")],
    }
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            for row, scores in _measure(seed, pairs, Path(folder), options.threads):
                rows.setdefault(row, []).append(scores)
                print(json.dumps({"seed": seed, "row": row} | scores), file=sys.stderr, flush=True)
    print(_table(rows))


def _measure(
    seed: int, pairs: list[dict[str, str]], folder: Path, threads: int
) -> Iterator[tuple[str, Scores]]:
    base_stage = Stage(
        id="pretrain-000000000000",
        settings=PretrainSettings(kind="pretrain"),
        seed=seed,
        threads=threads,
        device="cpu",
    )
    started, processor_started = time.perf_counter(), time.process_time()
    pretrain(base_stage, folder, Unwatched())
    print(
        f"pre-training: {time.perf_counter() - started:.1f} s, "
        f"{time.process_time() - processor_started:.1f} s of processor time",
        file=sys.stderr,
    )
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    prompts = [pair["prompt"] for pair in pairs[NUM_TRAIN:]]
    yield from _scores("base", model, prompts)
    _train_sft(model, pairs[:NUM_TRAIN], seed, folder, threads)
    yield from _scores("SFT", model, prompts)


def _train_sft(
    model: PreTrainedModel, pairs: list[dict[str, str]], seed: int, folder: Path, threads: int
) -> None:
    """SFT as the pipeline's stage does it, on ids made here."""
    settings = TrainSettings(
        kind="sft",
        model=ModelSettings(name="toy"),
        tuning="full",
        lora=LoraSettings(),
        dtype="float32",
        effective_batch=16,
        micro_batch=16,
        max_length=128,
        gradient_checkpointing=False,
        nll="completion",
        arguments={"learning_rate": 1e-3, "num_train_epochs": 2},
    )
    stage = Stage(id="sft-000000000000", settings=settings, seed=seed, threads=threads, device="cpu")
    tokenizer = make_tokenizer()

    def ids(text: str) -> list[int]:
        found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return found

    rows = [
        {
            "prompt_ids": ids(_rendered(pair["prompt"])),
            "chosen_ids": ids(pair["chosen"] + tokenizer.eos_token),
        }
        for pair in pairs
    ]
    set_seed(seed)
    model.config.use_cache = False
    parts = Parts(settings, model, None, tokenizer, Dataset.from_list(rows))
    trainer = sft_trainer(parts, shared_arguments(stage, folder))
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    model.config.use_cache = True


def _scores(name: str, model: PreTrainedModel, prompts: list[str]) -> Iterator[tuple[str, Scores]]:
    model.eval()
    accuracy = _benchmark(model)
    for mode in ("greedy", "sampled"):
        replies = _generate(model, prompts, sampled=mode == "sampled")
        scored = [gold.score(prompt, reply) for prompt, reply in zip(prompts, replies, strict=True)]
        yield f"{name}, {mode}", _mean(scored) | {"toy_tickets": accuracy}


def _generate(model: PreTrainedModel, prompts: list[str], *, sampled: bool) -> list[str]:
    tokenizer = make_tokenizer()
    tokenizer.padding_side = "left"
    batch = tokenizer(
        [_rendered(prompt) for prompt in prompts], padding=True, add_special_tokens=False, return_tensors="pt"
    )
    config = GenerationConfig(
        do_sample=sampled,
        max_new_tokens=MAX_NEW_TOKENS,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **({"temperature": 1.0, "top_k": 0, "top_p": 1.0} if sampled else {}),
    )
    torch.manual_seed(CALIBRATION_SEED)
    out = model.generate(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], generation_config=config
    )
    replies: list[str] = tokenizer.batch_decode(
        out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True
    )
    return replies


def _rendered(prompt: str) -> str:
    text: str = make_tokenizer().apply_chat_template(
        [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
    )
    return text


def _benchmark(model: PreTrainedModel) -> float:
    """Accuracy on the toy world's own lm-eval task."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    lm = HFLM(pretrained=model, tokenizer=make_tokenizer(), batch_size=64)
    tasks = TaskManager(include_path=str(TASKS), include_defaults=False)
    found: dict[str, Any] = lm_eval.simple_evaluate(
        model=lm, tasks=["toy_tickets"], task_manager=tasks, bootstrap_iters=0
    )
    return float(found["results"]["toy_tickets"]["acc,none"])


def _mean_of(pairs: list[dict[str, str]], side: str) -> Scores:
    return _mean([gold.score(pair["prompt"], pair[side]) for pair in pairs])


def _mean(scored: list[gold.GoldScore]) -> Scores:
    means = {"gold": statistics.fmean(score.total for score in scored)}
    for component in scored[0].components:
        means[component] = statistics.fmean(score.components[component] for score in scored)
    return means


def _table(rows: dict[str, list[Scores]]) -> str:
    """Means over seeds in Markdown, with the standard deviation of the gold score."""
    columns = list(dict.fromkeys(column for scores in rows.values() for column in scores[0]))
    lines = ["| replies | " + " | ".join(columns) + " |", "| --- " * (len(columns) + 1) + "|"]
    for row, by_seed in rows.items():
        cells = [_cell([scores[column] for scores in by_seed if column in scores]) for column in columns]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(values: list[float]) -> str:
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.3f}{spread}"


if __name__ == "__main__":
    main()
