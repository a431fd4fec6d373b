"""Models of fake tensors, and all else that a trainer wants to be made: a tokenizer, rows, batches."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import _disable_current_modes
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedTokenizerFast

from pipelines.models import switch_off_dropout, with_new_adapter
from pipelines.training.feed import REFERENCE_COLUMNS

if TYPE_CHECKING:
    from transformers import PreTrainedModel, Trainer

    from pipelines.stages import TrainSettings

PAD, EOS, TOKEN = 0, 1, 2
# What the attention kernels of other devices compute is here computed by the CPU's, which needs as much memory.
ATTENTION_ON_FAKES = ("eager", "sdpa")


def of_depth(config: PretrainedConfig, num_layers: int) -> PretrainedConfig:
    """The same shape with fewer layers: its first ones."""
    cut = copy.deepcopy(config)
    cut.num_hidden_layers = num_layers
    if getattr(cut, "layer_types", None):
        cut.layer_types = cut.layer_types[:num_layers]
    return cut


def meta_model(config: PretrainedConfig, settings: TrainSettings) -> PreTrainedModel:
    """The base model of `settings` on the meta device: the real class, no memory."""
    attention = settings.model.attn_implementation
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            config,
            dtype=getattr(torch, settings.weights_dtype),
            attn_implementation=attention if attention in ATTENTION_ON_FAKES else None,
            trust_remote_code=settings.model.trust_remote_code,
        )
    switch_off_dropout(model)
    return model


def meta_policy(config: PretrainedConfig, settings: TrainSettings) -> PreTrainedModel:
    """What is trained, on the meta device: the base model, with an adapter where the stage trains one."""
    model = meta_model(config, settings)
    if settings.tuning != "full":
        with torch.device("meta"):
            model = with_new_adapter(model, settings.lora, quantized=False)
    model.config.use_cache = False
    return model


def into_fakes(model: PreTrainedModel) -> PreTrainedModel:
    """Replace every parameter and buffer by a fake tensor on the CPU; call inside a `FakeTensorMode`."""
    made: dict[int, torch.nn.Parameter] = {}  # tied weights stay tied
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                fake = torch.empty(parameter.shape, dtype=parameter.dtype, device="cpu")
                kept = made.setdefault(
                    id(parameter), torch.nn.Parameter(fake, requires_grad=parameter.requires_grad)
                )
                module._parameters[name] = kept
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device="cpu")
    return model


def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of three words; trainers want its pad token."""
    backend = Tokenizer(WordLevel({"<pad>": PAD, "<eos>": EOS, "word": TOKEN}, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>")


def rows(count: int, length: int, *, completion_share: float = 0.5) -> Dataset:
    """Pairs whose two sequences have `length` tokens each, of which the reply has a share; any reference log-probs."""
    num_reply = min(max(1, round(length * completion_share)), length - 1)
    prompt, reply = [TOKEN] * (length - num_reply), [TOKEN] * num_reply
    ids = {"prompt_ids": prompt, "chosen_ids": reply, "rejected_ids": reply}
    return Dataset.from_list(
        [
            {"uid": f"{number}", "source_row": number, **ids, **dict.fromkeys(REFERENCE_COLUMNS, 0.0)}
            for number in range(count)
        ]
    )


class FakeBatches:
    """Stands for the trainer's data loader: the same micro-batch of fake tensors again and again."""

    def __init__(self, trainer: Trainer, mode: FakeTensorMode, *, micro_batch: int, count: int) -> None:
        self.dataset = trainer.train_dataset
        self.batch_size = micro_batch
        self._count = count
        with _disable_current_modes():
            real = trainer.data_collator([trainer.train_dataset[n] for n in range(micro_batch)])
        self._batch = {
            name: mode.from_tensor(value) if isinstance(value, torch.Tensor) else value
            for name, value in real.items()
        }

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (dict(self._batch) for _ in range(self._count))


def to_in_place(module: torch.nn.Module, *arguments: Any, **named: Any) -> torch.nn.Module:
    """`Module.to` for fake parameters, which torch 2.13 cannot swap; they are where they should be already."""
    _, dtype, *_ = torch._C._nn._parse_to(*arguments, **named)
    for parameter in module.parameters():
        if dtype is not None and parameter.is_floating_point() and parameter.dtype != dtype:
            parameter.data = parameter.data.to(dtype)
    return module
