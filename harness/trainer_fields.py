"""Checks TRL arguments of a config against the kept list of each trainer's own (`trainer_fields.json`)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

Trainer = Literal["sft", "dpo", "orpo"]

FIELDS = Path(__file__).with_name("trainer_fields.json")
# ORPO's list is that of `pipelines/training/fused_orpo.py`, which needs no experimental module: less what is refused here, it
# is ORPOConfig's, which a test holds.
CONFIG_CLASS: dict[Trainer, str] = {"sft": "SFTConfig", "dpo": "DPOConfig", "orpo": "ORPOConfig"}

MOST_CHOICES_SHOWN = 8
_QUOTED = re.compile(r"'([^']*)'")

_DATA = "the shared loader prepares the data once for all arms: see `data`"
_EVALUATIONS = "models are evaluated after training: see `evaluations`"
_ONE_SAVE = "each stage saves its model once, at its end"
_LOGGED = "every step's loss is logged"
_NO_HUB = "nothing is uploaded; a stage's model lies under results/"
_BATCH = "use training.micro_batch and training.effective_batch"

# Arguments that the harness sets, the same in every arm, and what a config says instead.
INSTEAD: dict[str, str] = {
    "output_dir": "use `prefduel run --results DIR`",
    "seed": "use seeds and first_seed",
    "data_seed": "use seeds and first_seed",
    "per_device_train_batch_size": _BATCH,
    "gradient_accumulation_steps": _BATCH,
    "auto_find_batch_size": _BATCH,
    "max_length": "use training.max_length",
    "max_completion_length": "use training.max_length",
    "truncation_mode": "use data.truncation",
    "bf16": "use training.dtype",
    "fp16": "use training.dtype",
    "gradient_checkpointing": "use training.gradient_checkpointing",
    "activation_checkpointing": "use training.gradient_checkpointing",
    "use_cpu": "use device",
    "trust_remote_code": "use model.trust_remote_code",
    "model_init_kwargs": "use model and training.dtype",
    "chat_template_path": "use model.chat_template",
    "eos_token": "use model.chat_template",
    "pad_token": "use model.chat_template",
    "padding_value": "use model.chat_template",
    "precompute_ref_log_probs": "use the stage's `reference: precomputed`",
    "precompute_ref_batch_size": "use training.micro_batch",
    "disable_dropout": "dropout is off in every arm",
    "label_smoothing_factor": "DPO and ORPO would leave it out",
    "completion_only_loss": "use the stage's nll",
    "assistant_only_loss": "use the stage's nll",
    "packing": "every arm sees one pair a row",
    "packing_strategy": "every arm sees one pair a row",
    "eval_packing": "every arm sees one pair a row",
    "padding_free": "every arm sees one pair a row",
    "shuffle_dataset": "the order follows from the seed",
    "train_sampling_strategy": "the order follows from the seed",
    "length_column_name": _DATA,
    "remove_unused_columns": _DATA,
    "label_names": _DATA,
    "is_encoder_decoder": "only decoder models are compared",
    "generate_during_eval": _EVALUATIONS,
    "per_device_eval_batch_size": _EVALUATIONS,
    "prediction_loss_only": _EVALUATIONS,
    "batch_eval_metrics": _EVALUATIONS,
    "include_for_metrics": _EVALUATIONS,
    "bf16_full_eval": _EVALUATIONS,
    "fp16_full_eval": _EVALUATIONS,
    "load_best_model_at_end": _ONE_SAVE,
    "metric_for_best_model": _ONE_SAVE,
    "greater_is_better": _ONE_SAVE,
    "enable_jit_checkpoint": _ONE_SAVE,
    "resume_from_checkpoint": "`prefduel run` goes on where it stopped",
    "restore_callback_states_from_checkpoint": "`prefduel run` goes on where it stopped",
    "ignore_data_skip": "`prefduel run` goes on where it stopped",
    "disable_tqdm": "use `prefduel run --quiet`",
    "push_to_hub": _NO_HUB,
    "local_rank": "the launcher sets it",
    "dataloader_drop_last": "every arm gets every pair of an epoch",
}
_FAMILIES = {
    "dataset_": _DATA,
    "eval_": _EVALUATIONS,
    "do_": _EVALUATIONS,
    "save_": _ONE_SAVE,
    "logging_": _LOGGED,
    "hub_": _NO_HUB,
}


class Range(NamedTuple):
    """Numbers that make sense for an argument, which TRL itself would not refuse before training."""

    above: float | None = None
    least: float | None = None
    below: float | None = None
    advice: str = ""


_RANGES: dict[str, Range] = {
    "learning_rate": Range(above=0, below=1),
    "beta": Range(above=0, advice="Useful values are 0.01 to 0.5 for DPO and 0.05 to 0.2 for ORPO."),
    "num_train_epochs": Range(above=0),
    "weight_decay": Range(least=0),
    "warmup_steps": Range(least=0),
    "adam_beta1": Range(least=0, below=1),
    "adam_beta2": Range(least=0, below=1),
    "adam_epsilon": Range(above=0),
    "max_grad_norm": Range(least=0),
    "label_smoothing": Range(least=0, below=0.5),
}


def objections(trainer: Trainer, arguments: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What is wrong with a trainer's arguments: (argument, rest of the sentence that begins with its key)."""
    known = _known(trainer)
    for name, value in arguments.items():
        if instead := _instead(name):
            yield name, f"must not be set here: {instead}."
        elif name not in known:
            yield name, f"is not an argument of TRL's {CONFIG_CLASS[trainer]}.{_hint(name, trainer)}"
        elif not any(_fits(value, kind) for kind in known[name]):
            yield (
                name,
                f"must be {_wanted(known[name])}, got {_got(value)}.{_near_choice(value, known[name])}",
            )
        elif problem := _out_of_range(name, value):
            yield name, problem


