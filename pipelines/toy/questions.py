"""Multiple-choice questions about the toy world, for lm-eval. Imports no torch.

`python -m pipelines.toy.questions > configs/tasks/toy_tickets.jsonl` writes the committed ones.
"""

from __future__ import annotations

import json
import random
import sys
from itertools import product
from typing import Any

from pipelines.toy.tickets import TEAMS, draw_ticket, prompt_of

NUM_QUESTIONS = 200
SEED = 733  # of its own: no comparison, calibration or corpus draws these tickets


def make_questions(num_questions: int, *, seed: int) -> list[dict[str, Any]]:
    """Questions which of four endings of a reply copies the right code and names the right team.

    The four are the ticket's code or the account's, each with the right team or another, in any order and of equal
    length in tokens.

    Args:
        num_questions: How many.
        seed: Equal seeds give equal questions.

    Returns:
        Rows of `prompt` (the user's text), `opening` (how the reply begins), `choices` and `answer`, the right one's
        position.
    """
    rng = random.Random(f"questions {seed}")
    return [_draw_question(rng) for _ in range(num_questions)]


def _draw_question(rng: random.Random) -> dict[str, Any]:
    ticket = draw_ticket(rng)
    other_team = rng.choice([team for team in TEAMS if team != ticket.team])
    endings = list(product((ticket.ticket, ticket.account), (ticket.team, other_team)))
    rng.shuffle(endings)
    return {
        "prompt": prompt_of(ticket, rng),
        "opening": f"Hello {ticket.name}, thank you for the message. "
        f"I am sorry that {ticket.product} {ticket.problem}. I gave",
        "choices": [f" ticket {code} to the {team} team." for code, team in endings],
        "answer": endings.index((ticket.ticket, ticket.team)),
    }


if __name__ == "__main__":
    for question in make_questions(NUM_QUESTIONS, seed=SEED):
        sys.stdout.write(json.dumps(question) + "\n")
