"""What a training stage leaves so that the audit can tell from which weights, and against which reference, it trained.

Probes are log-probs of a few replies. Two models that give the same ones to rounding are the same for this purpose, however
their weights are held: merged, in an adapter, as stored log-probs. A loss of ln 2 at DPO's first step would prove nothing: a
fresh adapter on the base gives it, too.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel
from trl.trainer.utils import use_adapter

from pipelines.outcomes import ReferenceOutcome
from pipelines.training.feed import REFERENCE_COLUMNS

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import Trainer

    from pipelines.training.parts import Parts

NUM_PROBES, LOOKED_AT = 4, 64
REFERENCE_ADAPTER = "ref"  # TRL's name for the frozen copy of the adapter that DPO starts from
STORED = "reference.json"  # beside stored log-probs: of which weights they are


def base_hash(model: torch.nn.Module) -> str:
    """Hash over names and bytes of all weights but those of adapters, so the same with an adapter and without."""
    digest = hashlib.blake2b(digest_size=16)
    for name, weight in sorted(_base_weights(model).items()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def probe_rows(pairs: Dataset) -> list[dict[str, Any]]:
    """The shortest of the first pairs, the same for every stage on these pairs."""
    first = pairs.select(range(min(LOOKED_AT, len(pairs))))
    return sorted(first, key=lambda pair: len(pair["prompt_ids"]) + len(pair["chosen_ids"]))[:NUM_PROBES]


@torch.no_grad()
def probe(model: torch.nn.Module, rows: list[dict[str, Any]]) -> list[float]:
    """Log-prob of each row's chosen reply given its prompt, summed over tokens, one sequence at a time."""
    device, was_training = next(model.parameters()).device, model.training
    model.eval()
    found = []
    for row in rows:
        ids = torch.tensor([row["prompt_ids"] + row["chosen_ids"]], device=device)
        count = len(row["chosen_ids"])
        # The logits of the reply's places only: those of a long prompt could be the stage's highest peak of memory.
        logits = model(
            input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, logits_to_keep=count + 1
        ).logits
        logprobs = torch.log_softmax(logits[0, :-1].float(), dim=-1)  # (tokens of the reply, vocabulary)
        found.append(float(logprobs.gather(1, ids[0, -count:, None]).sum()))
    model.train(was_training)
    return found


def read_stored(folder: Path) -> ReferenceOutcome | None:
    """What the reference stage in `folder` noted; None of one that was made before it noted anything."""
    path = folder / STORED
    return ReferenceOutcome.model_validate_json(path.read_text("utf-8")) if path.is_file() else None


def reference_probe(
    trainer: Trainer, parts: Parts, rows: list[dict[str, Any]], stored: ReferenceOutcome | None
) -> list[float] | None:
    """The same of the reference that DPO will use; None where the trainer has none.

    Args:
        trainer: The stage's.
        parts: What it was made from.
        rows: From `probe_rows`, with the reference's log-probs where they are stored.
        stored: With stored log-probs: what their stage noted.
    """
    if parts.settings.kind != "dpo":
        return None
    if parts.settings.reference == "precomputed":
        # Length-desensitised DPO has them weighted, so they are no sums; only there the stage's own word counts.
        are_sums = parts.settings.arguments.get("ld_alpha") in (None, 1)
        if not are_sums and stored is not None and stored.probe is not None:
            return stored.probe
        return [float(row[REFERENCE_COLUMNS[0]]) for row in rows]
    if trainer.ref_model is not None:
        return probe(trainer.ref_model, rows)
    model = trainer.model
    if not isinstance(model, PeftModel):
        return None
    # As TRL 1.16 chooses it: without a frozen copy the adapters are switched off, which leaves the base.
    with use_adapter(model, REFERENCE_ADAPTER if REFERENCE_ADAPTER in model.peft_config else None):
        return probe(model, rows)


def _base_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix("base_model.model.").replace(".base_layer.", "."): weight
        for name, weight in model.named_parameters()
        if "lora_" not in name
    }
