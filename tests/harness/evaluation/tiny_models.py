"""Models of a few thousand random parameters, and a tokenizer for them."""

from __future__ import annotations

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

VOCABULARY = 40
PAD, EOS = 0, 1
SPECIAL = {"pad_token_id": PAD, "eos_token_id": EOS, "bos_token_id": EOS}
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.4,
}


def llama(seed: int = 3) -> PreTrainedModel:
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**SHAPE, **SPECIAL)).eval()


def gpt2() -> PreTrainedModel:
    torch.manual_seed(4)
    shape = {"vocab_size": VOCABULARY, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
    return GPT2LMHeadModel(GPT2Config(**shape, initializer_range=0.4, **SPECIAL)).eval()


def granite() -> PreTrainedModel:
    """Its logits are scaled after the output embedding."""
    torch.manual_seed(5)
    return GraniteForCausalLM(GraniteConfig(**SHAPE, **SPECIAL, logits_scaling=3.0)).eval()


def tied() -> PreTrainedModel:
    """Its input embedding is its output embedding too."""
    torch.manual_seed(7)
    return LlamaForCausalLM(LlamaConfig(**SHAPE, **SPECIAL, tie_word_embeddings=True)).eval()


def gemma2(window: int = 64) -> PreTrainedModel:
    """It caps attention scores and logits, and every second layer sees no further back than its window."""
    torch.manual_seed(8)
    caps = {"final_logit_softcapping": 2.0, "attn_logit_softcapping": 1.0, "query_pre_attn_scalar": 8}
    config = Gemma2Config(**SHAPE, **SPECIAL, **caps, head_dim=8, sliding_window=window)
    return Gemma2ForCausalLM(config).eval()


def mistral(window: int) -> PreTrainedModel:
    """Every layer sees no further back than its window."""
    torch.manual_seed(9)
    return MistralForCausalLM(MistralConfig(**SHAPE, **SPECIAL, sliding_window=window)).eval()


def dynamic_rope() -> PreTrainedModel:
    """Its frequencies grow with the longest sequence that it has read."""
    torch.manual_seed(12)
    rope = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}
    config = LlamaConfig(**{**SHAPE, "max_position_embeddings": 16}, **SPECIAL, rope_parameters=rope)
    return LlamaForCausalLM(config).eval()


def longrope() -> PreTrainedModel:
    """It has other frequencies for everything that is read beside a sequence of more than 16 tokens."""
    torch.manual_seed(13)
    factors = {"short_factor": [1.0] * 4, "long_factor": [1.0, 2.0, 4.0, 8.0], "factor": 4.0}
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 16, **factors}
    config = Phi3Config(**SHAPE, **SPECIAL, original_max_position_embeddings=16, rope_parameters=rope)
    return Phi3ForCausalLM(config).eval()


def bloom() -> PreTrainedModel:
    """It has no positions but distances in the row, so a row cannot hold two replies."""
    torch.manual_seed(10)
    shape = {"vocab_size": VOCABULARY, "hidden_size": 16, "n_layer": 2, "n_head": 2}
    return BloomForCausalLM(BloomConfig(**shape, initializer_range=0.4, **SPECIAL)).eval()


def opt() -> PreTrainedModel:
    """Its body lies one level deeper, and it counts positions by its mask unless told."""
    torch.manual_seed(11)
    shape = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    more = {"ffn_dim": 24, "word_embed_proj_dim": 16, "max_position_embeddings": 64, "init_std": 0.4}
    return OPTForCausalLM(OPTConfig(**shape, **more, **SPECIAL)).eval()


def llama_with_adapter() -> PeftModel:
    torch.manual_seed(6)
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    return get_peft_model(llama(), config).eval()


def tokenizer() -> PreTrainedTokenizerFast:
    words = {"<pad>": PAD, "<eos>": EOS} | {f"w{i}": i for i in range(2, VOCABULARY)}
    backend = Tokenizer(models.WordLevel(words, unk_token="w2"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>")


def chat_tokenizer() -> PreTrainedTokenizerFast:
    """The same with a chat template: w3 begins a system's turn, w4 a user's, w5 the assistant's; each ends with <eos>.

    Its variable `note` stands before all turns.
    """
    found = tokenizer()
    found.chat_template = (
        "{% if note %}{{ note }} {% endif %}"
        "{% set begins = {'system': 'w3', 'user': 'w4', 'assistant': 'w5'} %}"
        "{% for turn in messages %}{{ begins[turn.role] }} {{ turn.content }} <eos> {% endfor %}"
        "{% if add_generation_prompt %}w5 {% endif %}"
    )
    return found


def random_ids(*lengths: int, seed: int = 7) -> list[list[int]]:
    """Random token ids without special ones, a list for each length."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(2, VOCABULARY, (length,), generator=generator).tolist() for length in lengths]
