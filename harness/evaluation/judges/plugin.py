"""A judge that an installed package brings."""

from __future__ import annotations

from harness.evaluation.judges.interface import ComparingJudge, ScoringJudge
from harness.judge_plugins import GROUP, find_plugin
from pipelines.errors import PipelineError
from pipelines.judge_settings import PluginJudge


def load_plugin(settings: PluginJudge) -> ScoringJudge | ComparingJudge:
    """Load the entry point and call it with the options.

    Raises:
        PipelineError: it is not installed, does not load, or makes no judge.
    """
    where = f"judge {settings.name}"
    point = find_plugin(settings.plugin)
    if point is None:
        raise PipelineError(f"{where}: no installed package has {settings.plugin!r} in {GROUP}")
    try:
        made = point.load()(dict(settings.options))
    except Exception as error:
        said = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        raise PipelineError(f"{where}: {point.value} does not load: {said}") from error
    if not isinstance(made, ScoringJudge | ComparingJudge):
        raise PipelineError(f"{where}: {point.value} made an object with neither `score` nor `compare`")
    return made
