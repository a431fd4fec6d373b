"""Tokenizers of a few hundred tokens, made here, that differ as real ones do."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

BOS, EOS, UNKNOWN, PAD = "<s>", "</s>", "<unk>", "<pad>"
START, END = "<|im_start|>", "<|im_end|>"

CHATML = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# As Llama 2: writes BOS and EOS itself, spaces around contents, no header for the reply, refuses a system message.
INST = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ raise_exception('no system role') }}"
    "{% elif message['role'] == 'user' %}{{ bos_token + '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)
# As Gemma: trims contents, and drops a system message without a word.
TRIMMED = (
    "{{ bos_token }}{% for message in messages if message['role'] != 'system' %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] | trim + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
NO_END = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
# As Phi 3: an EOS after the end of turn where no reply is asked for.
END_THEN_EOS = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% else %}{{ eos_token }}{% endif %}"
)
# As reasoning models: the generation prompt opens a thought that a finished conversation does not have.
NO_PREFIX = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
)
NO_GENERATION_PROMPT = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
)
DATED = "{{ strftime_now('%d %b %Y') + ' ' }}" + CHATML

TEXT = [
    "The quick brown fox jumps over the lazy dog. system user assistant Human hello world, what is it? yes no"
]


def make(
    kind: Literal["byte_level", "prefix_space"] = "byte_level",
    *,
    post: Literal["none", "bos", "bos_eos"] = "none",
    normalizer: normalizers.Normalizer | None = None,
    template: str | None = None,
    **special: Any,
) -> PreTrainedTokenizerFast:
    """A tokenizer; `special` overrides its special tokens, such as `pad_token=None`."""
    backend = Tokenizer(models.BPE(unk_token=UNKNOWN))
    if kind == "byte_level":
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        backend.decoder = decoders.Metaspace(prepend_scheme="first")
        alphabet = [chr(code) for code in range(32, 127)] + ["\n"]
    trainer = trainers.BpeTrainer(
        vocab_size=450,
        initial_alphabet=alphabet,
        special_tokens=[UNKNOWN, BOS, EOS, PAD, START, END],
        show_progress=False,
    )
    backend.train_from_iterator(TEXT * 20, trainer)
    if normalizer is not None:
        backend.normalizer = normalizer
    if post != "none":
        backend.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A {EOS}" if post == "bos_eos" else f"{BOS} $A",
            special_tokens=[(token, backend.token_to_id(token)) for token in (BOS, EOS)],
        )
    names = {"bos_token": BOS, "eos_token": EOS, "unk_token": UNKNOWN, "pad_token": PAD} | special
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        additional_special_tokens=[START, END],
        clean_up_tokenization_spaces=False,
        **{name: token for name, token in names.items() if token is not None},
    )
    tokenizer.chat_template = template
    return tokenizer


def saved(tokenizer: PreTrainedTokenizerFast, folder: Path) -> str:
    """The name under which `load_tokenizer` finds it."""
    tokenizer.save_pretrained(folder)
    return str(folder)