def default_of(name: str) -> Any:
    """What an argument is where a config is silent, or words where the classes that have it do not agree."""
    return _content()["defaults"].get(name, "the trainer's default")


def shared_argument_names() -> set[str]:
    """Names of the arguments that every trainer takes."""
    return set.intersection(*(set(_known(trainer)) for trainer in CONFIG_CLASS))


def all_argument_names() -> set[str]:
    """Names of every argument that some trainer takes."""
    return {name for trainer in CONFIG_CLASS for name in _known(trainer)}


def refused_arguments() -> list[tuple[str, str]]:
    """Every argument of some trainer that a config may not set, and what to do instead, by name."""
    names = sorted(all_argument_names() | INSTEAD.keys())
    return [(name, words) for name in names if (words := _instead(name))]


@cache
def _content() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(FIELDS.read_text(encoding="utf-8"))
    return content


def _known(trainer: Trainer) -> dict[str, list[str]]:
    known: dict[str, list[str]] = _content()[trainer]
    return known


def _instead(name: str) -> str | None:
    if name in INSTEAD:
        return INSTEAD[name]
    return next((words for start, words in _FAMILIES.items() if name.startswith(start)), None)


def _hint(name: str, trainer: Trainer) -> str:
    others = [CONFIG_CLASS[other] for other in CONFIG_CLASS if name in _known(other)]
    if others:
        return f" {' and '.join(others)} {'has' if len(others) == 1 else 'have'} it."
    near = get_close_matches(
        name, [known for known in _known(trainer) if not _instead(known)], n=1, cutoff=0.6
    )
    return f" Did you mean {near[0]}?" if near else ""


def _fits(value: Any, kind: str) -> bool:
    if kind.startswith("'"):
        return isinstance(value, str) and value == kind[1:-1]
    if kind.startswith("list["):
        inner = kind[5:-1].split("|")
        return isinstance(value, list) and all(any(_fits(entry, one) for one in inner) for entry in value)
    match kind:
        case "bool":
            return isinstance(value, bool)
        case "int":
            return isinstance(value, int) and not isinstance(value, bool)
        case "float":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "str":
            return isinstance(value, str)
        case "list":
            return isinstance(value, list)
        case "dict":
            return isinstance(value, dict)
        case "null":
            return value is None
        case "true" | "false":
            return value is (kind == "true")
    return False


def _wanted(kinds: list[str]) -> str:
    words = {
        "int": "a whole number",
        "float": "a number",
        "bool": "true or false",
        "str": "text",
        "dict": "a mapping",
        "list": "a list",
        "list[str]": "a list of texts",
        "list[float]": "a list of numbers",
        "null": "null",
    }
    plain = [words.get(kind, kind) for kind in kinds if "'" not in kind]
    choices = [kind for kind in kinds if kind.startswith("'")]
    lists = [kind[5:-1].split("|") for kind in kinds if kind.startswith("list['")]
    return " or ".join([*plain, *_choice_words(choices), *(f"a list of {_many(names)}" for names in lists)])


def _choice_words(choices: list[str]) -> list[str]:
    return choices if len(choices) <= MOST_CHOICES_SHOWN else [f"one of {_many(choices)}"]


def _many(names: list[str]) -> str:
    return f"{len(names)} names such as {names[0]}"


def _near_choice(value: Any, kinds: list[str]) -> str:
    """The permitted text nearest to the first one that is not permitted."""
    choices = _QUOTED.findall(" ".join(kinds))
    given = value if isinstance(value, list) else [value]
    wrong = next((text for text in given if isinstance(text, str) and text not in choices), "")
    near = get_close_matches(wrong, choices, n=1)
    return f" Did you mean {near[0]}?" if near else ""


def _got(value: Any) -> str:
    if value is None:
        return "nothing"
    return str(value).lower() if isinstance(value, bool) else repr(value)[:60]


def _out_of_range(name: str, value: Any) -> str | None:
    if name == "max_steps" and isinstance(value, int) and value < 1 and value != -1:
        return f"must be at least 1, or -1 for whole epochs, got {value}."
    limits = _RANGES.get(name)
    if limits is None or not isinstance(value, int | float):
        return None
    rules = []
    if limits.above is not None:
        rules.append((value > limits.above, f"more than {limits.above}"))
    if limits.least is not None:
        rules.append((value >= limits.least, f"at least {limits.least}"))
    if limits.below is not None:
        rules.append((value < limits.below, f"less than {limits.below}"))
    if all(holds for holds, _ in rules):
        return None
    return f"must be {' and '.join(words for _, words in rules)}, got {value}. {limits.advice}".rstrip()
