"""From pairs to token ids: rendered by the chat template, tokenized once, the same for every arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jinja2 import TemplateError

from pipelines.data.control import ControlTokens
from pipelines.data.drops import Drop
from pipelines.data.forms import Message, Pair
from pipelines.data.template import ChatTemplate
from pipelines.data.tokenizers import adds_bos, bare
from pipelines.errors import PipelineError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class TokenizedPair:
    """A pair's token ids, without padding; both replies end in exactly one end-of-turn token."""

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]
    system_merged: bool


@dataclass(frozen=True)
class RenderedPair:
    """A pair as text: the prompt as the template writes it, each reply to its end of turn."""

    prompt: str
    chosen: str
    rejected: str
    breaker: str | None
    system_merged: bool


class Renderer:
    """Turns pairs into token ids.

    Attributes:
        adds_bos: Whether every prompt begins with the tokenizer's BOS token.
        end_of_turn_ids: Ids at which a reply ends: the template's own, which replies carry, then EOS if another.
        bos_ids: BOS if every prompt begins with it, else nothing.
        prompt_head_ids: What stands before a first user message: BOS, a default system text, the turn's header.
        prompt_tail_ids: What stands after a last user message: the end of its turn, the reply's header.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._bare = bare(tokenizer)
        self._template = ChatTemplate(tokenizer)
        self._control = ControlTokens(tokenizer, self._template.own_tokens)
        writes_bos = tokenizer.bos_token is not None and self._template.prompt_head.startswith(
            tokenizer.bos_token
        )
        self._extra_ids = [tokenizer.bos_token_id] if adds_bos(tokenizer) and not writes_bos else []
        self.adds_bos = writes_bos or bool(self._extra_ids)
        self._appended_ids, self.end_of_turn_ids = self._ends()
        self.bos_ids = [tokenizer.bos_token_id] if self.adds_bos else []
        head, tail = self._ids([self._template.prompt_head, self._template.prompt_tail])
        self.prompt_head_ids, self.prompt_tail_ids = self._extra_ids + head, tail
        self._anchor = self._template.prompt_tail_from_last_token()
        self._anchor_ids = self._ids([self._anchor])[0]

    def tokenize(self, pairs: Sequence[Pair]) -> list[TokenizedPair | Drop]:
        """The ids of each pair, or why it has none: the template does not render it, or it cannot be kept apart from it."""
        return self.tokenize_texts(pairs, [self.texts(pair) for pair in pairs])

    def tokenize_texts(
        self, pairs: Sequence[Pair], texts: Sequence[RenderedPair | None]
    ) -> list[TokenizedPair | Drop]:
        """The same of pairs with their `texts`; several threads may do so, and render, at once."""
        ids = iter(self._tokenized([text for text in texts if text is not None]))
        return [
            Drop.REFUSED if text is None else self._undisguised(pair, text, next(ids))
            for pair, text in zip(pairs, texts, strict=True)
        ]

    def texts(self, pair: Pair) -> RenderedPair | None:
        """What the template makes of a pair, before it is tokenized; None if the template refuses it."""
        return self._rendered(*self._control.broken_up(pair))

    def _rendered(self, pair: Pair, breaker: str | None) -> RenderedPair | None:
        prompt, system_merged = self._merged(pair.prompt)
        try:
            prompt_text = self._template.prompt_text(prompt)
            chosen, rejected = (
                self._template.reply_text(prompt, reply, prompt_text=prompt_text)
                for reply in (pair.chosen, pair.rejected)
            )
        except TemplateError:
            return None
        if chosen is None or rejected is None:
            return None
        return RenderedPair(prompt_text, chosen, rejected, breaker, system_merged)

    def _undisguised(self, pair: Pair, text: RenderedPair, made: TokenizedPair) -> TokenizedPair | Drop:
        """The ids without control tokens that are not written out in the text, and yet are there."""
        found = self._control.count_in_ids(made.prompt_ids, made.chosen_ids, made.rejected_ids)
        own = len(self._extra_ids) + 2 * len(self._appended_ids)
        if found == own + self._control.count_in_text((text.prompt, text.chosen, text.rejected)):
            return made
        # Numbers can differ for other reasons, so each text is looked at by itself.
        before = self._control.broken_up(pair)
        after = self._control.disguised_broken_up(*before)
        if after is None:
            return Drop.CONTROL_TOKEN
        if after == before:
            return made
        rendered = self._rendered(*after)
        return Drop.REFUSED if rendered is None else self._tokenized([rendered])[0]

    def _tokenized(self, texts: Sequence[RenderedPair]) -> list[TokenizedPair]:
        """Prompts alone, then each reply in its place after the prompt.

        A reply alone would get a space before it from tokenizers that put one before every text. Where the boundary
        does not fall between tokens, the reply is tokenized alone: prompt ids are those of generation in any case.
        A tokenizer cuts a text at its added tokens before all else, so of the prompt only what follows its last one
        is needed before a reply.
        """
        breakers = [text.breaker for text in texts]
        prompts = self._ids([text.prompt for text in texts], breakers)
        replies = self._after(
            prompts * 2,
            [text.prompt for text in texts] * 2,
            [text.chosen for text in texts] + [text.rejected for text in texts],
            breakers * 2,
        )
        return [
            TokenizedPair(
                prompt_ids=self._extra_ids + prompt,
                chosen_ids=chosen + self._appended_ids,
                rejected_ids=rejected + self._appended_ids,
                system_merged=text.system_merged,
            )
            for text, prompt, chosen, rejected in zip(
                texts, prompts, replies[: len(texts)], replies[len(texts) :], strict=True
            )
        ]

    def _after(
        self, prompts: list[list[int]], before: list[str], replies: list[str], breakers: list[str | None]
    ) -> list[list[int]]:
        starts = [
            (self._anchor, self._anchor_ids) if self._has_anchor(text, prompt) else (text, prompt)
            for text, prompt in zip(before, prompts, strict=True)
        ]
        wholes = self._ids([text + reply for (text, _), reply in zip(starts, replies, strict=True)], breakers)
        return [
            whole[len(ids) :] if whole[: len(ids)] == ids else self._ids([reply], [breaker])[0]
            for whole, (_, ids), reply, breaker in zip(wholes, starts, replies, breakers, strict=True)
        ]

    def _has_anchor(self, text: str, prompt: list[int]) -> bool:
        """Whether the prompt ends with the anchor, as text and as ids."""
        length = len(self._anchor_ids)
        return length > 0 and text.endswith(self._anchor) and prompt[-length:] == self._anchor_ids

    def _ids(self, texts: list[str], breakers: Sequence[str | None] = ()) -> list[list[int]]:
        if not texts:
            return []
        encodings = self._bare.encode_batch_fast(texts, add_special_tokens=False)
        found: list[list[int]] = [encoding.ids for encoding in encodings]
        for position, breaker in enumerate(breakers):
            if breaker is not None:
                found[position] = self._ids_without(breaker, texts[position])
        return found

    def _ids_without(self, breaker: str, text: str) -> list[int]:
        encoding = self._bare.encode(text, add_special_tokens=False)
        spans = zip(encoding.ids, encoding.offsets, strict=True)
        return [token for token, (start, end) in spans if text[start:end] != breaker]

    def _merged(self, prompt: list[Message]) -> tuple[list[Message], bool]:
        """The system's text put before the first user turn's, where the template has no system role."""
        if self._template.has_system_role or prompt[0]["role"] != "system":
            return prompt, False
        system, first, *rest = prompt
        if first["role"] != "user":
            return prompt, False
        return [first | {"content": f"{system['content']}\n\n{first['content']}"}, *rest], True

    def _ends(self) -> tuple[list[int], list[int]]:
        """Ids to append to every reply, and the ids at which a reply ends."""
        eos = [] if self._tokenizer.eos_token_id is None else [self._tokenizer.eos_token_id]
        if self._template.end_of_turn is not None:
            own = self._tokenizer.convert_tokens_to_ids(self._template.end_of_turn)
            return [], list(dict.fromkeys([own, *eos]))
        if not eos:
            raise PipelineError("neither the chat template nor the tokenizer has a token that ends a reply")
        return eos, eos
