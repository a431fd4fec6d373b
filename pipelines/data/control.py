"""Control tokens in the data's own text: whichever way they are written there, they stay text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pipelines.data.forms import Pair
from pipelines.data.tokenizers import bare
from pipelines.errors import PipelineError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Private characters that nobody writes; one breaks up a control token's name and its ids are taken out again.
_BREAKERS = tuple(chr(code) for code in range(0x10FFFD, 0x10FFED, -1))
_MOST_ROUNDS = 20  # each breaks up all that is found; what is still there after so many cannot be broken up


class ControlTokens:
    """The tokens that structure a conversation, which its texts must not contain.

    Args:
        tokenizer: Knows the special ones.
        own: Those that the chat template writes, special or not.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, own: Iterable[str]) -> None:
        self._bare = bare(tokenizer)
        added = tokenizer.added_tokens_decoder.values()
        special = {token.content for token in added if token.special} | set(tokenizer.all_special_tokens)
        # A template may well mark its turns with tokens that are not special: the data must not write these either.
        names = sorted((name for name in special.union(own) if len(name) > 1), key=len, reverse=True)
        self._names = re.compile("|".join(map(re.escape, names)) or "(?!)")
        structural = {tokenizer.bos_token, tokenizer.eos_token, *own}
        # The unknown token is also what an unknown character becomes, which ends and begins nothing.
        unknown = {tokenizer.unk_token} - structural
        self._ids = frozenset(
            tokenizer.convert_tokens_to_ids([name for name in names if name not in unknown])
        )

    def count_in_text(self, texts: Sequence[str]) -> int:
        """How many are written out."""
        return sum(len(self._names.findall(text)) for text in texts)

    def count_in_ids(self, *parts: Sequence[int]) -> int:
        """How many there are."""
        return sum(sum(map(self._ids.__contains__, ids)) for ids in parts)

    def broken_up(self, pair: Pair) -> tuple[Pair, str | None]:
        """The pair with the names of control tokens broken up where they are written out, and what breaks them up."""
        if not any(map(self._names.search, _texts(pair))):
            return pair, None
        breaker = _unused_breaker(pair)

        def broken(text: str) -> str:
            while self._names.search(text):
                text = self._names.sub(lambda match: match[0][0] + breaker + match[0][1:], text)
            return text

        return _changed(pair, broken), breaker

    def disguised_broken_up(self, pair: Pair, breaker: str | None) -> tuple[Pair, str | None] | None:
        """The same of those that only the ids show: a tokenizer may make `<|END|>`, or full-width letters, the token `<|end|>`.

        Args:
            pair: As `broken_up` leaves it.
            breaker: What broke it up.

        Returns:
            The pair, as it was if there is none in it; None where they cannot be broken up.
        """
        if not any(map(self._spans, _texts(pair))):
            return pair, breaker
        used = breaker or _unused_breaker(pair)
        changed = _changed(pair, lambda text: self._without_disguised(text, used))
        return None if any(map(self._spans, _texts(changed))) else (changed, used)

    def _without_disguised(self, text: str, breaker: str) -> str:
        for _ in range(_MOST_ROUNDS):
            spans = self._spans(text)
            if not spans:
                break
            for start, _end in reversed(spans):
                text = text[: start + 1] + breaker + text[start + 1 :]
        return text

    def _spans(self, text: str) -> list[tuple[int, int]]:
        """Where the text, tokenized alone, has control tokens."""
        encoding = self._bare.encode(text, add_special_tokens=False)
        pairs = zip(encoding.ids, encoding.offsets, strict=True)
        return [(start, end) for token, (start, end) in pairs if token in self._ids]


def _texts(pair: Pair) -> list[str]:
    return [message["content"] for message in pair.prompt] + [pair.chosen, pair.rejected]


def _changed(pair: Pair, change: Callable[[str], str]) -> Pair:
    prompt = [message | {"content": change(message["content"])} for message in pair.prompt]
    return replace(pair, prompt=prompt, chosen=change(pair.chosen), rejected=change(pair.rejected))


def _unused_breaker(pair: Pair) -> str:
    texts = _texts(pair)
    for breaker in _BREAKERS:
        if not any(breaker in text for text in texts):
            return breaker
    raise PipelineError("a row holds every private character that could break up a control token in its text")
