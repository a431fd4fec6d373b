"""Splits go by the prompt's hash alone."""

from __future__ import annotations

import pytest

from pipelines.data.splitting import normalised, rows_of_splits, share_of, split_of
from pipelines.stages import DataSettings

DATA = DataSettings(path="rows", validation_share=0.1, test_share=0.2)


def prompt(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"question {number}"}]


def test_the_shares_of_many_prompts_are_as_asked() -> None:
    splits = [split_of(prompt(number), DATA) for number in range(5000)]
    # Five standard deviations of a binomial share.
    assert splits.count("test") / 5000 == pytest.approx(0.2, abs=0.03)
    assert splits.count("validation") / 5000 == pytest.approx(0.1, abs=0.022)


def test_the_order_of_keys_in_a_message_does_not_move_its_prompt() -> None:
    for number in range(50):
        turned = [dict(reversed(message.items())) for message in prompt(number)]
        assert split_of(turned, DATA) == split_of(prompt(number), DATA)


def test_a_larger_test_share_only_adds_to_the_test_split() -> None:
    more = DATA.model_copy(update={"test_share": 0.4})
    for number in range(300):
        if split_of(prompt(number), DATA) == "test":
            assert split_of(prompt(number), more) == "test"


def test_a_larger_cap_adds_to_a_smaller_one_and_rows_keep_their_order() -> None:
    uids = [(number * 7919) % 1000 for number in range(100)]
    splits = [0] * 100  # all in train

    def kept(cap: int | None) -> list[int]:
        data = DATA.model_copy(update={"max_train_pairs": cap})
        return list(rows_of_splits(uids, splits, data=data)["train"])

    assert len(kept(10)) == 10
    assert set(kept(10)) < set(kept(30)) < set(kept(None))
    assert kept(30) == sorted(kept(30))
    assert kept(None) == list(range(100))
    assert kept(500) == kept(None)


@pytest.mark.parametrize(
    "other", ["What is  this?", "what is this", " What is this??\n", "\uff37hat is this."]
)
def test_a_prompt_that_differs_in_case_spacing_or_its_closing_mark_is_in_the_same_split(other: str) -> None:
    for number in range(50):
        first, second = (
            [{"role": "user", "content": text}] for text in (f"{number} What is this?", f"{number} {other}")
        )
        assert split_of(first, DATA) == split_of(second, DATA)


def test_marks_inside_a_prompt_and_marks_alone_make_prompts_apart() -> None:
    assert normalised("2 + 2?") != normalised("2 - 2?")
    assert normalised("???") != normalised("!")


def test_a_share_is_the_pairs_with_the_smallest_uids_in_their_order() -> None:
    uids = ["f0", "01", "a3", "02", "b4"]
    assert share_of(uids, 0.4) == [1, 3]
    assert share_of(uids, 0.6) == [1, 2, 3]
    assert share_of(uids, 0.01) == [1]  # at least one
    assert share_of(uids, 1.0) == [0, 1, 2, 3, 4]
