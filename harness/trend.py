"""Many nights on one page: metric, cost and verdict by date, and what changed from night to night."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from harness.costs import BY_THE_CLOCK
from harness.forecast.history import beside_measured, read_forecast
from harness.hiding import public
from harness.identity import read_identity
from harness.numbers import NOT_MEASURED, interval, number, ratio_with_interval, with_interval
from harness.report.markdown import render_markdown
from harness.report.page import Block, Bullets, Code, Page, Paragraph, Section, Table, Text
from harness.results import Results, read_results
from harness.sentences import COST_WORDS, SIDE_BY_SIDE, difference_text, outcome_text
from harness.summary import DECLARED_COST, make_summary
from harness.summary_schema import Summary
from pipelines.outcomes import TrainOutcome

RELAXED = " (relaxed)"  # beside seconds and money of stages that ran side by side
# Of a config, what names a night or only counts: no change of what is compared.
UNTOLD = ("name", "seeds", "first_seed")


@dataclass(frozen=True)
class NightResults:
    """One night's results, its numbers, and what they rest on."""

    results: Results

    @cached_property
    def summary(self) -> Summary:
        """Its numbers, computed where the report's are."""
        return make_summary(self.results)

    @cached_property
    def when(self) -> str:
        """The night's date, or the day on which its first stage began."""
        began = (record.started_at for record in self.results.records.values() if record.started_at)
        return self.results.plan.night or min(began, default="unknown")[:10]

    @cached_property
    def circumstances(self) -> dict[str, str]:
        """What could make a night differ from another, by name: config, data, versions, hardware, code."""
        config = self.results.plan.comparison.model_dump(mode="json", by_alias=True)
        found = {f"config {key}": _text(value) for key, value in _flat(config) if key not in UNTOLD}
        data = self.results.data()
        found["data"] = data.content_hash[:12] if data else "unknown"
        records = list(self.results.records.values())
        for library in sorted({name for record in records for name in record.versions}):
            found[f"version {library}"] = _values(
                record.versions.get(library, "absent") for record in records
            )
        for field in ("accelerator", "driver", "processor", "num_cores"):
            found[f"hardware {field}"] = _values(getattr(record.machine, field) for record in records)
        for stage in self.results.plan.stages:
            for module, digest in _code(self.results.folder / stage.id).items():
                found[f"code {module}"] = digest
        return found


def read_nights(folders: list[Path]) -> list[NightResults]:
    """The results of several folders, oldest first.

    Raises:
        UserError: one is no results folder, or damaged.
    """
    return sorted((NightResults(read_results(folder)) for folder in folders), key=lambda night: night.when)


def trend_page(nights: list[NightResults]) -> str:
    """The page, in Markdown.

    Args:
        nights: Oldest first, at least one.
    """
    title = f"Trend of {len(nights)} {'nights' if len(nights) > 1 else 'night'}"
    sections = [
        Section("Verdict by date", [_verdicts(nights)]),
        Section("Metric by date", [_metrics(nights)]),
        Section("Cost by date", [_costs(nights)]),
        Section("Forecast by date", [_forecasts(nights)]),
        Section(
            "What changed", [Bullets(list(_changes(nights))) if len(nights) > 1 else Paragraph("One night.")]
        ),
        Section("Measured again", [Bullets(list(_repeats(nights)))]),
    ]
    lines = [
        (f"{nights[-1].when}", f"{outcome_text(nights[-1].summary)}: {difference_text(nights[-1].summary)}")
    ]
    return render_markdown(Page(name="trend", title=title, lines=lines, sections=sections))


def _verdicts(nights: list[NightResults]) -> Table:
    rows = []
    for night in nights:
        verdict = night.summary.verdict
        rows.append(
            (
                night.when,
                verdict.outcome,
                f"{' minus '.join(verdict.compare)} on {verdict.metric}",
                with_interval(verdict.difference, verdict.low, verdict.high, signed=True),
                interval(verdict.low, verdict.high, signed=True),
                str(verdict.num_seeds),
                Code(night.results.folder.name),
            )
        )
    return Table(
        ["date", "outcome", "of", "difference", "interval", "seeds", "results"],
        rows,
        align="lllrrrl",
        caption="Differences are turned so that more is better.",
    )


def _metrics(nights: list[NightResults]) -> Table:
    metric = nights[-1].summary.verdict.metric
    models = list(dict.fromkeys(name for night in nights for name in night.summary.models()))

    def shown(night: NightResults, model: str) -> str:
        summary = night.summary.models().get(model)
        found = summary.metrics.get(metric) if summary else None
        if found is None:
            return "not measured"
        mean = with_interval(found.mean, found.low, found.high)
        return mean if found.low is None else f"{mean} ({interval(found.low, found.high)})"

    rows = [(night.when, *(shown(night, model) for model in models)) for night in nights]
    return Table(["date", *models], rows, caption=f"{metric}: mean with its 95 % interval.")


