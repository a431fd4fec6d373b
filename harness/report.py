"""Writes `reports/NAME.md` and its figures from a results folder alone: same results, same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from harness import report_settings, report_tables
from harness.figures import LossCurve, draw_losses, draw_quality
from harness.hostile import escaped, fenced
from harness.metrics import METRICS
from harness.recommendation import ratio_texts, verdict_lines
from harness.records import LOSSES
from harness.replies import RULE, replies_text
from harness.results import Results, read_results
from harness.summary import make_summary
from harness.summary_schema import Summary
from pipelines.stages import TrainSettings

__all__ = ["verdict_lines", "write_report"]

TEMPLATES = Path(__file__).parent / "templates"
TEMPLATE = "report.md.j2"
DIRTY = "-dirty"  # what harness.machine puts after a commit with changes
CONFIG_CHARACTERS, CONFIG_LINES = 20_000, 400


def write_report(folder: Path, reports: Path) -> Path:
    """Write the report of one comparison.

    Args:
        folder: The results folder; it is only read.
        reports: Gets `NAME.md` and the folder `NAME` with the figures.

    Returns:
        The page.

    Raises:
        UserError: `folder` is not a results folder, or a file in it is damaged.
    """
    results = read_results(folder)
    summary = make_summary(results)
    name = results.plan.comparison.name
    figures = reports / name
    for old in ("quality", "losses"):
        for suffix in (".svg", ".png"):
            (figures / f"{old}{suffix}").unlink(missing_ok=True)
    quality = draw_quality(summary, figures)
    losses = draw_losses(_loss_curves(results), figures)
    page = reports / f"{name}.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(_render(results, summary, quality=quality, losses=losses), encoding="utf-8", newline="\n")
    return page


def _render(results: Results, summary: Summary, *, quality: str | None, losses: str | None) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown: every value is made safe by harness.hostile before it comes here
    )
    config = fenced(
        report_settings.config_text(results), limit=CONFIG_CHARACTERS, max_lines=CONFIG_LINES
    ).replace("text\n", "yaml\n", 1)
    commits = [record.git_commit for record in results.records.values() if record.git_commit]
    return environment.get_template(TEMPLATE).render(
        summary=summary,
        name=summary.comparison,
        compare=[escaped(name) for name in summary.verdict.compare],
        lines=[escaped(line) for line in verdict_lines(summary)],
        ratios=[escaped(text) for text in ratio_texts(summary)],
        doubts=[escaped(doubt) for doubt in summary.doubts],
        tables=report_tables,
        settings=report_settings,
        results=results,
        formulas={key: METRICS[key].formula for key in METRICS if _has(summary, key)},
        quality=quality and escaped(quality),
        losses=losses and escaped(losses),
        replies=replies_text(results),
        reply_rule=RULE,
        config=config,
        commits=sorted({commit.removesuffix(DIRTY) for commit in commits}),
        uncommitted=any(commit.endswith(DIRTY) for commit in commits),
    )


def _has(summary: Summary, name: str) -> bool:
    return any(name in model.metrics for model in summary.models().values())


def _loss_curves(results: Results) -> Iterator[LossCurve]:
    """A curve for each training stage of each arm and seed that left losses, also where it failed later."""
    for style, (arm, trials) in enumerate(results.models().items()):
        if trials[0].role != "arm":
            continue
        for trial in trials:
            for place, stage_id in enumerate(trial.training, start=1):
                settings = results.stage(stage_id).settings
                assert isinstance(settings, TrainSettings)
                rows = [row for row in results.rows(stage_id, LOSSES) if row.get("loss") is not None]
                yield LossCurve(
                    style=style,
                    panel=f"{arm}: {place}. {settings.kind}",
                    pairs=[float(row["step"] * settings.effective_batch) for row in rows],
                    losses=[float(row["loss"]) for row in rows],
                )
