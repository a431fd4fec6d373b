"""From a judge's settings to the object that judges. Each kind is imported when it is needed."""

from __future__ import annotations

from pathlib import Path

from harness.evaluation.judges.interface import ComparingJudge, ScoringJudge
from harness.keeping import WEIGHTS
from pipelines.judge_settings import CommandJudge, LlmJudge, PluginJudge, RewardModelJudge
from pipelines.stages import JudgeSettings, Observer, Stage


def make_judge(stage: Stage, folder: Path, observer: Observer) -> ScoringJudge | ComparingJudge:
    """The judge of a stage.

    Args:
        stage: A judge's stage.
        folder: Its folder.
        observer: Told of progress.

    Raises:
        PipelineError: it cannot be made.
    """
    assert isinstance(stage.settings, JudgeSettings)
    settings = stage.settings.judge
    if isinstance(settings, CommandJudge):
        from harness.evaluation.judges.command import Command

        return Command(settings, folder)
    if isinstance(settings, PluginJudge):
        from harness.evaluation.judges.plugin import load_plugin

        return load_plugin(settings)
    if isinstance(settings, LlmJudge):
        from harness.evaluation.judges.llm import Llm

        return Llm(settings, folder.parent, observer.progress)
    if isinstance(settings, RewardModelJudge):
        from harness.evaluation.judges.reward_model import RewardModel

        trained = folder.parent / stage.inputs.reward / WEIGHTS if stage.inputs.reward else None
        return RewardModel(settings, trained, stage.device, observer.progress)
    from harness.evaluation.judges.gold import Gold

    return Gold()
