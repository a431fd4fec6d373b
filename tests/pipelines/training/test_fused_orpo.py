"""Fused ORPO against the paper's formula in float64, against TRL's ORPOTrainer, and on models with other heads."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    GraniteConfig,
    LlamaConfig,
    PreTrainedModel,
)

from harness.trainer_fields import refused_arguments
from pipelines.errors import PipelineError
from pipelines.training.fused_orpo import FusedORPOConfig
from pipelines.training.head import check_head, head_of, last_hidden_state
from pipelines.training.token_logprobs import token_logprobs
from pipelines.training.train import train
from tests.pipelines.training import formulas, tiny
from tests.pipelines.training.formulas import Row, relative_difference
from tests.pipelines.training.still import BETA, make_trainer, rows_in_order, run, still
from tests.stock_orpo import needs_stock_orpo

# TRL's own notice, which its ORPOTrainer cannot do without; the version is pinned.
pytestmark = pytest.mark.filterwarnings("ignore:.*trl.experimental.*")

SIZES = {
    "vocab_size": tiny.VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "pad_token_id": tiny.PAD,
    "eos_token_id": tiny.EOS,
    "bos_token_id": tiny.EOS,
    "initializer_range": 0.4,
}


def rows_of(lengths: list[tuple[int, int, int]]) -> list[Row]:
    """Pairs with so many tokens of prompt, chosen and rejected."""
    generator = torch.Generator().manual_seed(1)
    sides = ("prompt_ids", "chosen_ids", "rejected_ids")
    return [
        tiny.pairs(1)[0]
        | {
            side: torch.randint(2, tiny.VOCABULARY, (length,), generator=generator).tolist()
            for side, length in zip(sides, row, strict=True)
        }
        for row in lengths
    ]


PADDED = tiny.pairs(7)
UNPADDED = rows_of([(4, 6, 6)] * 4)
ONE_TOKEN = rows_of([(1, 1, 1), (5, 1, 4), (2, 3, 1), (3, 1, 1)])
VERY_LONG = rows_of([(2, 300, 1), (3, 2, 250), (40, 5, 5)])


@pytest.mark.parametrize(
    ("rows", "tuning", "nll"),
    [
        pytest.param(PADDED, "full", "completion", id="padded-full"),
        pytest.param(PADDED, "lora", "prompt_and_completion", id="padded-lora-with-prompt"),
        pytest.param(UNPADDED, "full", "prompt_and_completion", id="unpadded-full-with-prompt"),
        pytest.param(ONE_TOKEN, "full", "completion", id="one-token-full"),
        pytest.param(VERY_LONG, "lora", "completion", id="very-long-lora"),
        pytest.param(VERY_LONG, "full", "prompt_and_completion", id="very-long-full-with-prompt"),
    ],
)
@needs_stock_orpo
def test_loss_and_gradient_are_those_of_the_paper_and_of_stock_orpo(
    tmp_path: Path, rows: list[Row], tuning: str, nll: str
) -> None:
    tiny.make_inputs(tmp_path, rows=rows)
    found = {}
    for implementation in ("trl", "fused"):
        stage = still(
            "orpo", micro_batch=4, tuning=tuning, nll=nll, mean_over="step", implementation=implementation
        )
        found[implementation] = run(tmp_path, stage, implementation)
    gradients, seen, trainer = found["fused"]
    model = formulas.in_float64(trainer.model)
    ordered = rows_in_order(seen, rows)
    assert len(ordered) == len(rows)
    logs, stock_logs = ([row for row in one[2].state.log_history if "loss" in row] for one in found.values())
    for step, stock in enumerate(found["trl"][0]):
        loss = formulas.orpo(model, ordered[4 * step : 4 * step + 4], nll=nll, beta=BETA)
        expected = formulas.gradients(model, loss)
        assert logs[step]["loss"] == pytest.approx(loss.item(), rel=1e-5)
        # Of very long replies float32 itself is off by 1e-5 on some processors, stock's gradient as much as this one.
        assert relative_difference(gradients[step], expected) < 1e-4
        assert relative_difference(gradients[step], {n: g.double() for n, g in stock.items()}) < 1e-4
        for name in ("loss", "nll_loss", "log_odds_ratio", "rewards/margins"):
            assert logs[step][name] == pytest.approx(stock_logs[step][name], rel=1e-5, abs=1e-6), name


@pytest.mark.parametrize(
    ("implementation", "micro_batch"), [pytest.param("trl", 1, marks=needs_stock_orpo), ("fused", 2)]
)
def test_without_its_nll_orpo_is_the_odds_ratio_alone(
    tmp_path: Path, implementation: str, micro_batch: int
) -> None:
    tiny.make_inputs(tmp_path, rows=PADDED)
    stage = still(
        "orpo", micro_batch=micro_batch, mean_over="step", implementation=implementation, nll_weight=0.0,
        nll="completion",
    )  # fmt: skip
    gradients, seen, trainer = run(tmp_path, stage, "trained")
    model, rows = formulas.in_float64(trainer.model), rows_in_order(seen, PADDED)
    for step, group in enumerate((rows[:4], rows[4:])):
        expected = formulas.gradients(model, BETA * formulas.odds_ratio(model, group))
        assert relative_difference(gradients[step], expected) < 1e-5


@pytest.mark.parametrize(("micro_batch", "tuning"), [(2, "full"), (1, "lora")])
def test_neither_accumulation_nor_checkpointing_changes_the_update(
    tmp_path: Path, micro_batch: int, tuning: str
) -> None:
    tiny.make_inputs(tmp_path, rows=PADDED)
    how: dict[str, Any] = {
        "tuning": tuning,
        "mean_over": "step",
        "implementation": "fused",
        "nll": "completion",
    }
    whole, _, _ = run(tmp_path, still("orpo", micro_batch=4, **how), "whole")
    cut, _, _ = run(
        tmp_path, still("orpo", micro_batch=micro_batch, gradient_checkpointing=True, **how), "cut"
    )
    for one, other in zip(cut, whole, strict=True):
        assert relative_difference(one, {name: value.double() for name, value in other.items()}) < 1e-5


@needs_stock_orpo
def test_an_argument_of_orpo_means_the_same_in_both_implementations() -> None:
    from trl.experimental.orpo import ORPOConfig

    refused = {name for name, _ in refused_arguments()}
    ours, stock = (
        {
            field.name: field.default
            for field in fields(config)
            if field.init and field.name not in refused and field.name != "output_dir"
        }
        for config in (FusedORPOConfig, ORPOConfig)
    )
    assert ours == stock


HEADS = {
    "tied": LlamaConfig(**SIZES, tie_word_embeddings=True),
    "untied": LlamaConfig(**SIZES, tie_word_embeddings=False),
    "softcap": Gemma2Config(**SIZES, head_dim=8, final_logit_softcapping=2.0),
    "factor": CohereConfig(**SIZES, logit_scale=0.25),
    "divisor": GraniteConfig(**SIZES, logits_scaling=3.0),
}


@pytest.mark.parametrize("head", HEADS)
def test_other_heads_give_their_models_own_logprobs_and_gradients(head: str) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(HEADS[head], dtype=torch.float64)
    check_head(model)
    ids = torch.randint(2, tiny.VOCABULARY, (1, 12))
    with last_hidden_state(model) as kept:
        logits = model(input_ids=ids).logits[0, :-1]
    own = torch.log_softmax(logits, dim=-1).gather(1, ids[0, 1:, None])[:, 0]
    fused = token_logprobs(kept[0][0, :-1], head_of(model), ids[0, 1:], max_logits=64)
    torch.testing.assert_close(fused, own, rtol=1e-12, atol=1e-12)
    parameters = list(model.parameters())
    found, expected = (
        torch.autograd.grad(values.square().sum(), parameters, retain_graph=True) for values in (fused, own)
    )
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_a_head_that_is_not_known_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    model = AutoModelForCausalLM.from_config(HEADS["untied"])
    plain = type(model).forward

    def bent(self: PreTrainedModel, *args: Any, logits_to_keep: int = 0, **more: Any) -> Any:
        output = plain(self, *args, logits_to_keep=logits_to_keep, **more)
        output.logits = 5 * torch.tanh(output.logits / 5)
        return output

    monkeypatch.setattr(type(model), "forward", bent)
    with pytest.raises(
        PipelineError, match=r"does not give this model's log-probs.*Use `implementation: trl`"
    ):
        check_head(model)


def test_an_adapter_on_the_head_is_refused_in_one_line(tmp_path: Path) -> None:
    tiny.make_inputs(tmp_path)
    stage = still("orpo", micro_batch=4, tuning="lora", mean_over="step", implementation="fused")
    lora = stage.settings.lora.model_copy(update={"target_modules": ["lm_head", "q_proj"]})
    stage = stage.model_copy(update={"settings": stage.settings.model_copy(update={"lora": lora})})
    with pytest.raises(PipelineError, match="plain output layer"):
        make_trainer(tmp_path, stage)


@pytest.fixture
def without_stock_orpo(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if TRL had dropped its experimental ORPO."""
    monkeypatch.setitem(sys.modules, "trl.experimental.orpo", None)
    monkeypatch.delitem(sys.modules, "pipelines.training.orpo", raising=False)


@pytest.mark.usefixtures("without_stock_orpo")
def test_fused_trains_where_trl_has_no_orpo(tmp_path: Path) -> None:
    tiny.make_inputs(tmp_path)
    stage = tiny.stage("orpo", implementation="fused", mean_over="step")
    outcome = train(stage, tiny.folder_of(tmp_path, stage), tiny.Silent())
    assert outcome.final_loss is not None
    assert outcome.first_loss is not None
    assert outcome.final_loss < outcome.first_loss
    assert outcome.num_reference_tokens == 0


@pytest.mark.usefixtures("without_stock_orpo")
def test_stock_orpo_is_refused_in_one_line_where_trl_has_none(tmp_path: Path) -> None:
    tiny.make_inputs(tmp_path)
    stage = tiny.stage("orpo", implementation="trl")
    with pytest.raises(PipelineError, match=r"^implementation: trl needs .* Use `implementation: fused`"):
        make_trainer(tmp_path, stage)