def _costs(nights: list[NightResults]) -> Table:
    quantity = DECLARED_COST[nights[-1].results.plan.comparison.decision.cost]
    arms = list(dict.fromkeys(name for night in nights for name in night.summary.arms))

    def shown(night: NightResults, arm: str) -> str:
        found = night.summary.arms.get(arm)
        if found is None:
            return "not measured"
        spoilt = quantity in BY_THE_CLOCK and found.cost.relaxed
        return number(getattr(found.cost, quantity)) + RELAXED * spoilt

    def ratio(night: NightResults) -> str:
        found = next((each for each in night.summary.cost_ratios if each.quantity == quantity), None)
        if found is None:
            return "not measured"
        _, within = ratio_with_interval(found.ratio, found.low, found.high)
        bounds = "" if found.low is None else f" ({within})"
        return number(found.ratio) + bounds + RELAXED * found.relaxed

    pairs = [" / ".join(night.summary.verdict.compare) for night in nights]
    rows = [
        (night.when, *(shown(night, arm) for arm in arms), ratio(night), pair)
        for night, pair in zip(nights, pairs, strict=True)
    ]
    words = COST_WORDS[quantity].removeprefix("the ")
    return Table(
        ["date", *arms, "ratio", "of"],
        rows,
        caption=f"{words}, {quantity}: means over seeds; the ratio paired by seed, with its interval."
        + f" Relaxed: {SIDE_BY_SIDE}." * any(RELAXED in cell for row in rows for cell in row),
    )


def _forecasts(nights: list[NightResults]) -> Block:
    """Measured over forecast of what each night measured anew."""
    rows = []
    for night in nights:
        forecast = read_forecast(night.results.folder)
        found = beside_measured(forecast, night.results.records.get) if forecast else []
        alone = [one for one in found if not one.relaxed]  # the others' seconds say nothing of a forecast
        inside = sum(
            one.forecast_seconds.low <= one.measured_seconds <= one.forecast_seconds.high for one in alone
        )
        if found:
            rows.append(
                (
                    night.when,
                    *_spread_of([ratio for one in found if (ratio := one.memory_ratio) is not None]),
                    *_spread_of([one.seconds_ratio for one in alone]),
                    f"{inside} of {len(alone)}",
                )
            )
    if not rows:
        return Paragraph("No night has a forecast beside its records.")
    return Table(
        ["date", "peak memory", "from", "to", "train s", "from", "to", "inside its range"],
        rows,
        caption="Measured over forecast of each night's own training stages: median, lowest and highest; the last column "
        "counts the stages whose seconds lie in their forecast's range.",
    )


def _spread_of(ratios: list[float]) -> tuple[str, str, str]:
    if not ratios:
        return NOT_MEASURED, "", ""
    return number(median(ratios)), number(min(ratios)), number(max(ratios))


def _changes(nights: list[NightResults]) -> Iterator[Text]:
    """What differs between a night and the one before it."""
    for before, night in itertools.pairwise(nights):
        old, new = before.circumstances, night.circumstances
        differing = [key for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)]
        if not differing:
            yield f"{night.when}: nothing that is known of"
        for key in differing:
            if key.startswith("code "):
                yield (f"{night.when}: ", Code(key))
            else:
                yield (
                    f"{night.when}: ", Code(key), ": ", Code(old.get(key, "absent")), " became ",
                    Code(new.get(key, "absent")),
                )  # fmt: skip


def _repeats(nights: list[NightResults]) -> Iterator[str]:
    """Whether training that was measured again came out the same: the same weights to the bit."""
    first: dict[str, str] = {}
    runs: set[tuple[str, str]] = set()
    any_told = False
    for night in nights:
        same = other = 0
        for key, started_at, digest in _trainings(night.results):
            if (key, started_at) in runs:  # not measured again, but taken over
                continue
            runs.add((key, started_at))
            if key in first:
                same, other = same + (digest == first[key]), other + (digest != first[key])
            first.setdefault(key, digest)
        if same or other:
            any_told = True
            yield (
                f"{night.when}: of {same + other} trainings that an earlier night had as well, {same} gave the same "
                f"weights to the bit, {other} did not"
            )
    if not any_told:
        yield "no training was measured more than once"


def _trainings(results: Results) -> Iterator[tuple[str, str, str]]:
    """For each distinct training: what it is (trial, place and settings), when it ran, and its weights' hash."""
    told: set[str] = set()
    for trial in results.plan.trials:
        for place, stage_id in enumerate(trial.billed()):
            record = results.done(stage_id)
            if record is None or not isinstance(record.outcome, TrainOutcome) or stage_id in told:
                continue
            told.add(stage_id)
            settings = record.stage.settings.model_dump_json()
            key = f"{trial.label()} {place} {settings}"
            yield key, record.started_at, record.outcome.weights_hash


def _code(folder: Path) -> dict[str, str]:
    code = read_identity(folder).get("code")
    return code if isinstance(code, dict) else {}


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        for place, inner in enumerate(value):
            yield from _flat(inner, f"{prefix}.{place}")
    else:
        yield prefix, value


def _values(values: Any) -> str:
    return ", ".join(sorted({str(value) for value in values}))


def _text(value: Any) -> str:
    return public(json.dumps(value, ensure_ascii=False))
