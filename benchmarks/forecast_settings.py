"""The settings of `benchmarks.forecast`, and the model and pairs that each of them trains on."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

from pipelines.forecast.request import Lengths
from pipelines.forecast.shapes import shapes_folder
from pipelines.outcomes import DataOutcome, SplitCount
from pipelines.stages import LoraSettings, ModelSettings, TrainSettings

BASE, DATA, REFERENCE = f"pretrain-{1:012x}", f"data-{1:012x}", f"reference-{1:012x}"
SMALL = {
    "model_type": "llama",
    "vocab_size": 8192,
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
}


@dataclass(frozen=True)
class Setting:
    """One row of the table."""

    size: str
    kind: str
    micro_batch: int
    tuning: str = "full"
    reference: str | None = None
    implementation: str | None = None
    checkpointing: bool = False

    @property
    def length(self) -> int:
        """Tokens of the longest sequence."""
        return 256 if self.size == "small" else 64

    @property
    def num_steps(self) -> int:
        """Optimizer steps, of two micro-batches each."""
        return 8 if self.size == "small" else 3

    def settings(self, folder: Path) -> TrainSettings:
        """The stage's, its base model in `folder`."""
        return TrainSettings.model_validate(
            {
                "kind": self.kind,
                "model": ModelSettings(name=str(folder / BASE / "model")),
                "tuning": self.tuning,
                "lora": LoraSettings(),
                "dtype": "float32",
                "effective_batch": 2 * self.micro_batch,
                "micro_batch": self.micro_batch,
                "max_length": self.length,
                "gradient_checkpointing": self.checkpointing,
                "reference": self.reference,
                "implementation": self.implementation,
                "nll": "completion",
                "mean_over": None if self.kind == "sft" else "step",
                "arguments": {"num_train_epochs": 1},
            }
        )

    def __str__(self) -> str:
        how = self.reference or self.implementation or ""
        kept = ", checkpointing" if self.checkpointing else ""
        return f"{self.size} | {self.kind} {how} | {self.tuning}{kept} | {self.micro_batch}"


SETTINGS = (
    Setting("small", "sft", 2),
    Setting("small", "sft", 4),
    Setting("small", "sft", 2, "lora"),
    Setting("small", "orpo", 2, implementation="trl"),
    Setting("small", "orpo", 4, implementation="trl"),
    Setting("small", "orpo", 2, "lora", implementation="trl"),
    Setting("small", "orpo", 2, implementation="fused"),
    Setting("small", "orpo", 4, "lora", implementation="fused"),
    Setting("small", "dpo", 2, reference="copy"),
    Setting("small", "dpo", 4, reference="precomputed"),
    Setting("small", "dpo", 2, "lora", reference="adapter"),
    Setting("135M", "sft", 2),
    Setting("135M", "orpo", 1, implementation="trl"),
    Setting("135M", "orpo", 1, implementation="fused"),
    Setting("135M", "dpo", 1, reference="copy"),
    Setting("135M", "dpo", 1, reference="precomputed"),
    Setting("135M", "dpo", 2, "lora", reference="adapter"),
)


def make_inputs(folder: Path, setting: Setting) -> Lengths:
    """A base model with random weights and prepared pairs of unequal lengths, the longest of the window's."""
    from datasets import Dataset
    from transformers import AutoConfig, AutoModelForCausalLM

    from pipelines.forecast import fakes

    shape = SMALL
    if setting.size != "small":
        shape = json.loads((shapes_folder() / "smollm2-135m.json").read_text())["shape"]
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**shape))
    model.save_pretrained(folder / BASE / "model")
    chance = random.Random(0)
    rows = []
    for number in range(setting.num_steps * 2 * setting.micro_batch):
        whole = setting.length if number % 4 == 0 else chance.randint(setting.length // 4, setting.length)
        prompt = whole // 3
        replies = [whole - prompt, chance.randint((whole - prompt) // 2, whole - prompt)]
        chance.shuffle(replies)
        ids = {
            f"{side}_ids": [fakes.TOKEN] * count
            for side, count in zip(("chosen", "rejected"), replies, strict=True)
        }
        rows.append({"uid": str(number), "source_row": number, "prompt_ids": [fakes.TOKEN] * prompt, **ids})
    fakes.tokenizer().save_pretrained(folder / DATA / "tokenizer")
    Dataset.from_list(rows).save_to_disk(folder / DATA / "splits" / "train")
    count = SplitCount(num_pairs=len(rows), num_prompt_tokens=0, num_chosen_tokens=0, num_rejected_tokens=0)
    outcome = DataOutcome(
        form="prompt",
        num_rows=len(rows),
        dropped=[],
        splits={"train": count},
        content_hash="",
        chat_template_source="default",
        adds_bos=False,
        end_of_turn_ids=[fakes.EOS],
        pad_token_id=fakes.PAD,
    )
    (folder / DATA / "data.json").write_text(outcome.model_dump_json())
    prompts, chosen, rejected = (
        [len(row[f"{part}_ids"]) for row in rows] for part in ("prompt", "chosen", "rejected")
    )
    replies = sum(chosen) + sum(rejected)
    return Lengths(
        source="prepared data",
        num_train_pairs=len(rows),
        chosen=[prompt + reply for prompt, reply in zip(prompts, chosen, strict=True)],
        rejected=[prompt + reply for prompt, reply in zip(prompts, rejected, strict=True)],
        completion_share=replies / (2 * sum(prompts) + replies),
    )
