"""A lossless word-level tokenizer for the toy world; two-digit groups are one token."""

from __future__ import annotations

import re
from functools import cache

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from pipelines.toy.tickets import LETTERS, NAMES, NUMBERS, PLANS, PRODUCTS, RAMBLING, TEAM_OF, TEAMS

PAD, BOS, EOS, UNKNOWN, USER, ASSISTANT = "<pad>", "<bos>", "<eos>", "<unk>", "<user>", "<reply>"
PIECE = r" ?[A-Za-z]+|\d\d| ?[^A-Za-z\s]|\s"
FRAME = (
    "Hello, thank you for the message. we got the message. I am sorry that I am sorry for this. I gave ticket A to the "
    "team. They answer soon on the plan. They answer soon. on the plan writes: This is ticket, account. account A,"
)
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}<reply>{{ message['content'] }}{{ eos_token }}"
    "{% else %}<user>{{ message['content'] }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<reply>{% endif %}"
)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """The toy world's tokenizer, the same every time; text of the world comes back exactly as it was."""
    special = [PAD, BOS, EOS, UNKNOWN, USER, ASSISTANT]
    backend = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate([*special, *_words()])}, unk_token=UNKNOWN)
    )
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(PIECE), behavior="isolated")
    backend.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNKNOWN,
        additional_special_tokens=[USER, ASSISTANT],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


@cache
def _words() -> tuple[str, ...]:
    """Every piece that a text of the world can have, in a fixed order."""
    texts = [FRAME, *RAMBLING, *(f"{name} Hello {name}," for name in NAMES)]
    texts += [
        f" {word} {other}"
        for words in (PRODUCTS, PLANS, TEAMS, TEAM_OF)
        for word in words
        for other in [word]
    ]
    texts += [f" {letter}-" for letter in LETTERS]
    pieces = {piece for text in texts for piece in re.findall(PIECE, text)}
    return (*sorted(pieces), *(str(number) for number in NUMBERS))
