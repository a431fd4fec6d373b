"""Settings that differ between stages are found before a run, unless the config declares them."""

from __future__ import annotations

from dataclasses import fields

import pytest
from trl import DPOConfig, SFTConfig

from harness.config import Comparison
from harness.differences import undeclared
from harness.trainer_fields import default_of


def comparison(arguments: dict[str, float], **changes: object) -> Comparison:
    content = {
        "schema": 1,
        "name": "small",
        "model": {"name": "toy"},
        "data": {"path": "toy"},
        "arms": {
            "orpo": [{"trainer": "orpo", "arguments": {"learning_rate": 1e-3, "beta": 0.2, **arguments}}],
            "sft-dpo": [{"trainer": "sft"}, {"trainer": "dpo", "arguments": {"beta": 0.1}}],
        },
    }
    return Comparison.model_validate(content | changes)


def test_the_defaults_are_those_of_the_trainers() -> None:
    for config in (SFTConfig, DPOConfig):
        defaults = {field.name: field.default for field in fields(config)}
        for name in (
            "optim",
            "weight_decay",
            "max_grad_norm",
            "warmup_steps",
            "torch_compile",
            "use_liger_kernel",
        ):
            assert default_of(name) == defaults[name]


def test_a_difference_is_found_unless_declared_or_equal_to_the_default() -> None:
    found = undeclared(comparison({"max_grad_norm": 0}))
    assert [difference.told() for difference in found] == [
        "max_grad_norm is 0 in orpo (orpo), 1.0 in sft-dpo (sft)"
    ]
    assert undeclared(comparison({"max_grad_norm": 1})) == []
    assert undeclared(comparison({"torch_compile": False, "use_liger_kernel": False})) == []
    assert undeclared(comparison({"max_grad_norm": 0}, allow_difference={"max_grad_norm": "why"})) == []
    assert undeclared(comparison({"num_train_epochs": 2}, budget={"match": "none"})) == []


# Not every trainer has them, or they change no update and what a step costs.
OF_ONE_STAGE = [
    ("sft", "loss_type", "dft"),
    ("sft", "activation_offloading", True),
    ("dpo", "activation_offloading", True),
    ("sft", "router_aux_loss_coef", 0.001),
    ("dpo", "pad_to_multiple_of", 64),
    ("orpo", "dataloader_num_workers", 4),
    ("dpo", "dataloader_pin_memory", False),
    ("orpo", "gradient_checkpointing_kwargs", {"use_reentrant": True}),
    ("sft", "skip_memory_metrics", False),
]


@pytest.mark.parametrize(("trainer", "name", "value"), OF_ONE_STAGE)
def test_what_changes_the_cost_or_the_loss_of_one_stage_must_be_declared(
    trainer: str, name: str, value: object
) -> None:
    arms = {"orpo": [{"trainer": "orpo"}], "sft-dpo": [{"trainer": "sft"}, {"trainer": "dpo"}]}
    for stage in (*arms["orpo"], *arms["sft-dpo"]):
        if stage["trainer"] == trainer:
            stage["arguments"] = {name: value}  # type: ignore[assignment]
    (found,) = undeclared(comparison({}, arms=arms))
    assert found.key == name
    assert f"{value} in " in found.told()
    assert f"{default_of(name)} in " in found.told()
    assert undeclared(comparison({}, arms=arms, allow_difference={name: "why"})) == []


def test_what_is_one_trainers_own_by_nature_is_no_difference() -> None:
    own = {"beta": 0.3, "loss_type": ["ipo"], "label_smoothing": 0.1, "sync_ref_model": True, "run_name": "a"}
    arms = {
        "orpo": [{"trainer": "orpo", "arguments": {"beta": 0.2, "report_to": "none"}}],
        "sft-dpo": [
            {"trainer": "sft", "arguments": {"loss_type": "nll"}},
            {"trainer": "dpo", "arguments": own},
        ],
    }
    assert undeclared(comparison({}, arms=arms)) == []


def test_an_argument_that_only_two_trainers_have_is_no_difference_where_both_arms_have_it() -> None:
    tuned = {"activation_offloading": True}
    sft_dpo = [{"trainer": name, "arguments": tuned} for name in ("sft", "dpo")]
    assert undeclared(comparison({}, arms={"sft-dpo": sft_dpo, "dpo": sft_dpo[1:]})) == []


def test_warm_up_in_steps_must_be_declared_where_stages_differ_in_length() -> None:
    steps = {"training": {"arguments": {"warmup_steps": 2}}}
    assert undeclared(comparison({}, **steps)) == []
    matched = steps | {"budget": {"match": "pairs"}}
    assert [found.told() for found in undeclared(comparison({}, **matched))] == [
        "warmup_steps is 2 steps in orpo (orpo), as many, another share of theirs (a value below 1 is a share) in stages of another length"
    ]
    assert undeclared(comparison({}, **matched, allow_difference={"warmup_steps": "why"})) == []
    share = {"training": {"arguments": {"warmup_steps": 0.1}}, "budget": {"match": "pairs"}}
    assert undeclared(comparison({}, **share)) == []


def test_what_sft_trains_on_must_be_declared_where_it_is_not_all_pairs() -> None:
    share = comparison({}, sft={"share": 0.25})
    assert [found.told() for found in undeclared(share)] == [
        "sft.share is 0.25 in sft stages, 1 in the others"
    ]
    data = comparison({}, sft={"data": {"path": "chats.jsonl"}})
    assert [found.key for found in undeclared(data)] == ["sft.data"]
    assert (
        undeclared(comparison({}, sft={"share": 0.25}, allow_difference={"sft.share": "as published"})) == []
    )
