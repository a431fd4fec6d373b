"""Replies of two models as generation stages leave them, and a judge's stage over them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.evaluation.judges.run import judge
from pipelines.outcomes import EvaluateOutcome
from pipelines.stages import Stage, StageInputs
from tests.pipelines.training.silent import Silent

OWN, OTHER = "evaluate-00000000000a", "evaluate-00000000000b"
PROMPTS = ("What is two and two?", "Name a colour.", "Name a colour.", "Say hello.")
REPLIES = {
    OWN: ("Four.", "Red is a colour.", "Blue", "Hello there, my friend!"),
    OTHER: ("It is four.", "Red", "Blue", "Hi"),
}


def write_replies(
    root: Path, name: str, replies: tuple[str, ...], *, categories: tuple[str, ...] = ()
) -> None:
    """What a generation stage leaves: greedy replies, then one sampled reply for each prompt."""
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    items = [{"item": f"i{n}", "prompt": f"p-{PROMPTS[n % 4]}"} for n in range(len(replies))]
    rows = [
        {
            "item": f"i{n}",
            "prompt": PROMPTS[n % 4],
            "reply": text if temperature == 0 else f"{text} (sampled)",
            "temperature": temperature,
            "num_tokens": len(text.split()),
            "stopped": True,
            "gold": None,
            **({"category": categories[n]} if categories else {}),
        }
        for temperature in (0, 0.7)
        for n, text in enumerate(replies)
    ]
    for file, content in (("items.jsonl", items), ("replies.jsonl", rows)):
        (folder / file).write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")


def write_both(root: Path) -> None:
    for name, replies in REPLIES.items():
        write_replies(root, name, replies)


def run_judge(
    root: Path, settings: dict[str, Any], *, opponent: str | None = None, name: str = "judge-000000000000"
) -> tuple[EvaluateOutcome, Path]:
    """Run a judge on `OWN`, against `opponent` where one is given; the outcome and the stage's folder."""
    stage = Stage.model_validate(
        {
            "id": "judge-000000000000",
            "settings": {"kind": "judge", "judge": settings},
            "inputs": StageInputs(replies=OWN, opponent=opponent).model_dump(),
            "seed": 0,
            "threads": 1,
            "device": "cpu",
        }
    )
    folder = root / name
    folder.mkdir(exist_ok=True)
    return judge(stage, folder, Silent()), folder


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
