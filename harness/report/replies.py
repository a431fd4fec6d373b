"""Sample replies: which prompts, and whose replies, is chosen by a rule that no one can bend."""

from __future__ import annotations

import hashlib
from collections.abc import Set
from dataclasses import dataclass

import numpy as np

from harness.intervals import FloatArray
from harness.metrics import metric
from harness.numbers import number
from harness.plan import Trial
from harness.records import REPLIES
from harness.report.figures import first_of
from harness.report.page import Block, Heading, Listing, Paragraph, Reply, Section, SideBySide, Text
from harness.report.view import View
from harness.scores import score_tables
from harness.verdict import places

TITLE = "Replies"
NUM_PROMPTS = 3
GOLD = "gold_score"
MOST_MODELS, MOST_SEEDS = 6, 12
BY_HASH = (
    "The prompts are those whose item ids have the smallest SHA-256, as the primary metric does not tell the arms' answers to "
    "single prompts apart. Greedy replies of each model's first finished seed."
)


@dataclass(frozen=True)
class Sample:
    """One greedy reply of one model.

    Attributes:
        gold: The gold score's parts, by name.
        total: The gold score.
    """

    model: str
    seed: int | None
    prompt: str
    reply: str
    num_tokens: int
    stopped: bool
    gold: dict[str, float] | None
    total: float | None


@dataclass(frozen=True)
class Choice:
    """A prompt, why it is on the page, and the seed whose replies show it; None: each model's first finished seed."""

    item: str
    why: str
    seed: int | None = None


def replies_section(view: View) -> Section:
    """The same prompts answered by every model, greedily, side by side."""
    answered = _answered(view)
    shown = list(answered)[:MOST_MODELS]
    first = [_samples(view, model, answered[model][0]) for model in shown]
    items = {item for samples in first for item in samples}
    if not items:
        return Section(TITLE, [Paragraph("Not measured: no replies were generated.")])
    choices = _by_gain(view, items)
    rule = _rule(view) if choices else BY_HASH
    blocks: list[Block] = [Paragraph(f"{rule}{first_of(MOST_MODELS, len(answered), 'models')}")]
    for choice in choices or [Choice(item, "by hash") for item in sorted(items, key=_hash)[:NUM_PROMPTS]]:
        samples = [
            sample
            for model in shown
            if (sample := _samples(view, model, _trial(answered[model], choice.seed)).get(choice.item))
        ]
        if not samples:  # the seed's file of replies is gone
            continue
        blocks += [
            Heading(f"Prompt: {choice.why}"),
            Listing(view.shown(samples[0].prompt)),
            SideBySide([Reply(_about(sample), Listing(view.shown(sample.reply))) for sample in samples]),
        ]
    return Section(TITLE, blocks)


def _rule(view: View) -> str:
    first, second = view.summary.verdict.compare
    return (
        f"Chosen by {view.summary.verdict.metric}, {first} minus {second}, mean over the seeds that both finished: the "
        f"prompt with the largest gain of {first}, the one with its largest loss, and the median one; ties go to the item id "
        "with the smallest SHA-256. Greedy replies of the seed whose own difference is nearest to that mean, of those that point its way."
    )


def _by_gain(view: View, answered: Set[str]) -> list[Choice]:
    """The prompts of largest gain, largest loss and median; nothing where no score of a single reply tells the arms apart."""
    name = view.summary.verdict.metric
    sides = [
        score_tables(view.results, view.models.get(arm, [])).get(name) for arm in view.summary.verdict.compare
    ]
    first, second = sides
    if first is None or second is None:
        return []
    items = tuple(sorted({*first.items} & {*second.items} & answered, key=_hash))
    seeds = [seed for seed in first.seeds if seed in second.seeds]
    if not items or not seeds:
        return []
    sign = -1.0 if metric(name).direction == "lower" else 1.0
    rows = [table.on(items)[places(table.seeds, seeds)] for table in (first, second)]  # (seeds, items)
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
        Choice(items[place], f"{why}, {_by_seed(gains[:, place])}", seeds[_typical(gains[:, place])])
        for place, why in reversed(chosen.items())
    ]


def _typical(gains: FloatArray) -> int:
    """The seed nearest to the mean, the first of several; one that gains where the mean does, and loses where it does."""
    mean = gains.mean()
    other_way = (gains * mean <= 0) & (mean != 0)
    return int(np.where(other_way, np.inf, np.abs(gains - mean)).argmin())


def _by_seed(gains: FloatArray) -> str:
    told = " ".join(f"{gain:+.2g}" for gain in gains[:MOST_SEEDS])
    more = f" … and {len(gains) - MOST_SEEDS:,} more" if len(gains) > MOST_SEEDS else ""
    return f"{gains.mean():+.2g} (by seed {told}{more})"


def _answered(view: View) -> dict[str, list[Trial]]:
    """The trials that generated replies: of the controls, the two arms of the verdict, then of the others."""
    names = [name for name in view.models if name not in view.arms]
    names += [*view.summary.verdict.compare, *view.arms]
    found = {
        model: [
            trial for trial in view.models.get(model, []) if view.results.evaluations(trial, "generation")
        ]
        for model in names
    }
    return {model: trials for model, trials in found.items() if trials}


def _trial(trials: list[Trial], seed: int | None) -> Trial:
    """The trial with this seed; the first where there is none, as of a base that all seeds share."""
    return next((trial for trial in trials if trial.seed == seed), trials[0])


def _samples(view: View, model: str, trial: Trial) -> dict[str, Sample]:
    """The trial's greedy replies by item."""
    found: dict[str, Sample] = {}
    for stage_id in view.results.evaluations(trial, "generation"):
        scores = view.results.items[stage_id].get(GOLD)
        totals = {} if scores is None else dict(zip(scores.items, scores.values.tolist(), strict=True))
        for row in view.results.rows(stage_id, REPLIES):
            if row["temperature"] == 0:
                item = str(row["item"])
                found[item] = Sample(
                    model=model,
                    seed=trial.seed,
                    prompt=row["prompt"],
                    reply=row["reply"],
                    num_tokens=row["num_tokens"],
                    stopped=row["stopped"],
                    gold=row["gold"],
                    total=totals.get(item),
                )
    return found


def _about(sample: Sample) -> Text:
    seed = "" if sample.seed is None else f", seed {sample.seed}"
    cut = "" if sample.stopped else ", cut at the length limit"
    gold = ""
    if sample.gold:
        told = ", ".join(f"{name} {number(value, digits=2)}" for name, value in sample.gold.items())
        total = "" if sample.total is None else f" {number(sample.total, digits=2)},"
        gold = f"; gold score{total} by part: {told}"
    return f"{sample.model}{seed}: {sample.num_tokens} tokens{cut}{gold}"


def _hash(item: str) -> str:
    return hashlib.sha256(item.encode("utf-8", "surrogatepass")).hexdigest()
