"""What a chat template does, found by rendering a short conversation with it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from jinja2 import Template, TemplateError
from transformers.utils.chat_template_utils import _compile_jinja_template

from pipelines.data.forms import Message
from pipelines.errors import PipelineError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Some templates write today's date into the prompt: a comparison must not depend on the day of its run. A template is
# handed no function (transformers 5.23 lets only plain data through), so its clock is replaced in its own language.
_TODAY = datetime(2026, 1, 1)
_DATE = _TODAY.strftime("%d %b %Y")
_FIXED_CLOCK = (
    "{% macro strftime_now(form) %}{{ form"
    + "".join(f" | replace('%{code}', '{_TODAY.strftime('%' + code)}')" for code in "aAbBdmyYHIpMSj")
    + " }}{% endmacro %}"
)
# A template is a program: it can fail in more ways than by refusing.
TEMPLATE_FAILURES = (
    TemplateError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError
)  # fmt: skip
_SYSTEM, _QUESTION, _ANSWER = "qzsystem", "qzquestion", "qzanswer"


class ChatTemplate:
    """A tokenizer's chat template.

    Attributes:
        has_system_role: Whether a system message reaches the prompt.
        prompt_head: What stands before the first user message in a prompt without a system message.
        prompt_tail: What follows the last user message in a prompt: its end, and the header of the reply.
        reply_tail: What follows a reply.
        kept_tail: The part of `reply_tail` that belongs to the reply: up to and with its end-of-turn token.
        end_of_turn: The token that ends a reply; None if the template writes none.
        own_tokens: The tokenizer's added tokens, special or not, that it writes around the texts of a conversation.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        own = tokenizer.get_chat_template()
        self._special = tokenizer.special_tokens_map
        self._header = ""
        asked: list[Message] = [{"role": "user", "content": _QUESTION}]
        answered = [*asked, {"role": "assistant", "content": _ANSWER}]
        try:
            # What apply_chat_template compiles and renders, without the half of its time that goes into copying messages.
            self._compiled: Template = _compile_jinja_template(
                (_FIXED_CLOCK if "strftime_now" in own else "") + own
            )
            bare, prompt, whole = (
                self._render(asked, False),
                self._render(asked, True),
                self._render(answered, False),
            )
        except TemplateError as error:
            raise PipelineError(
                f"the chat template does not render a question and its answer: {' '.join(str(error).split())}"
            ) from error
        if not whole.startswith(prompt) or _ANSWER not in whole[len(prompt) :] or _QUESTION not in prompt:
            raise PipelineError(
                "the chat template does not begin a whole conversation as it begins the prompt alone (with "
                "add_generation_prompt), so a reply cannot be told from its prompt. Use a tokenizer whose template does."
            )
        before, _, self.reply_tail = whole[len(prompt) :].rpartition(_ANSWER)
        if bare == prompt and before.strip():
            self._header = (
                before  # the template ignores add_generation_prompt: the reply's header is the prompt's
            )
        self.prompt_head, _, self.prompt_tail = (prompt + self._header).rpartition(_QUESTION)
        self.end_of_turn, self.kept_tail = self._end()
        with_system = self._with_system()
        self.has_system_role = _SYSTEM in with_system
        added = self._added_tokens()
        around = (self.prompt_head, self.prompt_tail, self.reply_tail, with_system)
        self.own_tokens = frozenset(token for text in around for token in added.findall(text))

    def prompt_text(self, prompt: Sequence[Message]) -> str:
        """The prompt up to where the reply begins.

        Raises:
            jinja2.TemplateError: the template refuses these messages.
        """
        return self._render(prompt, True) + self._header

    def reply_text(self, prompt: Sequence[Message], reply: str, *, prompt_text: str) -> str | None:
        """What the template makes of a reply, to its end of turn; None if it changes the prompt on the way."""
        whole = self._render([*prompt, {"role": "assistant", "content": reply}], False)
        if not whole.startswith(prompt_text) or not whole.endswith(self.reply_tail):
            return None
        return whole[len(prompt_text) : len(whole) - len(self.reply_tail)] + self.kept_tail

    def prompt_tail_from_last_token(self) -> str:
        """The part of `prompt_tail` that begins with the last token of the tokenizer's added ones in it; else nothing."""
        found = list(self._added_tokens().finditer(self.prompt_tail))
        return self.prompt_tail[found[-1].start() :] if found else ""

    def _render(self, messages: Sequence[Message], generation: bool) -> str:
        try:
            return self._compiled.render(
                messages=messages,
                tools=None,
                documents=None,
                add_generation_prompt=generation,
                date_string=_DATE,
                **self._special,
            )
        except TemplateError:
            raise
        except TEMPLATE_FAILURES as error:
            raise TemplateError(f"{type(error).__name__}: {error}") from error

    def _end(self) -> tuple[str | None, str]:
        found = self._added_tokens().search(self.reply_tail)
        if found is None:
            return None, self.reply_tail.rstrip()
        return found.group(), self.reply_tail[: found.end()]

    def _added_tokens(self) -> re.Pattern[str]:
        tokens = [token for token in self._tokenizer.added_tokens_encoder if token.strip()]
        longest_first = sorted(tokens, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")

    def _with_system(self) -> str:
        """A prompt with a system message, or nothing if the template refuses it."""
        try:
            return self._render(
                [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": _QUESTION}], True
            )
        except TemplateError:
            return ""
