"""Checks on what the models received: pairs, ids, positions of the loss, order, ends, and nothing of the test split."""

from __future__ import annotations

from collections import Counter

from harness.audit.case import Case, Trained, covers_prompt
from harness.audit.checks import RECORDED, Check, judged, not_applicable, warned
from harness.audit.received import Received, Row
from harness.results import BATCHES
from pipelines.data.splitting import share_of

NOT_RECORDED = f"no finished stage has a {BATCHES} beside a data stage with hashes"


def recorded(case: Case) -> Check:
    """Whether it is known what each model received."""
    name = RECORDED
    if not case.trained:
        return not_applicable(name, "no training stage finished")
    cut = [text for stage, received in case.recorded if (text := _unrecorded(stage, received))]
    if cut:
        return judged(name, cut, "")
    missing = [stage.label for stage in case.trained if stage.received is None]
    if missing:
        return warned(name, [f"what the model received was not recorded in {stage}" for stage in missing], "")
    sampled = [stage.label for stage in case.trained if stage.settings.recording == "sampled"]
    return warned(
        name,
        [f"only every 16th step was recorded in {stage}" for stage in sampled],
        f"every micro-batch of {len(case.trained)} training stages",
    )


def _unrecorded(stage: Trained, received: Received) -> str | None:
    """What is missing of a full recording; None if nothing is."""
    pairs, steps = stage.outcome.num_pairs_seen, stage.outcome.num_steps
    if stage.settings.recording != "full" or (len(received.order), len(received.by_step)) == (pairs, steps):
        return None
    return (
        f"{stage.label}: its {BATCHES} has {len(received.order)} pairs in {len(received.by_step)} steps, the model got "
        f"{pairs} in {steps}"
    )


def same_pairs(case: Case) -> Check:
    """Every trainer had the prepared training pairs, all of them, and the model got none more than once more than another."""
    name, problems = "same_pairs", []
    if not case.recorded:
        return not_applicable(name, NOT_RECORDED)
    for stage, received in case.recorded:
        expected = _prepared_order(case, stage)
        if stage.outcome.num_rows not in (None, len(expected)):
            problems.append(
                f"{stage.label}: {stage.outcome.num_rows} rows in its trainer, {len(expected)} prepared"
            )
        elif stage.settings.recording == "full" and not received.num_unknown:
            wanted, got = Counter(expected), Counter(received.order)
            whole, started = divmod(len(received.order), len(expected))
            most = whole + bool(started)  # of an epoch that was not finished some pairs came, some did not
            unequal = [ids for ids in wanted if not wanted[ids] * whole <= got[ids] <= wanted[ids] * most]
            if unequal:
                problems.append(
                    f"{stage.label}: {len(unequal)} of {len(wanted)} prepared pairs came more or less often than the others"
                )
    return judged(name, problems, f"the prepared training pairs in {len(case.recorded)} stages")


def same_ids(case: Case) -> Check:
    """Every sequence is one that the data stage prepared, token by token."""
    return _examples(case, "same_ids", "ids", "sequences are not as prepared", "every sequence as prepared")


def one_end_of_turn(case: Case) -> Check:
    """Every reply ends in exactly one end-of-turn token."""
    name = "one_end_of_turn"
    open_ended = [
        f"{data}: pair {row['uid']} of the {row['split']} split was prepared without exactly one at each reply's end"
        for data, prepared in _data(case).items()
        for row in prepared
        if not row["closed"]
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
    return warned(name, warnings, "the completion in every sequence" if not whole else "as the settings say")


def same_order(case: Case) -> Check:
    """With one seed, pairs come in one order in every stage of every arm."""
    name, problems, compared = "same_order", [], 0
    by_seed: dict[tuple[int, str], list[tuple[Trained, Received]]] = {}
    for stage, received in case.recorded:
        data = f"{stage.record.stage.inputs.trained_on} {stage.settings.share}"
        # Among other pairs there is no one order; whether they are the same is the matter of other checks.
        prepared = _prepared_order(case, stage)
        same = set(received.order) <= set(prepared) and stage.outcome.num_rows in (None, len(prepared))
        if same and stage.settings.recording == "full":
            by_seed.setdefault((stage.seed or 0, data), []).append((stage, received))
    for stages in by_seed.values():
        first, of_first = stages[0]
        for stage, received in stages[1:]:
            compared += 1
            place = _first_difference(of_first.order, received.order)
            if place is not None:
                problems.append(f"{stage.label}: pair number {place + 1} is another than in {first.label}")
    if not compared:
        return not_applicable(
            name, "fewer than two stages of a seed are known to have received the same pairs"
        )
    return judged(name, problems, f"the same in {compared + len(by_seed)} stages, seed by seed")


def no_test_prompt(case: Case) -> Check:
    """No prompt of the test split was trained on, neither as it is nor but for case, spacing and a closing mark."""
    name, problems = "no_test_prompt_in_training", []
    data = _data(case)
    if not data:
        return not_applicable(name, NOT_RECORDED)
    # Each against all: SFT may have a data set of its own.
    tested = [row for rows in data.values() for row in rows if row["split"] == "test"]
    for data_id, rows in data.items():
        for key, words in (
            ("prompt", "as it is"),
            ("prompt_normalised", "but for case, spacing or its closing mark"),
        ):
            trained_on = {row[key]: row["uid"] for row in rows if row["split"] == "train"}
            both = [row for row in tested if row[key] in trained_on]
            if both:
                first = both[0]
                problems.append(
                    f"{data_id}: {len(both)} test prompts are in the training split {words} "
                    f"(first: pair {first['uid']} in test, {trained_on[first[key]]} in train)"
                )
                break
    problems += [
        f"{stage.label}: {text}"
        for stage, received in case.recorded
        for text in received.from_test.told("sequences are of the test split", received.num_sequences)
    ]
    return judged(name, problems, "no test prompt among the training pairs")


def _examples(case: Case, name: str, attribute: str, what: str, passed: str) -> Check:
    if not case.recorded:
        return not_applicable(name, NOT_RECORDED)
    problems = [
        f"{stage.label}: {text}"
        for stage, received in case.recorded
        for text in getattr(received, attribute).told(what, received.num_sequences)
    ]
    return judged(name, problems, f"{passed}, in {len(case.recorded)} stages")


def _prepared_order(case: Case, stage: Trained) -> list[str]:
    """Hashes of the chosen sequences that the stage should get in an epoch."""
    prepared = case.prepared(stage.record.stage.inputs.trained_on)
    if prepared is None:
        return []
    uids, share = list(prepared.by_uid), stage.settings.share
    places = range(len(uids)) if share is None else share_of(uids, share)
    return [prepared.by_uid[uids[place]]["chosen"] for place in places]


def _data(case: Case) -> dict[str, list[Row]]:
    """The prepared pairs of every data stage that a finished training stage read."""
    inputs = [stage.record.stage.inputs for stage in case.trained]
    names = dict.fromkeys(name for found in inputs for name in (found.data, found.demonstrations))
    return {name: prepared.rows for name in names if name and (prepared := case.prepared(name))}


def _first_difference(first: list[str], second: list[str]) -> int | None:
    """The first place at which they differ, as far as both go."""
    places = (place for place, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1])
    return next(places, None)
