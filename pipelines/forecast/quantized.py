"""QLoRA's memory, by formula: fake tensors do not carry 4-bit weights. The rest of the step is rehearsed as LoRA.

`BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")` packs the weights of every linear layer but the head
into half a byte each, with one float32 scale for each block of 64; peft's `prepare_model_for_kbit_training` turns all
other weights into float32. A layer's weights are unpacked into the compute format while it multiplies.

References:
    Dettmers et al. 2023, arXiv 2305.14314, without double quantization.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pipelines.forecast.fakes import meta_model
from pipelines.forecast.rehearsal import Rehearsal
from pipelines.forecast.request import PartBytes
from pipelines.stages import TrainSettings

if TYPE_CHECKING:
    from transformers import PretrainedConfig

BLOCK = 64
SCALE_BYTES = 4
UNPACKED_BYTES = 2  # bnb_4bit_compute_dtype is bfloat16
FLOAT32_BYTES = 4


def corrected(rehearsal: Rehearsal, config: PretrainedConfig, settings: TrainSettings) -> Rehearsal:
    """The rehearsal with its base weights in 4 bits, if `settings` say so."""
    if settings.tuning != "qlora":
        return rehearsal
    weights, largest_layer = packed_bytes(config, settings)

    def with_packed(parts: PartBytes, workspace: int) -> PartBytes:
        reference = weights if settings.reference == "copy" else parts.get("reference", 0)
        return {
            **parts,
            "weights": weights,
            "reference": reference,
            "activations": parts.get("activations", 0) + workspace,
        }

    return Rehearsal(
        peaks={
            moment: with_packed(parts, 0 if moment.phase in ("load", "step") else largest_layer)
            for moment, parts in rehearsal.peaks.items()
        },
        flops=rehearsal.flops,
    )


def packed_bytes(config: PretrainedConfig, settings: TrainSettings) -> tuple[int, int]:
    """Bytes of the base model's weights in 4 bits, and of its largest packed layer unpacked."""
    model = meta_model(config, settings)
    head = model.get_output_embeddings()
    packed = [
        module.weight.numel()
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    ]
    others = sum(parameter.numel() for parameter in model.parameters()) - sum(packed)
    in_four_bits = sum(count // 2 + -(-count // BLOCK) * SCALE_BYTES for count in packed)
    return in_four_bits + others * FLOAT32_BYTES, max(packed, default=0) * UNPACKED_BYTES
