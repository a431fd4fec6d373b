"""A GGUF file turned into safetensors once, so that every later stage loads plain weights."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipelines.errors import PipelineError
from pipelines.locations import model_location
from pipelines.models import count_parameters, save_model
from pipelines.outcomes import PretrainOutcome
from pipelines.stages import ConvertSettings, Observer, Stage


def convert(stage: Stage, folder: Path, observer: Observer) -> PretrainOutcome:
    """Dequantize the GGUF file into `folder/model`.

    Raises:
        PipelineError: the file is missing or is not a model that transformers can read.
    """
    settings = stage.settings
    assert isinstance(settings, ConvertSettings)
    with observer.phase("load"):
        try:
            location = model_location(settings.model.name)
            arguments = {"gguf_file": settings.model.gguf_file, "revision": settings.model.revision or "main"}
            dequantized = AutoModelForCausalLM.from_pretrained(location, dtype=torch.float32, **arguments)
            tokenizer = AutoTokenizer.from_pretrained(location, **arguments)
        except (OSError, ValueError) as error:
            raise PipelineError(
                f"{settings.model.gguf_file} of {settings.model.name} does not load: {error}"
            ) from error
    with observer.phase("save"):
        # The loaded model keeps a quantizer that refuses to be saved (transformers 5.23): copy the weights out.
        config = dequantized.config
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        plain = type(dequantized)(config).to(getattr(torch, settings.dtype))
        plain.load_state_dict(dequantized.state_dict())
        digest = save_model(plain, tokenizer, folder)
    num_parameters, _ = count_parameters(plain)
    return PretrainOutcome(
        num_parameters=num_parameters, num_steps=0, num_tokens=0, final_loss=None, weights_hash=digest
    )
