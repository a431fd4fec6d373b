"""Sample replies: which prompts, and whose replies, is chosen by a rule that no one can bend."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from harness.intervals import FloatArray
from harness.metrics import metric
from harness.numbers import number
from harness.plan import Trial
from harness.records import REPLIES
from harness.report.page import Block, Heading, Listing, Paragraph, Reply, Section, SideBySide, Text
from harness.report.view import View
from harness.scores import score_tables

TITLE = "Replies"
NUM_PROMPTS = 3
MOST_MODELS, MOST_SEEDS = 6, 12
BY_HASH = (
    "The prompts are those whose item ids have the smallest SHA-256, as the primary metric does not tell the arms' answers to "
    "single prompts apart."
)


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


@dataclass(frozen=True)
class Choice:
    """A prompt and why it is on the page."""

    item: str
    why: str


def replies_section(view: View) -> Section:
    """The same prompts answered by every model, greedily, side by side."""
    trials = dict(_trials(view))
    by_item: dict[str, list[Sample]] = {}
    for item, sample in _samples(view, trials):
        by_item.setdefault(item, []).append(sample)
    if not by_item:
        return Section(TITLE, [Paragraph("Not measured: no replies were generated.")])
    choices = _by_gain(view, by_item)
    rule = _rule(view) if choices else BY_HASH
    blocks: list[Block] = [Paragraph(f"{rule} Greedy replies of each model's first finished seed.")]
    for choice in choices or [Choice(item, "by hash") for item in sorted(by_item, key=_hash)[:NUM_PROMPTS]]:
        samples = by_item[choice.item]
        blocks += [
            Heading(f"Prompt: {choice.why}"),
            Listing(samples[0].prompt),
            SideBySide([Reply(_about(sample), Listing(sample.reply)) for sample in samples]),
        ]
    return Section(TITLE, blocks)


def _rule(view: View) -> str:
    first, second = view.summary.verdict.compare
    return (
        f"Chosen by {view.summary.verdict.metric}, {first} minus {second}, mean over the seeds that both finished: the "
        f"prompt with the largest gain of {first}, the one with its largest loss, and the median one; ties go to the item id "
        "with the smallest SHA-256."
    )


def _by_gain(view: View, by_item: Mapping[str, object]) -> list[Choice]:
    """The prompts of largest gain, largest loss and median; nothing where no score of a single reply tells the arms apart."""
    name = view.summary.verdict.metric
    sides = [
        score_tables(view.results, view.models.get(arm, [])).get(name) for arm in view.summary.verdict.compare
    ]
    first, second = sides
    if first is None or second is None:
        return []
    items = tuple(sorted({*first.items} & {*second.items} & by_item.keys(), key=_hash))
    seeds = [seed for seed in first.seeds if seed in second.seeds]
    if not items or not seeds:
        return []
    sign = -1.0 if metric(name).direction == "lower" else 1.0
    rows = [
        table.on(items)[[table.seeds.index(seed) for seed in seeds]] for table in (first, second)
    ]  # (seeds, items)
    gains: FloatArray = sign * (rows[0] - rows[1])
    means = gains.mean(0)
    best, worst = int(means.argmax()), int(means.argmin())  # the first of several: of the smallest hash
    median = int(np.argsort(means, kind="stable")[(len(means) - 1) // 2])
    if means[best] == means[worst]:
        return []
    chosen = {median: "median"}
    chosen |= {worst: "largest loss"} if means[worst] < 0 else {}
    chosen |= {best: "largest gain"} if means[best] > 0 else {}
    return [
        Choice(items[place], f"{why}, {_by_seed(gains[:, place])}") for place, why in reversed(chosen.items())
    ]


def _by_seed(gains: FloatArray) -> str:
    told = " ".join(f"{gain:+.2g}" for gain in gains[:MOST_SEEDS])
    more = f" … and {len(gains) - MOST_SEEDS:,} more" if len(gains) > MOST_SEEDS else ""
    return f"{gains.mean():+.2g} (by seed {told}{more})"


def _trials(view: View) -> Iterator[tuple[str, Trial]]:
    """The first trial that generated replies, of the controls, the two arms of the verdict, and as many more as fit."""
    names = [name for name in view.models if name not in view.arms]
    names += [*view.summary.verdict.compare, *view.arms]
    for model in list(dict.fromkeys(names))[:MOST_MODELS]:
        for trial in view.models.get(model, []):
            if view.results.evaluations(trial, "generation"):
                yield model, trial
                break


def _samples(view: View, trials: dict[str, Trial]) -> Iterator[tuple[str, Sample]]:
    for model, trial in trials.items():
        for stage_id in view.results.evaluations(trial, "generation"):
            for row in view.results.rows(stage_id, REPLIES):
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


def _about(sample: Sample) -> Text:
    seed = "" if sample.seed is None else f", seed {sample.seed}"
    cut = "" if sample.stopped else ", cut at the length limit"
    gold = ""
    if sample.gold:
        told = ", ".join(f"{name} {number(value, digits=2)}" for name, value in sample.gold.items())
        gold = f"; gold score by part: {told}"
    return f"{sample.model}{seed}: {sample.num_tokens} tokens{cut}{gold}"


def _hash(item: str) -> str:
    return hashlib.sha256(item.encode("utf-8", "surrogatepass")).hexdigest()
