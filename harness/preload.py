"""Imported once by the fork server, so that every stage starts with the heavy libraries loaded. Runs no operation."""

import contextlib
import importlib

# TRL loads lazily: its trainers are named one by one, the experimental one last since it may go.
HEAVY = (
    "torch",
    "transformers",
    "transformers.models.llama.modeling_llama",
    "datasets",
    "peft",
    "trl.trainer.sft_trainer",
    "trl.trainer.dpo_trainer",
    "lm_eval",
    "lm_eval.models.huggingface",
    "pipelines.training.train",
    "pipelines.training.reference",
    "harness.evaluation.run",
    "harness.evaluation.preference",
    "harness.evaluation.generation",
    "harness.evaluation.benchmarks",
    "trl.experimental.orpo.orpo_trainer",
)

for module in HEAVY:
    # A stage that needs the module fails with its own clear message.
    with contextlib.suppress(ImportError):
        importlib.import_module(module)
