"""The gold scorer: grades any reply in [0, 1] by the world's rules, part by part. No model, no judge."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pipelines.toy.tickets import NAMES, PLANS, PRODUCTS, TEAM_OF, TEAMS, Part, Ticket

WEIGHTS: Mapping[Part, float] = {
    "thanks": 0.10, "name": 0.15, "problem": 0.15, "ticket": 0.20, "team": 0.15, "plan": 0.10, "brief": 0.15,
}  # fmt: skip
LONGEST_BRIEF_WORDS = 34
# More of a reply than this is not read: whatever follows, it is not brief.
READ_CHARACTERS = 4000

_PROMPT = re.compile(
    rf"^(?P<name>{'|'.join(NAMES)}) on the (?P<plan>{'|'.join(PLANS)}) plan writes: "
    rf"(?P<product>{'|'.join(PRODUCTS)}) (?P<problem>{'|'.join(TEAM_OF)})\. This is "
    r"(?:ticket (?P<ticket>[A-Z]-\d\d), account (?P<account>[A-Z]-\d\d)"
    r"|account (?P<account2>[A-Z]-\d\d), ticket (?P<ticket2>[A-Z]-\d\d))\.$"
)
_CODE = re.compile(r"[A-Z]-\d\d(?!\d)")


@dataclass(frozen=True)
class GoldScore:
    """A reply's grade.

    Attributes:
        total: Weighted sum of the components, in [0, 1].
        components: Part to 1.0 or 0.0.
    """

    total: float
    components: dict[str, float]


def read_prompt(prompt: str) -> Ticket:
    """The particulars that a prompt of this world states.

    Raises:
        ValueError: the prompt is not of this world.
    """
    found = _PROMPT.match(prompt)
    if found is None:
        raise ValueError(f"not a prompt of the toy world: {prompt[:80]!r}")
    parts = found.groupdict()
    return Ticket(
        name=parts["name"],
        product=parts["product"],
        plan=parts["plan"],
        problem=parts["problem"],
        ticket=parts["ticket"] or parts["ticket2"],
        account=parts["account"] or parts["account2"],
    )


def score(prompt: str, reply: str) -> GoldScore:
    """Grade `reply` to `prompt`: each part counts when it is there and nothing contradicts it.

    Raises:
        ValueError: the prompt is not of this world.
    """
    ticket = read_prompt(prompt)
    text = reply[:READ_CHARACTERS]
    components: dict[str, float] = {
        "thanks": "thank you" in text,
        "name": _only(ticket.name, NAMES, text),
        "problem": _only(ticket.product, PRODUCTS, text)
        and f"sorry that {ticket.product} {ticket.problem}" in text,
        "ticket": set(_CODE.findall(text)) == {ticket.ticket},
        "team": _only(f"{ticket.team} team", [f"{team} team" for team in TEAMS], text),
        "plan": _only(f"{ticket.plan} plan", [f"{plan} plan" for plan in PLANS], text),
    }
    # Being brief is worth something beside something right: else the best answer to a hard ticket were silence.
    is_brief = len(text.split()) <= LONGEST_BRIEF_WORDS and len(reply) <= READ_CHARACTERS
    components["brief"] = is_brief and any(components.values())
    components = {part: float(held) for part, held in components.items()}
    # Weights are multiples of 0.05: rounding takes away the noise of binary fractions.
    total = round(sum(WEIGHTS[part] * components[part] for part in WEIGHTS), 10)
    return GoldScore(total=total, components=components)


def _only(right: str, all_of_them: tuple[str, ...] | list[str], text: str) -> bool:
    """Whether `right`, and none of the others, stands in the text as whole words."""
    present = {one for one in all_of_them if re.search(rf"\b{re.escape(one)}\b", text)}
    return present == {right}
