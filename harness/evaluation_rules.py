"""Combinations of keys under `evaluations` that cannot be meant, each with the key to change."""

from __future__ import annotations

from urllib.parse import urlsplit

from harness.budget_rules import Broken
from harness.config import Comparison
from harness.lm_eval_arguments import broken_benchmark_rules
from pipelines.data.sources import TOY
from pipelines.judge_settings import CommandJudge, LlmJudge, RewardModelJudge


def broken_evaluation_rules(comparison: Comparison) -> Broken:
    """Key and what is wrong with it, for the groups of evaluations and the judges."""
    yield from _groups(comparison)
    yield from _judges(comparison)


def _groups(comparison: Comparison) -> Broken:
    groups = comparison.evaluations
    for name in ("preference", "generation", "drift"):
        group = getattr(groups, name)
        if group and group.split == "validation" and not comparison.data.validation_share:
            yield f"evaluations.{name}.split", "must not be validation while data.validation_share is 0."
    chooses = "sweep" if comparison.sweep else "training.select: best_validation"
    if comparison.sweep or comparison.training.select == "best_validation":
        for name in ("preference", "generation"):
            group = getattr(groups, name)
            if group and group.split == "validation":
                yield (
                    f"evaluations.{name}.split",
                    f"must not be validation with {chooses}: what was chosen on these pairs would be reported on them.",
                )
    if groups.preference and groups.preference.train_items and groups.preference.split == "train":
        yield (
            "evaluations.preference.train_items",
            "must not be given with `split: train`: those pairs are scored.",
        )
    if groups.generation and "gold" in groups.generation.judges and comparison.data.path != TOY:
        yield (
            "evaluations.generation.judges",
            f"must not name gold: it scores toy data only, got data.path {comparison.data.path!r}.",
        )
    generation = groups.generation
    if generation and not generation.sampled and "temperature" in generation.model_fields_set:
        yield "evaluations.generation.temperature", "must not be given without `sampled: true`."
    if groups.benchmarks:
        for key, wrong in broken_benchmark_rules(groups.benchmarks):
            yield f"evaluations.benchmarks.{key}", wrong


def _judges(comparison: Comparison) -> Broken:
    generation, judges = comparison.evaluations.generation, comparison.evaluations.judges
    if judges and generation is None:
        yield (
            "evaluations.judges",
            "must not be given without evaluations.generation: judges read stored replies.",
        )
        return
    for place, judge in enumerate(judges):
        key = f"evaluations.judges.{place}"
        if judge.name in [other.name for other in judges[:place]]:
            yield f"{key}.name", f"must be another than every other judge's, got {judge.name!r} twice."
        if judge.replies == "sampled" and generation and not generation.sampled:
            yield f"{key}.replies", "must not be sampled unless evaluations.generation.sampled is true."
        if judge.kind == "gold" and comparison.data.path != TOY:
            yield (
                f"{key}.kind",
                f"must not be gold: it scores toy data only, got data.path {comparison.data.path!r}.",
            )
        if isinstance(judge, RewardModelJudge) and judge.model == TOY and comparison.data.path != TOY:
            yield (
                f"{key}.model",
                f"must not be toy unless data.path is toy, got data.path {comparison.data.path!r}.",
            )
        if isinstance(judge, CommandJudge):
            for number, argument in enumerate(judge.command):
                if "\0" in argument:
                    yield f"{key}.command.{number}", f"must hold no NUL character, got {argument!r}."
        if isinstance(judge, LlmJudge):
            yield from _endpoint(key, judge)


def _endpoint(key: str, judge: LlmJudge) -> Broken:
    # What is wrong with it is not shown: it may hold a key.
    try:
        url = urlsplit(judge.base_url)
        _ = url.port
    except ValueError:
        yield f"{key}.base_url", "must be a URL with a port that is a number."
        return
    if url.scheme not in ("http", "https") or not url.hostname:
        yield f"{key}.base_url", "must begin with http:// or https:// and a host."
    elif not judge.base_url.isascii() or not judge.base_url.isprintable() or " " in judge.base_url:
        yield (
            f"{key}.base_url",
            "must be ASCII without spaces: another character is written as %20 in the path, as xn--... in the host.",
        )
    elif not _is_host(url.hostname):
        yield f"{key}.base_url", "must have a host whose parts between dots have 1 to 63 characters."
    elif "@" in url.netloc or url.query or url.fragment:
        yield (
            f"{key}.base_url",
            "must hold no user, password or query: name the key's variable in api_key_env.",
        )
    taken = sorted({"model", "messages", "stream", "n", "best_of"} & judge.parameters.keys())
    if taken:
        yield f"{key}.parameters", f"must not hold {', '.join(taken)}: the judge sets them."
    if judge.most_answer_tokens is None:
        yield f"{key}.parameters", "must hold max_tokens or max_completion_tokens, a whole number above 0."


def _is_host(name: str) -> bool:
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return True
