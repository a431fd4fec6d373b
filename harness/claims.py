"""Published claims for ORPO, each measured here: holds, does not hold, cannot tell, not measured.

The rule of each is in docs/decisions/claims.md. Nothing is judged by a bare mean, and memory only by a device's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from harness.beta_claims import BETA_RANGE, beta_range
from harness.claim_fields import evaluations_of, is_tuned, numbers, panic_status, tried_settings
from harness.config import ArmStage
from harness.contrasts import family_of
from harness.cost_schema import CostQuantity, CostRatio
from harness.costs import cost_ratios
from harness.judgement import judge_arms, rule_of
from harness.learning_schema import TargetSummary
from harness.metrics import BENCHMARK_PREFIX
from harness.results import Results
from harness.scores import Tables
from harness.sentences import SIDE_BY_SIDE, contrast_text, times_text
from harness.summary_schema import Claim, ClaimStatus, ModelSummary, SweepSummary
from harness.sweep_claims import FOOTGUNS, fewer_footguns
from harness.target_claims import ONE_PASS, price_of_target
from pipelines.stages import TrainSettings

HALF_MEMORY = "one stage, half the VRAM"
NO_PANIC = 'no "did the SFT model regress after DPO" panic'
UNDERPERFORMS = "on some preference sets it underperforms a well-tuned DPO"
STRAIGHT_IN = "same dataset, straight in"

OF_ONE_RECIPE = ("useful_beta_range", "same_dataset_straight_in")  # claims that compare no two recipes
HALF_AT_MOST = 0.55  # "half" is not judged to the last percent
BETA_SWEEP = "a sweep over an ORPO arm's beta, such as configs/beta-sweep-toy.yaml"
SWEEP = "a sweep over both arms, such as configs/beta-sweep-toy.yaml"


def claims(
    results: Results,
    tables: Tables,
    models: dict[str, ModelSummary],
    sweep: SweepSummary | None,
    target: TargetSummary | None = None,
    *,
    fair: bool = True,
) -> list[Claim]:
    """Every claim, in a fixed order; a claim that was measured on several cases has several rows.

    Args:
        results: What the run left.
        tables: Scores by model and metric.
        models: Controls and arms with their costs.
        sweep: The points that were tried before; None where nothing was swept.
        target: What the declared target cost; None where none is declared.
        fair: Whether the audit found the arms treated alike: else no recipe is judged against another.
    """
    here = _Here(results, tables, models, sweep, target)
    found = [
        *_half_memory(here),
        _fewer_footguns(here),
        *_no_panic(here),
        *_one_pass(here),
        *_beta_range(here),
        *_underperforms(here),
        *_straight_in(here),
    ]
    return [claim if fair or claim.name in OF_ONE_RECIPE else _withheld(claim) for claim in found]


@dataclass(frozen=True)
class _Here:
    results: Results
    tables: Tables
    models: dict[str, ModelSummary]
    sweep: SweepSummary | None
    target: TargetSummary | None

    @property
    def metric(self) -> str:
        return self.results.plan.comparison.decision.metric

    @cached_property
    def alpha(self) -> float:
        return rule_of(self.results).alpha

    @cached_property
    def arms(self) -> dict[str, list[ArmStage]]:
        """Arms that ran; the two that the verdict is about come first."""
        comparison = self.results.plan.comparison
        ordered = dict.fromkeys([*comparison.decision.compare, *comparison.arms])
        return {name: comparison.arms[name] for name in ordered if name in self.models}

    @cached_property
    def orpo(self) -> list[str]:
        """Arms of one ORPO stage."""
        return [name for name, stages in self.arms.items() if [s.trainer for s in stages] == ["orpo"]]

    @cached_property
    def sft_dpo(self) -> list[str]:
        """Arms of SFT and then DPO."""
        return [name for name, stages in self.arms.items() if [s.trainer for s in stages] == ["sft", "dpo"]]

    @property
    def pair(self) -> tuple[str, str] | None:
        """One arm of each kind, those of the verdict if they are."""
        return (self.orpo[0], self.sft_dpo[0]) if self.orpo and self.sft_dpo else None

    def trained(self, *names: str) -> list[str]:
        """Ids of the stages behind these models' costs."""
        trials = (trial for trial in self.results.plan.trials if trial.name in names)
        return list(dict.fromkeys(stage for trial in trials for stage in trial.billed()))

    def measured(self, *names: str) -> list[str]:
        """Ids of the stages behind these models' scores."""
        return evaluations_of(self.results, *names)

    def ratio(self, first: str, second: str, quantity: CostQuantity) -> CostRatio | None:
        costs = self.models[first].cost, self.models[second].cost
        found = cost_ratios(self.results, *costs, alpha=self.alpha)
        return next((ratio for ratio in found if ratio.quantity == quantity), None)

    def variant(self, arm: str) -> str:
        """The arm with what its memory depends on: ORPO's implementation, DPO's reference."""
        stage_id = next(trial.training[-1] for trial in self.results.plan.trials if trial.name == arm)
        settings = self.results.stage(stage_id).settings
        assert isinstance(settings, TrainSettings)
        return f"{arm} ({settings.implementation or settings.reference or settings.kind})"


