"""Tokenizers that trainers treat unalike if left to themselves: all of them receive the ids that were prepared, and learn the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pipelines.data.prepare import prepare
from pipelines.data.prepared import PAIRS
from pipelines.stages import DataSettings, ModelSettings, PrepareSettings, Stage
from pipelines.training.recording import BATCHES
from pipelines.training.train import train
from tests.pipelines.data import tiny_tokenizers as odd
from tests.pipelines.training import tiny

ODD: dict[str, dict[str, Any]] = {
    "pad is EOS": {"template": odd.NO_END, "pad_token": odd.EOS},
    "BOS and EOS in the post-processor": {"post": "bos_eos", "template": odd.CHATML},
    "BOS from the template and the post-processor": {"post": "bos", "template": odd.TRIMMED},
    "prefix space": {"kind": "prefix_space", "template": odd.INST},
    "prefix space, no pad, no template": {"kind": "prefix_space", "post": "bos", "pad_token": None},
}
TRAINERS = {"sft": {}, "dpo": {}, "orpo": {}, "fused": {"implementation": "fused", "mean_over": "step"}}
Line = dict[str, Any]


def make_inputs(root: Path, tokenizer: PreTrainedTokenizerFast) -> list[Line]:
    """The folders of base and data stage below `root`; the hashes of the training pairs."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        max_position_embeddings=128,
    )
    LlamaForCausalLM(config).save_pretrained(root / tiny.BASE / "model")
    rows = [{"prompt": f"what is {n}?", "chosen": f" yes {n}", "rejected": f"no {n} "} for n in range(9)]
    source = root / "pairs.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = PrepareSettings(
        kind="data",
        model=ModelSettings(name=odd.saved(tokenizer, root / "tokenizer")),
        data=DataSettings(path=str(source)),
        max_length=128,
    )
    stage = Stage(id=tiny.DATA, settings=settings, seed=0, threads=1, device="cpu")
    (root / tiny.DATA).mkdir()
    prepare(stage, root / tiny.DATA, tiny.Silent())
    lines = map(json.loads, (root / tiny.DATA / PAIRS).read_text().splitlines())
    return [line for line in lines if line["split"] == "train"]


@pytest.mark.parametrize("name", ODD)
def test_every_trainer_receives_what_was_prepared_and_its_loss_covers_the_end_of_turn(
    tmp_path: Path, name: str
) -> None:
    prepared = {line["uid"]: line for line in make_inputs(tmp_path, odd.make(**ODD[name]))}
    assert all(line["closed"] for line in prepared.values())
    orders = []
    for trainer, shape in TRAINERS.items():
        kind = "orpo" if trainer == "fused" else trainer
        stage = tiny.stage(kind, nll=None if kind == "dpo" else "completion", num_train_epochs=1, **shape)
        folder = tiny.folder_of(tmp_path, stage, trainer)
        train(stage, folder, tiny.Silent())
        lines = map(json.loads, (folder / BATCHES).read_text().splitlines())
        received = [found for line in lines for found in line["sequences"]]
        orders.append([found["uid"] for found in received if found["side"] == "chosen"])
        assert sorted(orders[-1]) == sorted(prepared)
        assert len(received) == len(prepared) * (1 if trainer == "sft" else 2)
        for found in received:
            pair, side = prepared[found["uid"]], found["side"]
            tokens = pair["prompt_tokens"] + pair[f"{side}_tokens"]
            assert (found["ids"], found["tokens"]) == (pair[side], tokens)
            assert found["ends"] == pair["prompt_ends"] + 1
            # The last position of the loss is that of the end of turn, also where it is the pad token.
            assert found["loss"] == f"{pair['prompt_tokens']}-{tokens - 1}"
    assert all(order == orders[0] for order in orders)
