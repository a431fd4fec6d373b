"""Small shapes of four families, and the stages to rehearse on them."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PretrainedConfig

from pipelines.stages import LoraSettings, ModelSettings, TrainSettings

VOCABULARY, HIDDEN, INNER, LAYERS, HEADS, KV_HEADS, HEAD_SIZE = 320, 64, 96, 6, 4, 2, 16
LENGTH = 32

COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": HEAD_SIZE,
}


def shape(family: str, **changes: Any) -> PretrainedConfig:
    if family == "gpt2":
        own = {
            "n_embd": HIDDEN,
            "n_layer": LAYERS,
            "n_head": HEADS,
            "vocab_size": VOCABULARY,
            "n_positions": 48,
        }
        return AutoConfig.for_model("gpt2", **own | changes)
    return AutoConfig.for_model(family, **COMMON | changes)


def settings(kind: str, **changes: Any) -> TrainSettings:
    values: dict[str, Any] = {
        "model": ModelSettings(name="nowhere"),
        "tuning": "full",
        "lora": LoraSettings(r=4, alpha=8),
        "dtype": "float32",
        "effective_batch": 2,
        "micro_batch": 2,
        "max_length": LENGTH,
        "gradient_checkpointing": False,
        "reference": "copy" if kind == "dpo" else None,
        "implementation": "trl" if kind == "orpo" else None,
        "nll": "prompt_and_completion" if kind == "orpo" else "completion",
        "arguments": {},
    }
    return TrainSettings(kind=kind, **values | changes)
