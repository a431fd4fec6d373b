"""What replies look like: counted by hand here."""

from __future__ import annotations

import pytest

from harness.evaluation import reply_traits as traits


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([], 0.0),
        ([1, 2, 3], 0.0),
        ([1, 2, 3, 4, 5], 0.0),
        ([7] * 10, 1 - 1 / 7),  # seven 4-grams, all the same
        ([1, 2, 3, 4, 1, 2, 3, 4], 1 - 4 / 5),  # 1234 2341 3412 4123 1234
    ],
)
def test_repetition_is_the_share_of_four_grams_seen_before(ids: list[int], expected: float) -> None:
    assert traits.repetition(ids) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("ids", "expected"), [([], 1.0), ([1], 1.0), ([1, 1, 1], 0.5), ([1, 2, 1, 2, 1], 0.5), ([1, 2, 3], 1.0)]
)
def test_distinct_2_is_different_bigrams_over_all(ids: list[int], expected: float) -> None:
    assert traits.distinct_2(ids) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([], 0),
        ([1, 2, 3], 0),
        ([1, 1], 2),
        ([5, 1, 2, 1, 2, 1, 9], 5),
        ([1, 2, 3, 1, 2], 0),  # the block 1 2 3 stands once and is only begun again
        ([1, 2, 3, 1, 2, 3], 6),
        ([1, 1, 2, 2, 2, 3], 3),
        ([4, 1, 2, 3, 1, 2, 3, 1, 2, 3, 5], 9),
    ],
)
def test_the_longest_loop_is_a_block_that_follows_itself(ids: list[int], expected: int) -> None:
    assert traits.longest_loop(ids) == expected


@pytest.mark.parametrize(
    ("text", "empty"), [("", True), (" \n\t", True), ("\u200b\x00", True), ("a", False), ("…", False)]
)
def test_a_reply_is_empty_where_nothing_can_be_seen(text: str, empty: bool) -> None:
    assert traits.is_empty(text) is empty


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I\u2019m sorry, but I can\u2019t help.",
        "Sorry, I cannot do this.",
        "As an AI language model, I do not have opinions.",
        "I am unable to open links.",
        "  I won't answer that.",
        "Unfortunately, I am not able to assist.",
        "I'm unable to help.",
        "I'm afraid I can't do that, Dave.",
        "I am afraid that I cannot do that.",
        "As a language model, I cannot browse.",
        "As a large language model I have no opinions.",
    ],
)
def test_english_refusals_are_recognised(text: str) -> None:
    assert traits.is_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "I can help with that.",
        "I am sorry that Dialer shows data of a stranger.",
        "Canned food keeps long.",
        "I can't wait to show you the new plan.",
        "I won't keep you waiting.",
        "I cannot thank you enough.",
        "The answer is that I can't be certain.",
        "Sorry for the delay. Here is the plan.",
        "",
    ],
)
def test_what_only_resembles_a_refusal_is_none(text: str) -> None:
    assert not traits.is_refusal(text)


def test_script_and_form_drift_compare_with_what_was_expected() -> None:
    assert traits.changes_script("Привет, мир", "hello world")
    assert not traits.changes_script("bonjour Анна, comment vas-tu", "hello world")
    assert not traits.changes_script("12345 !", "hello")
    assert not traits.changes_script("ありがとうございます", "東京都庁舎")
    assert traits.changes_script("ありがとう", "hello")
    assert traits.changes_script("日本語のテキスト", "just English")
    assert traits.changes_form("1. first\n2. second", "plain text")
    assert traits.changes_form("# Title", "- a list")
    assert not traits.changes_form("* one\n* two", "- a list\n- of two")
    assert not traits.changes_form("a #hashtag and 3.5 of it", "plain")
