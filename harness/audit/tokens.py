"""Checks on what the models received: pairs, ids, positions of the loss, order, ends, and nothing of the test split."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from harness.audit.case import Case, Trained, covers_prompt
from harness.audit.checks import RECORDED, Check, judged, not_applicable, warned
from harness.audit.prepared import ABSENT, Index, PreparedPairs
from harness.audit.received import Examples, Received
from harness.rows import BATCHES, PAIRS
from pipelines.data.splitting import share_of

NOT_RECORDED = f"no finished stage has a {BATCHES} beside a data stage with hashes"


def recorded(case: Case) -> Check:
    """Whether it is known what each model received."""
    name = RECORDED
    if not case.trained:
        return not_applicable(name, "no training stage finished")
    lost = [text for stage in case.trained if (text := _lost(case, stage))]
    if lost:
        return judged(name, lost, "")
    missing = [stage.label for stage in case.trained if stage.received is None]
    if missing:
        return warned(name, [f"what the model received was not recorded in {stage}" for stage in missing], "")
    sampled = [stage.label for stage in case.trained if stage.sampled]
    return warned(
        name,
        [
            f"only every 16th step was recorded in {stage}, and the checks of what it received rest on those"
            for stage in sampled
        ],
        f"every micro-batch of {len(case.trained)} training stages",
    )


def _lost(case: Case, stage: Trained) -> str | None:
    """What is missing of what the stage's recorder left; None if nothing is, or there was no recorder yet."""
    if stage.received is not None:
        return _cut(stage, stage.received)
    if stage.outcome.num_rows is None:  # in every outcome since there is a recorder
        return None
    data = stage.record.stage.inputs.trained_on
    if case.prepared(data) is None:
        return f"{stage.label}: {data}/{PAIRS}, which it would be held against, is empty or not there"
    return f"{stage.label}: its {BATCHES} is empty or not there, though its recorder ran"


def _cut(stage: Trained, received: Received) -> str | None:
    pairs, steps = stage.outcome.num_pairs_seen, stage.outcome.num_steps
    sequences = pairs if stage.settings.kind == "sft" else 2 * pairs
    found = received.num_sequences, len(received.order), len(received.steps)
    if stage.sampled or found == (sequences, pairs, steps):
        return None
    return "{}: its {} has {} sequences of {} pairs in {} steps, the model got {} of {} in {}".format(
        stage.label, BATCHES, *found, sequences, pairs, steps
    )


def same_pairs(case: Case) -> Check:
    """Every trainer had the prepared training pairs, all of them, and the model got none more than once more than another."""
    name, problems = "same_pairs", []
    if not case.recorded:
        return not_applicable(name, NOT_RECORDED)
    for stage, received in case.recorded:
        replies = (
            "with a rejected reply" if stage.settings.kind == "sft" else "with one of their replies alone"
        )
        one_sided = received.one_sided.told(f"pairs came {replies}", len(received.order))
        problems += [f"{stage.label}: {text}" for text in one_sided]
        expected = _prepared_order(case, stage)
        if stage.outcome.num_rows not in (None, len(expected)):
            problems.append(
                f"{stage.label}: {stage.outcome.num_rows} rows in its trainer, {len(expected)} prepared"
            )
        elif not stage.sampled and not received.num_unknown:
            problems += _more_or_less_often(stage, expected, np.asarray(received.order))
    by_number = ", by their number alone where steps were sampled" if case.by_sample else ""
    return judged(name, problems, f"the prepared training pairs in {len(case.recorded)} stages{by_number}")


def _more_or_less_often(
    stage: Trained, expected: NDArray[np.int32], order: NDArray[np.int32]
) -> Iterator[str]:
    whole, started = divmod(len(order), len(expected))
    most = whole + bool(started)  # of an epoch that was not finished some pairs came, some did not
    num_pairs = int(max(expected.max(), order.max())) + 1
    wanted, got = np.bincount(expected, minlength=num_pairs), np.bincount(order, minlength=num_pairs)
    unequal = np.count_nonzero((got < wanted * whole) | (got > wanted * most))
    if unequal:
        yield (
            f"{stage.label}: {unequal} of {np.count_nonzero(wanted)} prepared pairs came more or less often than the others"
        )


def same_ids(case: Case) -> Check:
    """Every sequence is one that the data stage prepared, token by token."""
    return _examples(case, "same_ids", "ids", "sequences are not as prepared", "every sequence as prepared")


def one_end_of_turn(case: Case) -> Check:
    """Every reply ends in exactly one end-of-turn token."""
    name = "one_end_of_turn"
    open_ended = [
        f"{data}: {len(places)} of {len(prepared)} pairs were prepared without exactly one at each reply's end "
        f"(first: pair {prepared.uid(places[0])})"
        for data, prepared in _data(case).items()
        if len(places := np.flatnonzero(~prepared["closed"]))
    ]
    if open_ended:
        return judged(name, open_ended, "")
    return _examples(
        case, name, "ends", "sequences do not have exactly one end-of-turn token", "one in every reply"
    )


def no_empty_completion(case: Case) -> Check:
    """The loss covers something of every sequence."""
    return _examples(
        case, "no_empty_completion", "empty", "sequences have nothing that the loss covers", "none is empty"
    )


