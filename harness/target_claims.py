"""What the declared target says of "lands in one pass": whether ORPO is as good earlier than SFT then DPO is."""

from __future__ import annotations

from collections.abc import Iterator

from harness.learning_schema import TargetReached, TargetSummary
from harness.summary_schema import Claim, ClaimStatus

ONE_PASS = "lands in one pass"
RULE = (
    "holds if every seed of ORPO reached it, and no seed of the other arm did or ORPO surely took less training time; fails if no seed of "
    "ORPO reached it and every one of the other arm did, or ORPO surely took more"
)


def price_of_target(
    target: TargetSummary | None,
    pair: tuple[str, str],
    compare: tuple[str, str],
    evidence: list[str],
) -> Iterator[Claim]:
    """A row on the time to the target; none where none was declared, or an arm of the pair has no finished seed.

    Args:
        target: What it cost each arm; its ratio is that of `compare`.
        pair: The ORPO arm, then the other.
        compare: The verdict's arms.
        evidence: Ids of the stages behind the number.
    """
    if target is None or any(name not in target.arms for name in pair) or set(pair) != set(compare):
        return
    orpo, other = (target.arms[name] for name in pair)
    ratio = target.ratio
    value, low, high = (ratio.mean, ratio.low, ratio.high) if ratio else (None, None, None)
    if pair != compare and value is not None:
        value, low, high = 1 / value, high and 1 / high, low and 1 / low
    told = "; ".join(f"{name} {_told(target.arms[name])}" for name in pair)
    yield Claim(
        name="lands_in_one_pass",
        claim=ONE_PASS,
        case=f"{target.metric} of {target.value:g} on validation pairs, {' against '.join(pair)}",
        status=_status(orpo, other, low, high),
        quantity=f"training time until the target, {pair[0]} over {pair[1]}" if value is not None else "",
        value=value,
        low=low,
        high=high,
        num_seeds=target.num_seeds,
        reason=f"{RULE}: {told}",
        evidence=evidence,
    )


def _status(orpo: TargetReached, other: TargetReached, low: float | None, high: float | None) -> ClaimStatus:
    several = all(len(arm.by_seed) + len(arm.not_reached) > 1 for arm in (orpo, other))
    if not several:
        return "cannot tell"
    if not orpo.not_reached and (not other.by_seed or (high is not None and high < 1)):
        return "holds"
    if not other.not_reached and (not orpo.by_seed or (low is not None and low > 1)):
        return "does not hold"
    return "cannot tell"


def _told(arm: TargetReached) -> str:
    return f"reached it in {len(arm.by_seed)} of {len(arm.by_seed) + len(arm.not_reached)} seeds"
