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
    max_items: int | None = Field(200, ge=1, description="Reply to the prompts of at most so many pairs.")
    max_new_tokens: int = Field(128, ge=1, description="Tokens after which a reply is cut.")
    sampled: bool = Field(False, description="Also sample each reply once, at `temperature`, seeded by item.")
    temperature: float = Field(
        1.0,
        gt=0,
        le=100,
        description="Of the sampled replies: their tokens are drawn from softmax(logits / it).",
    )
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


class LmEvalModel(Strict):
    """What lm-eval is told of a model that is loaded already."""

    max_length: int | None = Field(
        None, ge=1, description="Tokens that the model bears; what its config says if empty."
    )
    truncation: bool = Field(False, description="Cut a batch's contexts by the tokenizer.")
    add_bos_token: bool | None = Field(
        None, description="Begin each text with BOS; as the tokenizer does if empty."
    )
    prefix_token_id: int | None = Field(
        None, ge=0, description="Stands for an empty context; BOS, or EOS, if empty."
    )
    logits_cache: bool = Field(True, description="One forward pass for continuations of one token.")
    softmax_dtype: Literal["float32", "float64"] | None = Field(
        None, description="Number format of the log-softmax; the model's if empty."
    )
    chat_template_args: dict[str, Any] = Field(
        default_factory=dict, description="Further variables of the chat template."
    )
    enable_thinking: bool | None = Field(
        None, description="The chat template's `enable_thinking`; true needs `think_end_token`."
    )
    think_end_token: str | None = Field(
        None, description="A reply begins after the last of these: a text, or a token's number in quotes."
    )


class BenchmarkEvaluation(Strict):
    """Tasks of lm-eval, by name or by local YAML file; the other keys are arguments of its `simple_evaluate`."""

    group: Literal["benchmarks"] = "benchmarks"
    tasks: Annotated[list[str], BeforeValidator(_without_presets)] = Field(
        min_length=1,
        description="lm-eval task names or paths of task YAML files; `capabilities` stands for `ifeval`, `mmlu_stem`, "
        "`gsm8k`, `hellaswag` and `truthfulqa_mc2`.",
    )
    num_fewshot: int | None = Field(
        None, ge=0, description="Examples before each item; the task's own number if empty."
    )
    limit: float | None = Field(
        None, gt=0, description="Use at most so many items of each task; below 1, so large a share of them."
    )
    samples: dict[str, list[int]] = Field(
        default_factory=dict,
        description="Task name to the numbers of the items that are used, from 0; of other tasks all. Not beside `limit`.",
    )
    batch_size: int = Field(16, ge=1, description="Sequences per forward pass.")
    apply_chat_template: bool = Field(
        False, description="Ask in the chat template that the models are trained with."
    )
    fewshot_as_multiturn: bool = Field(
        True, description="With a chat template: each example is a turn of its own and its answer."
    )
    system_instruction: str | None = Field(
        None, description="Stands before each item, with a chat template as the system's turn."
    )
    gen_kwargs: dict[str, Any] = Field(
        default_factory=dict,
        description="Of tasks that generate: overrides their `generation_kwargs`, such as `max_gen_toks`.",
    )
    random_seed: int = Field(0, ge=0, description="Python's random numbers.")
    numpy_random_seed: int = Field(1234, ge=0, le=2**32 - 1, description="NumPy's.")
    torch_random_seed: int = Field(1234, ge=0, description="torch's: what `gen_kwargs` may sample with.")
    fewshot_random_seed: int = Field(1234, ge=0, description="Which examples are drawn.")
    confirm_run_unsafe_code: bool = Field(
        False, description="Run tasks that execute code that the model wrote."
    )
    metadata: dict[str, Any] = Field(
        default_factory=dict, description="Given to a task's own function that makes its data."
    )
    model_args: LmEvalModel = Field(
        LmEvalModel(), description="Of lm-eval's arguments of a model, those that change no weights."
    )


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
