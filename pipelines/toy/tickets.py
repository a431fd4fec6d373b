"""Support tickets: a customer's problem with its particulars, and replies that keep or break what a good reply has."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

NAMES = (
    "Ada", "Ben", "Cleo", "Dana", "Eli", "Fay", "Gus", "Hana", "Ivan", "Jude", "Kira", "Liam",
    "Mona", "Nils", "Olga", "Paul", "Rosa", "Sam", "Tess", "Uma", "Vera", "Will", "Yara", "Zoe",
)  # fmt: skip
PRODUCTS = (
    "Inbox", "Ledger", "Planner", "Dialer", "Vault", "Gateway", "Mailer", "Board", "Tracker", "Portal", "Sync", "Forms",
)  # fmt: skip
PLANS = ("basic", "team", "premium", "school", "partner", "trial")
TEAM_OF = {
    "shows a wrong invoice": "billing",
    "charged the card twice": "billing",
    "lost the refund": "billing",
    "rejects the password": "security",
    "sends no login code": "security",
    "shows data of a stranger": "security",
    "crashes at the start": "engineering",
    "freezes on every click": "engineering",
    "deletes new entries": "engineering",
    "is missing in the contract": "sales",
    "needs ten more seats": "sales",
    "has no export to tables": "sales",
}
TEAMS = tuple(sorted(set(TEAM_OF.values())))
LETTERS = "ABCDEFGHJK"
NUMBERS = tuple(range(10, 100))

Part = Literal["thanks", "name", "problem", "ticket", "team", "plan", "brief"]
PARTS: tuple[Part, ...] = ("thanks", "name", "problem", "ticket", "team", "plan", "brief")

# How often a reply keeps each part. Chosen replies are noisy on purpose: from clean ones SFT alone would learn
# everything and leave nothing to decide. Calibrated on the base and on SFT alone (docs/toy-world.md).
KEPT_IN_CHOSEN: Mapping[Part, float] = {
    "thanks": 0.70, "name": 0.75, "problem": 0.70, "ticket": 0.60, "team": 0.65, "plan": 0.30, "brief": 0.40,
}  # fmt: skip
KEPT_IN_REJECTED: Mapping[Part, float] = {
    "thanks": 0.45, "name": 0.45, "problem": 0.40, "ticket": 0.25, "team": 0.30, "plan": 0.10, "brief": 0.15,
}  # fmt: skip
KEPT_IN_CORPUS: Mapping[Part, float] = {
    "thanks": 0.35, "name": 0.60, "problem": 0.40, "ticket": 0.55, "team": 0.50, "plan": 0.15, "brief": 0.25,
}  # fmt: skip

RAMBLING = (
    " We value every customer and we work hard each day.",
    " Our office has a nice garden with many old trees.",
    " Please also read our long news letter about the year.",
)


@dataclass(frozen=True)
class Ticket:
    """The particulars of one problem. `account` has the ticket's form and must not be copied in its place."""

    name: str
    product: str
    plan: str
    problem: str
    ticket: str
    account: str

    @property
    def team(self) -> str:
        """The team that handles this problem."""
        return TEAM_OF[self.problem]


def draw_ticket(rng: random.Random) -> Ticket:
    """A ticket whose two codes differ."""
    ticket, account = _code(rng), _code(rng)
    while account == ticket:
        account = _code(rng)
    return Ticket(
        name=rng.choice(NAMES),
        product=rng.choice(PRODUCTS),
        plan=rng.choice(PLANS),
        problem=rng.choice(tuple(TEAM_OF)),
        ticket=ticket,
        account=account,
    )


def prompt_of(ticket: Ticket, rng: random.Random) -> str:
    """The customer's words; the two codes come in either order."""
    codes = [f"ticket {ticket.ticket}", f"account {ticket.account}"]
    rng.shuffle(codes)
    return (
        f"{ticket.name} on the {ticket.plan} plan writes: {ticket.product} {ticket.problem}. "
        f"This is {codes[0]}, {codes[1]}."
    )


def reply_of(ticket: Ticket, kept: frozenset[Part], rng: random.Random) -> str:
    """A reply that has the parts in `kept` and lacks or spoils the others."""
    greeting = f"Hello {ticket.name}," if "name" in kept else "Hello,"
    thanks = " thank you for the message." if "thanks" in kept else " we got the message."
    sorry = (
        f" I am sorry that {ticket.product} {ticket.problem}."
        if "problem" in kept
        else " I am sorry for this."
    )
    code = ticket.ticket if "ticket" in kept else ticket.account
    team = ticket.team if "team" in kept else rng.choice([team for team in TEAMS if team != ticket.team])
    passed = f" I gave ticket {code} to the {team} team."
    plan = f" They answer soon on the {ticket.plan} plan." if "plan" in kept else " They answer soon."
    rest = "" if "brief" in kept else "".join(RAMBLING[: rng.choice((1, 2))])
    return greeting + thanks + sorry + passed + plan + rest


def make_pairs(num_pairs: int, *, seed: int) -> list[dict[str, str]]:
    """Preference pairs with distinct prompts; the chosen reply keeps more parts than the rejected one.

    Args:
        num_pairs: How many.
        seed: Draws everything; another seed gives other tickets.

    Returns:
        Rows with `prompt`, `chosen`, `rejected` and `category`, the team that handles the problem.
    """
    rng = random.Random(f"pairs {seed}")
    rows: dict[str, dict[str, str]] = {}
    while len(rows) < num_pairs:
        ticket = draw_ticket(rng)
        prompt = prompt_of(ticket, rng)
        chosen, rejected = _keep(KEPT_IN_CHOSEN, rng), _keep(KEPT_IN_REJECTED, rng)
        if prompt in rows or len(chosen) <= len(rejected):
            continue
        rows[prompt] = {
            "prompt": prompt,
            "chosen": reply_of(ticket, chosen, rng),
            "rejected": reply_of(ticket, rejected, rng),
            "category": ticket.team,
        }
    return list(rows.values())


def make_documents(num_documents: int, *, seed: int) -> Iterator[tuple[str, str]]:
    """The pre-training corpus: prompts with replies good and bad."""
    rng = random.Random(f"corpus {seed}")
    for _ in range(num_documents):
        ticket = draw_ticket(rng)
        yield prompt_of(ticket, rng), reply_of(ticket, _keep(KEPT_IN_CORPUS, rng), rng)


def _keep(shares: Mapping[Part, float], rng: random.Random) -> frozenset[Part]:
    return frozenset(part for part in PARTS if rng.random() < shares[part])


def _code(rng: random.Random) -> str:
    return f"{rng.choice(LETTERS)}-{rng.choice(NUMBERS)}"
