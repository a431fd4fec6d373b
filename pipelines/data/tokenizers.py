"""The base model's tokenizer, with a chat template and a pad token, and with no token added to its vocabulary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from transformers import AutoTokenizer

from pipelines.errors import DoesNotLoad, PipelineError
from pipelines.locations import model_location
from pipelines.stages import ModelSettings
from pipelines.toy.tokenizer import make_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

TOY = "toy"

# For a base model without a template of its own: plain words as marks (ChatML's are no tokens to it, and adding them
# would add untrained rows to the embeddings), and the end that the model already knows.
DEFAULT_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '### ' + message['role'] | capitalize + ':\\n' + message['content'] + eos_token + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Assistant:\\n' }}{% endif %}"
)


def load_tokenizer(model: ModelSettings) -> PreTrainedTokenizerBase:
    """The tokenizer that every arm, every evaluation and every saved model uses.

    Raises:
        PipelineError: it does not load, is not a fast one, or has neither a template nor an EOS token.
    """
    tokenizer = make_tokenizer() if model.name == TOY else _from_pretrained(model)
    if not tokenizer.is_fast:
        raise PipelineError(
            f"{model.name}: needs a fast tokenizer (one with a tokenizer.json), this one has none."
        )
    if not tokenizer.chat_template:
        tokenizer.chat_template = model.chat_template or _default_template(tokenizer, model.name)
    if tokenizer.pad_token_id is None:
        # Never a new token. The end of a reply is learnt all the same when it also pads: labels and masks are made
        # from lengths.
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    if tokenizer.pad_token_id is None:
        raise PipelineError(
            f"{model.name}: its tokenizer has no pad, no unknown and no EOS token to pad with."
        )
    return tokenizer


def template_source(
    tokenizer: PreTrainedTokenizerBase, model: ModelSettings
) -> Literal["tokenizer", "config", "default"]:
    """Where the chat template of a tokenizer from `load_tokenizer` came from."""
    template = tokenizer.chat_template
    if model.chat_template is not None and template == model.chat_template:
        return "config"
    is_default = isinstance(template, str) and template.endswith(DEFAULT_CHAT_TEMPLATE)
    return "default" if is_default else "tokenizer"


def adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer itself puts BOS before a text, as its model saw it in pre-training."""
    if tokenizer.bos_token_id is None:
        return False
    with_marks: list[int] = tokenizer("a").input_ids
    return with_marks[:1] == [tokenizer.bos_token_id]


def bare(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """What tokenizes for it, without padding and truncation; several threads can use it at once.

    Its `encode_batch_fast` keeps no offsets, which takes two thirds of the time of a call of the tokenizer.
    """
    backend: Tokenizer = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = tokenizer.split_special_tokens
    return backend


def _default_template(tokenizer: PreTrainedTokenizerBase, name: str) -> str:
    if tokenizer.eos_token is None:
        raise PipelineError(
            f"{name}: its tokenizer has no EOS token to end a turn with. Set model.chat_template."
        )
    return ("{{ bos_token }}" if adds_bos(tokenizer) else "") + DEFAULT_CHAT_TEMPLATE


def _from_pretrained(model: ModelSettings) -> PreTrainedTokenizerBase:
    arguments: dict[str, Any] = {
        "revision": model.revision or "main",
        "trust_remote_code": model.trust_remote_code,
    }
    if model.gguf_file is not None:
        arguments["gguf_file"] = model.gguf_file
    try:
        return AutoTokenizer.from_pretrained(model_location(model.name), **arguments)
    except Exception as error:  # the tokenizers library raises plain `Exception`
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DoesNotLoad(f"{model.name}: its tokenizer does not load: {reason}") from error
