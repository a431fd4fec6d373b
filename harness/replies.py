"""Sample replies for the report: which prompts, whose replies, chosen by a rule that no one can bend."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from harness.hostile import escaped, fenced
from harness.numbers import number
from harness.records import REPLIES
from harness.results import Results

NUM_PROMPTS = 3
RULE = f"The {NUM_PROMPTS} prompts are those whose item ids have the smallest SHA-256; greedy replies; first finished seed."


@dataclass(frozen=True)
class Sample:
    """One greedy reply of one model."""

    model: str
    seed: int | None
    prompt: str
    reply: str
    num_tokens: int
    stopped: bool
    gold: dict[str, float] | None


def replies_text(results: Results) -> str | None:
    """The same prompts answered by every model, as Markdown; None where nothing was generated."""
    by_item: dict[str, list[Sample]] = {}
    for item, sample in _samples(results):
        by_item.setdefault(item, []).append(sample)
    parts = []
    for place, item in enumerate(sorted(by_item, key=_hash)[:NUM_PROMPTS], start=1):
        samples = by_item[item]
        parts.append(f"### Prompt {place}\n\n{fenced(samples[0].prompt)}")
        parts += [f"{_head(sample)}\n\n{fenced(sample.reply)}" for sample in samples]
    return "\n\n".join(parts) or None


def _samples(results: Results) -> Iterator[tuple[str, Sample]]:
    for model, trials in results.models().items():
        trial = next((trial for trial in trials if results.evaluations(trial, "generation")), None)
        if trial is None:
            continue
        for stage_id in results.evaluations(trial, "generation"):
            for row in results.rows(stage_id, REPLIES):
                if row["temperature"] == 0:
                    yield (
                        str(row["item"]),
                        Sample(
                            model=model,
                            seed=trial.seed,
                            prompt=row["prompt"],
                            reply=row["reply"],
                            num_tokens=row["num_tokens"],
                            stopped=row["stopped"],
                            gold=row["gold"],
                        ),
                    )


def _head(sample: Sample) -> str:
    seed = "" if sample.seed is None else f", seed {sample.seed}"
    cut = "" if sample.stopped else ", cut at the length limit"
    gold = ""
    if sample.gold:
        told = ", ".join(f"{name} {number(value, digits=2)}" for name, value in sample.gold.items())
        gold = f"; gold score by part: {escaped(told)}"
    return f"**{escaped(sample.model)}**{seed}: {sample.num_tokens} tokens{cut}{gold}"


def _hash(item: str) -> str:
    return hashlib.sha256(item.encode("utf-8", "surrogatepass")).hexdigest()
