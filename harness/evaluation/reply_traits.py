"""What a reply looks like, whatever it says: repetition, emptiness, refusal, drift in script and in form.

Counted from the reply's tokens or characters alone. `replies.jsonl` has the characters; the tokens are not kept, so
repetition, distinct bigrams and loops can be recomputed only by a tokenizer that gives the same tokens back.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

NGRAM = 4
# How English assistants decline. Replies in other languages are not recognised.
_REFUSAL = re.compile(
    r"\s*(?:i'?m sorry|i am sorry|sorry|i apologi[sz]e|unfortunately|i'?m afraid|i am afraid)?[\s,.!:-]*(?:but )?(?:that )?"
    r"(?:as an? (?:ai|(?:large )?language model)\b|i do not feel comfortable|i don't feel comfortable"
    r"|i (?:can(?:no|')?t|cannot|can not|won'?t|will not|am (?:unable|not able) to|'m (?:unable|not able) to)"
    r"(?! (?:wait|thank|believe|help but|keep you|be long))"  # "I can't wait to show you" declines nothing
    r"|i'm (?:unable|not able) to)",
    re.IGNORECASE,
)
_MIXED_WITH_CJK = {"HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"}
# Markdown forms, told apart by how a line begins.
_FORMS = {
    "heading": re.compile(r"^ {0,3}#{1,6} ", re.MULTILINE),
    "list": re.compile(r"^ {0,3}(?:[-*+]|\d{1,3}[.)]) ", re.MULTILINE),
    "code": re.compile(r"^ {0,3}(?:```|~~~)", re.MULTILINE),
    "table": re.compile(r"^ {0,3}\|.*\|\s*$", re.MULTILINE),
}


def repetition(ids: Sequence[int]) -> float:
    """Share of the reply's 4-grams that stood in it before; 0 for a reply of fewer than 4 tokens."""
    return 1.0 - _distinct_share(ids, NGRAM)


def distinct_2(ids: Sequence[int]) -> float:
    """Different bigrams over all bigrams; 1 for a reply of fewer than 2 tokens.

    References:
        Li et al. 2016, arXiv 1510.03055 (distinct-n).
    """
    return _distinct_share(ids, 2)


def longest_loop(ids: Sequence[int]) -> int:
    """Tokens in the longest stretch that one block of tokens fills by following itself at once; 0 where none does.

    `a b a b a` is such a stretch of 5 (the block `a b`, twice and begun once more). A block stands at least twice.
    """
    longest = 0
    for period in range(1, len(ids) // 2 + 1):
        run = 0
        for place in range(period, len(ids)):
            run = run + 1 if ids[place] == ids[place - period] else 0
            if run >= period:
                longest = max(longest, run + period)
    return longest


def is_empty(text: str) -> bool:
    """Whether nothing in the reply can be seen."""
    return not any(unicodedata.category(letter)[0] not in "ZC" for letter in text)


def is_refusal(text: str) -> bool:
    """Whether the reply begins as English assistants decline."""
    return _REFUSAL.match(text.replace("\u2019", "'")) is not None


def changes_script(reply: str, expected: str) -> bool:
    """Whether most letters of the reply are of another script than most letters of `expected`; no letters: no."""
    scripts = _main_script(reply), _main_script(expected)
    return None not in scripts and scripts[0] != scripts[1]


def changes_form(reply: str, expected: str) -> bool:
    """Whether the reply has a Markdown form (heading, list, code, table) that `expected` does not have."""
    return any(form.search(reply) and not form.search(expected) for form in _FORMS.values())


def _distinct_share(ids: Sequence[int], length: int) -> float:
    grams = [tuple(ids[place : place + length]) for place in range(len(ids) - length + 1)]
    return len(set(grams)) / len(grams) if grams else 1.0


def _main_script(text: str) -> str | None:
    counts = Counter(script for letter in text if (script := _script(letter)) is not None)
    return counts.most_common(1)[0][0] if counts else None


@lru_cache(maxsize=4096)
def _script(letter: str) -> str | None:
    """The first word of a letter's Unicode name, such as LATIN or CYRILLIC; one for the scripts that Japanese mixes."""
    if not letter.isalpha():
        return None
    name = unicodedata.name(letter, "").partition(" ")[0]
    return "CJK" if name in _MIXED_WITH_CJK else name or None