def _fewer_footguns(here: _Here) -> Claim:
    found = (
        fewer_footguns(here.results, here.sweep, here.pair, here.alpha) if here.sweep and here.pair else None
    )
    reason = "the share of settings within the margin of the best one needs several settings of each arm"
    return found or _not_measured("fewer_footguns", FOOTGUNS, reason, by=SWEEP)


def _half_memory(here: _Here) -> Iterator[Claim]:
    """A row for each ORPO arm against each SFT-then-DPO arm."""
    pairs = [(orpo, other) for orpo in here.orpo for other in here.sft_dpo]
    if not pairs:
        yield _not_measured("half_the_memory", HALF_MEMORY, "no ORPO arm and SFT-then-DPO arm finished here")
    for orpo, other in pairs:
        case = f"{here.variant(orpo)} against {here.variant(other)}"
        kinds = {here.models[name].cost.peak_memory_kind for name in (orpo, other)}
        ratio = here.ratio(orpo, other, "peak_device_memory_bytes")
        quantity = "the device's own peak memory"
        if ratio is None and kinds == {"cuda_reserved"}:
            ratio = here.ratio(orpo, other, "peak_memory_bytes")
            quantity = "peak memory reserved on the device"
        if ratio is None:
            yield Claim(
                name="half_the_memory",
                claim=HALF_MEMORY,
                case=case,
                status="not measured",
                quantity="",
                reason="no memory of a device was measured; a process's resident memory says nothing of it",
                measured_by="this config on a CUDA device (device: cuda)",
            )
            continue
        status: ClaimStatus = "cannot tell"
        if ratio.high is not None and ratio.high <= HALF_AT_MOST:
            status = "holds"
        elif ratio.low is not None and ratio.low > HALF_AT_MOST:
            status = "does not hold"
        yield Claim(
            **numbers(ratio),
            name="half_the_memory",
            claim=HALF_MEMORY,
            case=case,
            status=status,
            quantity=f"{quantity}, {orpo} over {other}",
            reason=f"holds if the whole interval lies at or below {HALF_AT_MOST}, fails if it lies above",
            evidence=here.trained(orpo, other),
        )


def _no_panic(here: _Here) -> Iterator[Claim]:
    """SFT then DPO, and ORPO, against SFT alone: rows for each capability metric and for the NLL of the chosen replies."""
    name, claim = "no_regression_panic", NO_PANIC
    arms = {of_kind[0]: recipe for recipe, of_kind in (("DPO", here.sft_dpo), ("ORPO", here.orpo)) if of_kind}
    wanted = [
        (key, arm, "sft")
        for arm in arms
        for key in here.tables.get(arm, {})
        if key.startswith(BENCHMARK_PREFIX) or key == "chosen_nll"
    ]
    found = family_of(here.tables, wanted, here.alpha, controls_too=True)
    if not any(arms[contrast.pair[0]] == "DPO" for contrast in found):
        reason = "SFT alone and SFT then DPO were not both measured on a benchmark or on the chosen replies"
        yield _not_measured(
            name, claim, reason, by="controls: [sft], and evaluations.preference or .benchmarks"
        )
    for contrast in found:
        arm = contrast.pair[0]
        yield Claim(
            **numbers(contrast),
            **panic_status(contrast, arms[arm]),
            name=name,
            claim=claim,
            case=f"{arm} against SFT alone on {contrast.metric}",
            reason=(
                "holds where DPO was detected to lose what SFT alone has, or ORPO to gain; fails where DPO was detected to gain, or ORPO "
                "to lose; p corrected by Holm over all rows"
            ),
            evidence=here.measured(arm, "sft"),
        )


