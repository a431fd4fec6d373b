"""One training as somebody would write it by hand with TRL's own loading, template and tokenization; knows nothing of prefduel.

`python benchmarks/plain_trl.py dpo --model base --pairs pairs.jsonl --output dpo-0 --seed 0 --learning-rate 5e-4`
"""

from __future__ import annotations

import argparse
from typing import Any

from datasets import Dataset, load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

BATCH = 16


def main() -> None:
    """Train once, save the model and its tokenizer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["sft", "dpo", "orpo"])
    for name in ("model", "pairs", "output"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--learning-rate", type=float, required=True)
    given = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(given.model)
    model = AutoModelForCausalLM.from_pretrained(given.model)
    rows = load_dataset("json", data_files=given.pairs, split="train")
    shared = {
        "output_dir": given.output,
        "seed": given.seed,
        "learning_rate": given.learning_rate,
        "num_train_epochs": 1,
        "per_device_train_batch_size": BATCH,
        "max_length": 128,
        "bf16": False,
        "gradient_checkpointing": False,
        "use_cpu": True,
        "save_strategy": "no",
        "report_to": "none",
    }
    trainer = make_trainer(given.kind, model, tokenizer, conversations(rows, given.kind), shared)
    trainer.train()
    trainer.save_model(given.output)
    tokenizer.save_pretrained(given.output)


def conversations(rows: Dataset, kind: str) -> Dataset:
    """The pairs as messages, in the columns that the trainer wants."""

    def turned(row: dict[str, str]) -> dict[str, Any]:
        prompt = [{"role": "user", "content": row["prompt"]}]
        chosen, rejected = ([{"role": "assistant", "content": row[name]}] for name in ("chosen", "rejected"))
        if kind == "sft":
            return {"prompt": prompt, "completion": chosen}
        return {"prompt": prompt, "chosen": chosen, "rejected": rejected}

    return rows.map(turned, remove_columns=rows.column_names)


def make_trainer(kind: str, model: Any, tokenizer: Any, rows: Dataset, shared: dict[str, Any]) -> Any:
    """The trainer; only what is used is imported, as a script for one of them would."""
    if kind == "sft":
        from trl import SFTConfig, SFTTrainer

        return SFTTrainer(model, SFTConfig(**shared), train_dataset=rows, processing_class=tokenizer)
    if kind == "dpo":
        from trl import DPOConfig, DPOTrainer

        reference = AutoModelForCausalLM.from_pretrained(model.config._name_or_path)
        return DPOTrainer(
            model, reference, DPOConfig(**shared), train_dataset=rows, processing_class=tokenizer
        )
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    return ORPOTrainer(model, ORPOConfig(**shared), train_dataset=rows, processing_class=tokenizer)


if __name__ == "__main__":
    main()
