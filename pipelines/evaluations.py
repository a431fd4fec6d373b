"""The settings of each group of evaluations. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from pipelines.strict import Strict

Split = Literal["train", "validation", "test"]


class PreferenceEvaluation(Strict):
    """Log-probs of chosen and rejected replies, without generating."""

    group: Literal["preference"] = "preference"
    split: Split = Field("test", description="Which split is scored.")
    max_items: int | None = Field(None, ge=1, description="Score at most so many pairs.")
    train_items: int | None = Field(
        None,
        ge=1,
        description="Also score so many pairs of the train split: its gap to `split` shows overfitting.",
    )
    batch_size: int = Field(16, ge=1, description="Pairs per forward pass.")


class GenerationEvaluation(Strict):
    """Replies to the same prompts, greedy and sampled."""

    group: Literal["generation"] = "generation"
    split: Split = Field("test", description="Which split the prompts come from.")
    max_items: int | None = Field(200, ge=1, description="Use at most so many prompts.")
    max_new_tokens: int = Field(128, ge=1, description="Tokens after which a reply is cut.")
    sampled: bool = Field(False, description="Also sample each reply once at temperature 1, seeded by item.")
    batch_size: int = Field(50, ge=1, description="Prompts per batch.")
    judges: list[Literal["gold"]] = Field(
        default_factory=list, description="Who scores the replies. `gold` is the toy world's scorer."
    )


# Names that stand for several of lm-eval's tasks: what a model can do beside the preferences that it is trained on.
TASK_PRESETS = {"capabilities": ("ifeval", "mmlu_stem", "gsm8k", "hellaswag", "truthfulqa_mc2")}


def _without_presets(tasks: Any) -> Any:
    if not isinstance(tasks, list):
        return tasks  # the check of the type says what is wrong
    return [
        name
        for task in tasks
        for name in (TASK_PRESETS.get(task, (task,)) if isinstance(task, str) else (task,))
    ]


class BenchmarkEvaluation(Strict):
    """Tasks of lm-eval, by name or by local YAML file."""

    group: Literal["benchmarks"] = "benchmarks"
    tasks: Annotated[list[str], BeforeValidator(_without_presets)] = Field(
        min_length=1,
        description="lm-eval task names or paths of task YAML files; `capabilities` stands for `ifeval`, `mmlu_stem`, "
        "`gsm8k`, `hellaswag` and `truthfulqa_mc2`.",
    )
    num_fewshot: int | None = Field(None, ge=0, description="lm-eval's `num_fewshot`.")
    limit: int | None = Field(None, ge=1, description="Use at most so many items of each task.")
    batch_size: int = Field(16, ge=1, description="Sequences per forward pass.")


class DriftEvaluation(Strict):
    """How far a trained model is from its base: divergence of its predictions, distance of its weights."""

    group: Literal["drift"] = "drift"
    split: Split = Field("test", description="Which split the prompts and chosen replies come from.")
    max_items: int | None = Field(64, ge=1, description="Use at most so many pairs.")
    own_replies: bool = Field(
        False, description="Also on the model's own greedy replies to the same prompts."
    )
    max_new_tokens: int = Field(128, ge=1, description="Tokens after which an own reply is cut.")
    batch_size: int = Field(16, ge=1, description="Pairs per forward pass.")


Evaluation = Annotated[
    PreferenceEvaluation | GenerationEvaluation | BenchmarkEvaluation | DriftEvaluation,
    Field(discriminator="group"),
]