def _one_pass(here: _Here) -> Iterator[Claim]:
    """Whether ORPO reaches SFT then DPO's score, to within the margin, in less training time."""
    name, claim = "lands_in_one_pass", ONE_PASS
    if here.pair and any(here.models[arm].cost.relaxed for arm in here.pair):
        yield _not_measured(name, claim, f"training time is {SIDE_BY_SIDE}", by="metering: strict")
        return
    if here.pair:
        compare = here.results.plan.comparison.decision.compare
        yield from price_of_target(here.target, here.pair, compare, here.trained(*here.pair))
    found = family_of(here.tables, [(here.metric, *here.pair)], here.alpha) if here.pair else []
    ratio = here.ratio(*here.pair, "train_seconds") if here.pair else None
    if not here.pair or not found or ratio is None:
        yield _not_measured(
            name, claim, "score and training time of an ORPO arm and an SFT-then-DPO arm are needed"
        )
        return
    contrast, margin = found[0], here.results.plan.comparison.decision.margin
    status: ClaimStatus = "cannot tell"
    if contrast.high is not None and contrast.reason is None:
        lands = contrast.low is not None and contrast.low > -margin
        if (contrast.detected and contrast.difference < 0 and not lands) or (
            ratio.low is not None and ratio.low > 1
        ):
            status = "does not hold"
        elif lands and ratio.high is not None and ratio.high < 1:
            status = "holds"
    tried = tried_settings(here.sweep, *here.pair)
    yield Claim(
        **numbers(ratio),
        name=name,
        claim=claim,
        case=" against ".join(here.pair),
        status=status,
        quantity=f"training time, {here.pair[0]} over {here.pair[1]}",
        reason=(
            f"holds if ORPO is less than {margin:g} below on {here.metric} and took less time, fails if it is worse "
            f"and not so near, or took more: {contrast_text(contrast)}; {times_text(ratio)}; "
            + (tried or "how many settings must be tried to get there was not measured")
        ),
        evidence=[*here.trained(*here.pair), *here.measured(*here.pair)],
        measured_by=None if tried else SWEEP,
    )


def _beta_range(here: _Here) -> list[Claim]:
    found = list(beta_range(here.results, here.tables, here.orpo, here.alpha))
    reason = "no ORPO arms, or points of a sweep, that differ in beta alone, in and outside of the range"
    return found or [_not_measured("useful_beta_range", BETA_RANGE, reason, by=BETA_SWEEP)]


def _underperforms(here: _Here) -> Iterator[Claim]:
    """One data set on which a tuned ORPO loses to a tuned DPO is enough; none on which it does not is."""
    name, claim = "underperforms_somewhere", UNDERPERFORMS
    found = family_of(here.tables, [(here.metric, *here.pair)], here.alpha) if here.pair else []
    several = "several comparisons on different data sets, with both arms tuned on validation prompts in each"
    if not found or here.pair is None:
        yield _not_measured(name, claim, "an ORPO arm and an SFT-then-DPO arm are needed", by=several)
        return
    (contrast,) = found
    worse = judge_arms(here.results, here.tables, here.pair).outcome == here.pair[1]
    tuned = is_tuned(here.sweep, *here.pair)
    holds = worse and tuned
    tried = tried_settings(here.sweep, *here.pair) or tried_settings(here.sweep, here.pair[1])
    margin = here.results.plan.comparison.decision.margin
    below = ", by less than the margin at the estimate" if abs(contrast.difference) < margin else ""
    lost = f"ORPO lost{below}" if worse else "ORPO was not shown to lose"
    yield Claim(
        **numbers(contrast),
        name=name,
        claim=claim,
        case=f"this data set: {' against '.join(contrast.pair)} on {contrast.metric}",
        status="holds" if holds else "cannot tell",
        finding=lost if tuned or not worse else f"{lost}, but not both arms were tuned",
        reason=(
            "holds if the verdict's rule finds ORPO worse and a sweep tuned both arms; one data set on which it does not "
            f"says nothing of others; {tried or 'how well DPO is tuned here is not known'}"
        ),
        evidence=here.measured(*contrast.pair),
        measured_by=None if holds else SWEEP if worse else several,
    )


def _straight_in(here: _Here) -> Iterator[Claim]:
    name, claim = "same_dataset_straight_in", STRAIGHT_IN
    data = here.results.data()
    if data is None:
        yield _not_measured(name, claim, "the data stage did not finish")
        return
    dropped = sum(reason.num_rows for reason in data.dropped)
    changed = dropped + data.num_truncated + data.num_system_merged
    stages = [stage.id for stage in here.results.plan.stages if stage.kind == "data"]
    yield Claim(
        name=name,
        claim=claim,
        case=f"{data.num_rows} rows of the form {data.form}, the same for every arm",
        status="does not hold" if changed else "holds",
        quantity="rows that the loader had to drop or change, of all",
        value=changed / data.num_rows if data.num_rows else None,
        reason=(
            f"holds if no row had to be: {dropped} dropped, {data.num_truncated} cut to fit the window, "
            f"{data.num_system_merged} with the system text moved"
        ),
        evidence=stages,
    )


def _withheld(claim: Claim) -> Claim:
    """The claim without its judgement, where it has one."""
    if claim.status == "not measured":
        return claim
    reason = f"the audit did not find the arms treated alike; {claim.reason}"
    return claim.model_copy(update={"status": "cannot tell", "finding": None, "reason": reason})


def _not_measured(name: str, claim: str, reason: str, *, by: str | None = None) -> Claim:
    return Claim(
        name=name,
        claim=claim,
        case="",
        status="not measured",
        quantity="",
        reason=reason,
        measured_by=by or "a config with an arm of one ORPO stage and an arm of SFT and then DPO",
    )
