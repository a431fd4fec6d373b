"""The longest text that a model can read: as long works, one token more does not."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from datasets import Dataset
from transformers import (
    BartConfig,
    BartForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    GPTJConfig,
    GPTJForCausalLM,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from pipelines.errors import PipelineError
from pipelines.positions import longest_text, num_positions, require_positions
from tests.harness.evaluation import tiny_models

CLASSIFIER = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}


def roberta() -> PreTrainedModel:
    return RobertaForSequenceClassification(RobertaConfig(**CLASSIFIER, pad_token_id=1))


def bert() -> PreTrainedModel:
    return BertForSequenceClassification(BertConfig(**CLASSIFIER))


def bart() -> PreTrainedModel:
    sides = {f"{side}_{name}": 2 for side in ("encoder", "decoder") for name in ("layers", "attention_heads")}
    config = BartConfig(vocab_size=40, d_model=16, max_position_embeddings=64, **sides)
    return BartForSequenceClassification(config)


def gptj() -> PreTrainedModel:
    return GPTJForCausalLM(
        GPTJConfig(vocab_size=40, n_embd=16, n_layer=1, n_head=2, rotary_dim=4, n_positions=64)
    )


@pytest.mark.parametrize(
    ("make", "expected"),
    [(tiny_models.gpt2, 64), (tiny_models.opt, 64), (bert, 64), (bart, 64), (roberta, 62), (gptj, 64)],
)
def test_a_text_has_at_most_as_many_tokens_as_the_model_has_positions(
    make: Callable[[], PreTrainedModel], expected: int
) -> None:
    model = make().eval()
    assert num_positions(model) == expected
    # Ends in 2, BART's end of a text, which its classifier looks for.
    ids = torch.tensor([[5] * (expected - 1) + [2]])
    assert model(input_ids=ids).logits.isfinite().all()
    with pytest.raises((IndexError, RuntimeError), match=r"out of (bounds|range)|expanded size"):
        model(input_ids=torch.cat([torch.tensor([[5]]), ids], dim=1))


@pytest.mark.parametrize("make", [tiny_models.llama, tiny_models.bloom, tiny_models.granite])
def test_calculated_positions_are_no_bound(make: Callable[[], PreTrainedModel]) -> None:
    model = make()
    assert num_positions(model) == math.inf
    assert model(input_ids=torch.full((1, 100), 5)).logits.isfinite().all()


def test_longer_texts_than_the_model_has_positions_are_refused_in_one_line() -> None:
    require_positions(tiny_models.gpt2(), 64)
    require_positions(tiny_models.llama(), 10_000)
    with pytest.raises(PipelineError, match="have 65 tokens, the model has learnt 64 positions"):
        require_positions(tiny_models.gpt2(), 65)


@pytest.mark.parametrize("columns", [("chosen_ids", "rejected_ids"), ("chosen_ids",)])
def test_the_longest_text_is_a_prompt_with_its_longer_reply(columns: tuple[str, ...]) -> None:
    rows = {"prompt_ids": [[1] * 4, [1] * 2], "chosen_ids": [[1], [1] * 5], "rejected_ids": [[1] * 9, [1]]}
    pairs = Dataset.from_dict({name: rows[name] for name in ("prompt_ids", *columns)})
    assert longest_text(pairs) == (13 if len(columns) == 2 else 7)
    assert longest_text(pairs.select([1])) == 7
    assert longest_text(pairs.select([])) == 0