def same_masks(case: Case) -> Check:
    """The loss covers the positions that the settings say; where the arms' settings differ, that is a warning."""
    name = "same_masks"
    if not case.recorded:
        return not_applicable(name, NOT_RECORDED)
    problems = [
        f"{stage.label}: {text}"
        for stage, received in case.recorded
        for text in received.masks.told("sequences have the loss elsewhere", received.num_sequences)
    ]
    if problems:
        return judged(name, problems, "")
    unseen = [stage.label for stage, received in case.recorded if received.unknown_masks]
    whole = [stage for stage, _ in case.recorded if covers_prompt(stage.settings)]
    others = [stage for stage, _ in case.recorded if stage.settings.kind != "dpo" and stage not in whole]
    warnings = [f"{label}: the trainer's labels were not seen" for label in unseen]
    if whole and others:
        kinds = sorted({f"{stage.arm}: {stage.settings.kind}" for stage in whole})
        warnings.append(
            f"by their settings, the likelihood covers the prompt, too, in {', '.join(kinds)}; elsewhere the completion alone"
        )
    passed = "as the settings say" if whole else "the completion in every sequence"
    return warned(name, warnings, f"{passed}{case.by_sample}")


def same_order(case: Case) -> Check:
    """With one seed, pairs come in one order in every stage of every arm."""
    name, problems, compared = "same_order", [], 0
    by_seed: dict[tuple[object, ...], list[tuple[Trained, Received]]] = {}
    for stage, received in case.recorded:
        if _has_all_pairs(case, stage, received):
            # Samples are of the same steps, which have the same pairs where they are as large.
            step = received.step_sizes[0] if stage.sampled else None
            data = stage.record.stage.inputs.trained_on, stage.settings.share
            by_seed.setdefault((stage.seed, *data, step), []).append((stage, received))
    for stages in by_seed.values():
        first, of_first = stages[0]
        for stage, received in stages[1:]:
            compared += 1
            place = _first_difference(of_first, received)
            if place is not None:
                among = " of those recorded" if stage.sampled else ""
                problems.append(
                    f"{stage.label}: pair number {place + 1}{among} is another than in {first.label}"
                )
    if not compared:
        return not_applicable(
            name, "fewer than two stages of a seed are known to have received the same pairs"
        )
    return judged(
        name, problems, f"the same in {compared + len(by_seed)} stages, seed by seed{case.by_sample}"
    )


def _has_all_pairs(case: Case, stage: Trained, received: Received) -> bool:
    """Among other pairs there is no one order; whether they are the same is the matter of other checks."""
    expected, order = _prepared_order(case, stage), np.asarray(received.order)
    known = bool(np.isin(order, expected).all())
    return known and stage.outcome.num_rows in (None, len(expected))


def no_test_prompt(case: Case) -> Check:
    """No prompt of the test split was trained on, neither as it is nor but for case, spacing and a closing mark."""
    name, problems = "no_test_prompt_in_training", []
    data = _data(case)
    if not data:
        return not_applicable(name, NOT_RECORDED)
    for data_id, prepared in data.items():
        for key, words in (
            ("prompt", "as it is"),
            ("prompt_normalised", "but for case, spacing or its closing mark"),
        ):
            # Each against all: SFT may have a data set of its own.
            both = _tested_and_trained_on(list(data.values()), prepared, key)
            if both.count:
                problems.append(
                    f"{data_id}: {both.count} test prompts are in the training split {words} (first: {both.first})"
                )
                break
    problems += [
        f"{stage.label}: {text}"
        for stage, received in case.recorded
        for text in received.from_test.told("sequences are of the test split", received.num_sequences)
    ]
    return judged(name, problems, f"no test prompt among the training pairs{case.by_sample}")


def _tested_and_trained_on(tested: list[PreparedPairs], prepared: PreparedPairs, key: str) -> Examples:
    """Test pairs of any data set whose prompt, by its hash `key`, is among the training pairs of `prepared`."""
    found, train = Examples(), prepared.places("train")
    index = Index(prepared[key][train], train)
    for of_test in tested:
        test = of_test.places("test")
        matches = index.find(of_test[key][test])
        both = matches != ABSENT
        for place, match in zip(test[both], matches[both], strict=True):
            found.add(f"pair {of_test.uid(place)} in test, {prepared.uid(match)} in train")
    return found


def _examples(case: Case, name: str, attribute: str, what: str, passed: str) -> Check:
    if not case.recorded:
        return not_applicable(name, NOT_RECORDED)
    problems = [
        f"{stage.label}: {text}"
        for stage, received in case.recorded
        for text in getattr(received, attribute).told(what, received.num_sequences)
    ]
    return judged(name, problems, f"{passed}, in {len(case.recorded)} stages{case.by_sample}")


def _prepared_order(case: Case, stage: Trained) -> NDArray[np.int32]:
    """`alike` of the pairs that the stage should get in an epoch, in the order of the data."""
    prepared = case.prepared(stage.record.stage.inputs.trained_on)
    if prepared is None:
        return np.empty(0, np.int32)
    train = prepared.places("train")
    if stage.settings.share is not None:
        train = train[share_of(prepared["uid"][train].tolist(), stage.settings.share)]
    order: NDArray[np.int32] = prepared["alike"][train]
    return order


def _data(case: Case) -> dict[str, PreparedPairs]:
    """The prepared pairs of every data stage that a finished training stage read."""
    inputs = [stage.record.stage.inputs for stage in case.trained]
    names = dict.fromkeys(name for found in inputs for name in (found.data, found.demonstrations))
    return {name: prepared for name in names if name and (prepared := case.prepared(name))}


def _first_difference(first: Received, second: Received) -> int | None:
    """The first place at which their orders differ, as far as both go."""
    length = min(len(first.order), len(second.order))
    unequal = np.flatnonzero(np.asarray(first.order)[:length] != np.asarray(second.order)[:length])
    return int(unequal[0]) if len(unequal) else None
