"""The published run, forecast: `python -m benchmarks.forecast_report > reports/llama-3.1-8b-forecast.md`.

Llama-3.1-8B, bf16, 2 pairs of 1,024 tokens x 8, on CUDA's kernels: every recipe, full and LoRA, with and without checkpointing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from harness.forecast.ask import ask_fresh_process
from harness.machine import git_commit
from pipelines.forecast.request import ForecastRequest, StageAnswer, StageRequest
from pipelines.stages import LoraSettings, ModelSettings, TrainSettings

GIB = 2**30
FORECAST_PAGE = Path(__file__).parents[1] / "docs" / "forecast.md"
RECIPES = (
    ("SFT", {"kind": "sft"}),
    ("ORPO, stock", {"kind": "orpo", "implementation": "trl"}),
    ("ORPO, fused", {"kind": "orpo", "implementation": "fused"}),
    ("DPO, copied reference", {"kind": "dpo", "reference": "copy"}),
    ("DPO, adapter as reference", {"kind": "dpo", "reference": "adapter"}),
    ("DPO, precomputed", {"kind": "dpo", "reference": "precomputed"}),
)
Row = tuple[str, str, bool, StageAnswer]


def settings(recipe: dict[str, str], tuning: str, *, checkpointing: bool) -> TrainSettings:
    """The blog post's shape with one recipe's stage."""
    return TrainSettings.model_validate(
        {
            **recipe,
            "model": ModelSettings(name="meta-llama/Llama-3.1-8B"),
            "tuning": tuning,
            "lora": LoraSettings(),
            "dtype": "bfloat16",
            "effective_batch": 16,
            "micro_batch": 2,
            "max_length": 1024,
            "gradient_checkpointing": checkpointing,
            "nll": "prompt_and_completion" if recipe["kind"] == "orpo" else "completion",
            "arguments": {"beta": 0.1} if recipe["kind"] != "sft" else {},
        }
    )


def main() -> None:
    """Forecast all and print the page."""
    asked = [
        (name, tuning, checkpointing, settings(recipe, tuning, checkpointing=checkpointing))
        for tuning in ("full", "lora")
        for checkpointing in (True, False)
        for name, recipe in RECIPES
        if not (tuning == "full" and recipe.get("reference") == "adapter")
    ]
    stages = [StageRequest(settings=one, length=1024) for *_, one in asked]
    answers = ask_fresh_process(ForecastRequest(device="cuda", stages=stages)).stages
    rows = [
        (name, tuning, kept, answer) for (name, tuning, kept, _), answer in zip(asked, answers, strict=True)
    ]
    sys.stdout.write("\n".join(page(rows)) + "\n")


def measured_error() -> str:
    """What the committed table says of memory: how many settings were within a tenth, and the extremes."""
    lines = FORECAST_PAGE.read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if line.startswith("Memory: ")).removeprefix("Memory: ")


def page(rows: list[Row]) -> Iterator[str]:
    """The page, from the answers."""
    yield "# Llama-3.1-8B, ORPO against SFT then DPO: a forecast of memory"
    yield ""
    yield (
        "**Nothing here was run on a GPU.** Shapes only, rehearsed on fake tensors "
        "([how](../docs/forecast.md)); bf16, 2 pairs of 1,024 tokens x 8, beta 0.1, LoRA r = 16 on all linear layers. "
        f"GiB of live tensors, without what an allocator reserves beyond them. Made at {git_commit()} by "
        f"`python -m benchmarks.forecast_report`. The forecast's error where it could be measured, on a CPU with models up to "
        f"135M ([the table](../docs/forecast.md)): {measured_error()} On a card it is unmeasured."
    )
    for tuning in ("full", "lora"):
        for kept in (True, False):
            part = [row for row in rows if row[1] == tuning and row[2] == kept]
            yield from _table(tuning, kept, part)
    yield from _answer(rows)


def _table(tuning: str, kept: bool, rows: list[Row]) -> Iterator[str]:
    yield ""
    yield f"## {'Full' if tuning == 'full' else 'LoRA'}, {'with' if kept else 'without'} gradient checkpointing"
    yield ""
    yield "| stage | peak | in | weights | gradients | Adam | reference | adapter | logits | activations | work of a micro-batch, TFLOP |"
    yield "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    parts = ("weights", "gradients", "optimizer", "reference", "adapter", "logits", "activations")
    for name, _, _, answer in rows:
        phase, at_peak = max(answer.phases.items(), key=lambda item: sum(item[1].values()))
        numbers = " | ".join(f"{at_peak.get(part, 0) / GIB:.2f}" for part in parts)
        work = answer.work
        flops = (
            work.matmul_flops
            + work.attention_flops
            + work.reference_matmul_flops
            + work.reference_attention_flops
        )
        yield f"| {name} | **{peak(answer):.1f}** | {phase} | {numbers} | {flops / 1e12:.0f} |"
    yield ""
    found = {name: peak(answer) for name, _, _, answer in rows}
    for reference in [name for name in found if name.startswith("DPO")]:
        two_stages = max(found["SFT"], found[reference])
        ratios = ", ".join(
            f"{name} {found[name] / two_stages:.2f}x" for name in ("ORPO, stock", "ORPO, fused")
        )
        yield f"- Peak over that of SFT then {reference} ({two_stages:.1f}): {ratios}."


def _answer(rows: list[Row]) -> Iterator[str]:
    found = {(name, tuning, kept): peak(answer) for name, tuning, kept, answer in rows}
    ratios = {
        (orpo, name, tuning, kept): found[orpo, tuning, kept] / max(found["SFT", tuning, kept], value)
        for (name, tuning, kept), value in found.items()
        if name.startswith("DPO")
        for orpo in ("ORPO, stock", "ORPO, fused")
    }
    halves = [key for key, ratio in ratios.items() if ratio <= 0.55]
    lowest, highest = min(ratios, key=ratios.__getitem__), max(ratios, key=ratios.__getitem__)
    yield ""
    yield "## Does “half the VRAM” hold?"
    yield ""
    if halves:
        yield "At 0.55x or below: " + "; ".join(f"{_words(key)} {ratios[key]:.2f}x" for key in halves) + "."
    else:
        yield "Nowhere in these tables: no ratio is 0.55 or below."
    yield f"The lowest ratio is {ratios[lowest]:.2f}x ({_words(lowest)}), the highest {ratios[highest]:.2f}x ({_words(highest)})."
    yield ""
    yield (
        "What decides it: whether DPO holds a second copy of the weights (15 GiB; with LoRA as much as the model itself), and "
        "whether ORPO holds whole logits. In full tuning weights, gradients and Adam's states are 60 GiB in every recipe."
    )


def _words(key: tuple[str, str, str, bool]) -> str:
    orpo, dpo, tuning, kept = key
    return f"{orpo} against {dpo}, {tuning}, {'with' if kept else 'without'} checkpointing"


def peak(answer: StageAnswer) -> float:
    """GiB."""
    return max(sum(parts.values()) for parts in answer.phases.values()) / GIB


if __name__ == "__main__":
    main()
