"""Base models, policies and adapters: loading, wrapping and saving them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from pipelines.errors import DoesNotLoad
from pipelines.locations import model_location
from pipelines.stages import (
    EvaluateSettings,
    LoraSettings,
    ModelSettings,
    ReferenceSettings,
    Stage,
    TrainSettings,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MODEL = "model"
ADAPTER_NAME = "default"  # TRL's reference adapter is made from the one of this name


def load_base(stage: Stage, folder: Path, *, quantized: bool = False) -> PreTrainedModel:
    """The base model of `stage`, without dropout: TRL switches it off for DPO and ORPO but not for SFT.

    Args:
        stage: A training, reference or evaluation stage.
        folder: The stage's own folder; inputs lie beside it.
        quantized: Load the weights in 4 bits (QLoRA).

    Raises:
        PipelineError: the weights cannot be loaded.
    """
    settings = stage.settings
    assert isinstance(settings, TrainSettings | ReferenceSettings | EvaluateSettings)
    if stage.inputs.base is not None:
        return _from_pretrained(folder.parent / stage.inputs.base / MODEL, stage, ModelSettings(name="local"))
    quantization = (
        BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
        )
        if quantized
        else None
    )
    return _from_pretrained(
        model_location(settings.model.name), stage, settings.model, quantization_config=quantization
    )


def load_policy(stage: Stage, folder: Path, *, trainable: bool = False) -> PreTrainedModel:
    """The model that `stage` starts from, or evaluates: the policy of an earlier stage, else the base model.

    Args:
        stage: A training, reference or evaluation stage.
        folder: The stage's own folder; inputs lie beside it.
        trainable: Whether an adapter's weights will be trained.

    Raises:
        PipelineError: the weights cannot be loaded.
    """
    settings = stage.settings
    quantized = isinstance(settings, TrainSettings | ReferenceSettings) and settings.tuning == "qlora"
    if stage.inputs.policy is None:
        model = load_base(stage, folder, quantized=quantized)
    else:
        saved = folder.parent / stage.inputs.policy / MODEL
        if (saved / "adapter_config.json").is_file():
            base = load_base(stage, folder, quantized=quantized)
            if quantized and trainable:
                base = prepare_model_for_kbit_training(base, use_gradient_checkpointing=False)
            model = PeftModel.from_pretrained(base, saved, adapter_name=ADAPTER_NAME, is_trainable=trainable)
        else:
            model = _from_pretrained(saved, stage, ModelSettings(name="local"))
    return model if trainable else model.eval()


def load_reference(stage: Stage, folder: Path) -> PreTrainedModel:
    """A second model equal to the one that `stage` starts from, an adapter merged into its base.

    TRL 1.16 takes the hidden states of a reference directly, so it cannot be an adapter's wrapper.
    """
    model = load_policy(stage, folder)
    return model.merge_and_unload() if isinstance(model, PeftModel) else model


def with_new_adapter(model: PreTrainedModel, lora: LoraSettings, *, quantized: bool) -> PeftModel:
    """`model` with a fresh LoRA adapter; seed torch before, the adapter's weights are random."""
    if quantized:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config, adapter_name=ADAPTER_NAME)


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> str:
    """Save weights (safetensors; of an adapter only the trained one), tokenizer and template into `folder/model`.

    Returns:
        SHA-256 over the names and bytes of the weight files.
    """
    target = folder / MODEL
    if isinstance(model, PeftModel):
        model.save_pretrained(target, selected_adapters=[ADAPTER_NAME])
    else:
        model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    return weights_hash(target)


def weights_hash(folder: Path) -> str:
    """SHA-256 over the names and bytes of the safetensors files in `folder`."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def starting_hash(stage: Stage, folder: Path) -> str | None:
    """`weights_hash` of what `stage` starts from: the policy of an earlier stage, else the base; None where no stage made it."""
    source = stage.inputs.policy or stage.inputs.base
    return None if source is None else weights_hash(folder.parent / source / MODEL)


def count_parameters(model: torch.nn.Module) -> tuple[int, int]:
    """All parameters and those that are trained; tied weights count once."""
    parameters = list(model.parameters())
    return sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)


def _from_pretrained(
    location: str | Path, stage: Stage, model: ModelSettings, **more: Any
) -> PreTrainedModel:
    settings = stage.settings
    assert isinstance(settings, TrainSettings | ReferenceSettings | EvaluateSettings)
    dtype = settings.weights_dtype if isinstance(settings, TrainSettings) else settings.dtype
    try:
        loaded = AutoModelForCausalLM.from_pretrained(
            location,
            revision=model.revision or "main",
            dtype=getattr(torch, dtype),
            attn_implementation=settings.model.attn_implementation,
            trust_remote_code=model.trust_remote_code,
            use_safetensors=True,
            **more,
        )
    except (OSError, ValueError) as error:
        raise DoesNotLoad(f"model {settings.model.name!r} does not load: {_first_line(error)}") from error
    switch_off_dropout(loaded)
    return loaded.to(stage.device)


def switch_off_dropout(model: PreTrainedModel) -> None:
    """No dropout anywhere in `model`."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "attention_dropout") and isinstance(module.attention_dropout, float):
            module.attention_dropout = 0.0


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
