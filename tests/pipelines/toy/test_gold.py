"""The gold scorer: right by hand, and hard to fool."""

from __future__ import annotations

import pytest

from pipelines.toy.gold import WEIGHTS, score
from pipelines.toy.tickets import NAMES, PLANS, PRODUCTS, TEAMS

PROMPT = "Ada on the school plan writes: Inbox shows a wrong invoice. This is account K-15, ticket C-72."
PERFECT = (
    "Hello Ada, thank you for the message. I am sorry that Inbox shows a wrong invoice. "
    "I gave ticket C-72 to the billing team. They answer soon on the school plan."
)


def test_a_perfect_reply_scores_one() -> None:
    found = score(PROMPT, PERFECT)
    assert found.total == 1
    assert set(found.components.values()) == {1.0}


def test_weights_sum_to_one() -> None:
    assert sum(WEIGHTS.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("wrong", "instead", "lost"),
    [
        ("Ada", "Ben", {"name"}),
        ("Hello Ada,", "Hello,", {"name"}),
        ("Hello Ada,", "Hello Ada and Ben,", {"name"}),
        ("thank you for the message", "we got the message", {"thanks"}),
        ("Inbox", "Vault", {"problem"}),
        ("Inbox shows a wrong invoice", "Inbox lost the refund", {"problem"}),
        ("C-72", "K-15", {"ticket"}),
        ("C-72", "C-73", {"ticket"}),
        ("C-72", "C-721", {"ticket"}),
        ("ticket C-72", "ticket C-72 of account K-15", {"ticket"}),
        ("billing", "sales", {"team"}),
        ("the billing team", "the billing team or sales team", {"team"}),
        ("school plan", "trial plan", {"plan"}),
        (" on the school plan", "", {"plan"}),
        ("soon", "soon " + "and again " * 20, {"brief"}),
        ("C-72 to the billing", "K-15 to the sales", {"ticket", "team"}),
    ],
)
def test_each_fault_costs_its_own_parts_and_no_other(wrong: str, instead: str, lost: set[str]) -> None:
    assert wrong in PERFECT
    found = score(PROMPT, PERFECT.replace(wrong, instead))
    assert {part for part, value in found.components.items() if value == 0} == lost
    assert found.total == pytest.approx(1 - sum(WEIGHTS[part] for part in lost))


@pytest.mark.parametrize(
    "reply",
    [
        "",
        " \n\t ",
        "\x00\x07\ufeff",
        "票号 C-72 已转交账单团队",
        "שלום Ada, תודה",
        "🙂" * 5000,
        "\ud800 a lone surrogate",
        "(?P<name>.*)+$ [A-Z]-\\d\\d",
        "C-72 " * 200_000,
        "a" * 1_000_000,
        "-" * 1_000_000,
        " ".join([PERFECT] * 7000),
    ],
    ids=lambda reply: f"{len(reply)} characters from {reply[:8]!a}",
)
def test_any_text_gets_a_score_below_a_perfect_one(reply: str) -> None:
    found = score(PROMPT, reply)
    assert 0 <= found.total < 1
    assert set(found.components) == set(WEIGHTS)
    assert all(0 <= value <= 1 for value in found.components.values())


@pytest.mark.parametrize("reply", ["", "  ", "\n", "ok", "票号"])
def test_saying_nothing_is_worth_nothing(reply: str) -> None:
    assert score(PROMPT, reply).total == 0


def test_listing_everything_does_not_pay() -> None:
    everything = " ".join(
        [
            *NAMES,
            *PRODUCTS,
            "C-72 K-15",
            *(f"{team} team" for team in TEAMS),
            *(f"{plan} plan" for plan in PLANS),
        ]
    )
    assert score(PROMPT, everything).total == 0


def test_what_follows_a_right_reply_counts_too() -> None:
    assert score(PROMPT, PERFECT + " Ticket K-15 went to the sales team.").total < 0.7


@pytest.mark.parametrize(
    "prompt", ["", "What is the capital of France?", PROMPT + " More.", PROMPT.replace("C-72", "C72")]
)
def test_a_prompt_from_elsewhere_is_refused(prompt: str) -> None:
    with pytest.raises(ValueError, match="not a prompt of the toy world"):
        score(prompt, PERFECT)
