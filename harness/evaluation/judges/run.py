"""Runs one judge on the stored replies of one model, or of two: no model is loaded but the judge's own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.evaluation.items import Row, outcome_of, write_rows
from harness.evaluation.judges.interface import (
    ComparingJudge,
    Judgement,
    Match,
    Reply,
    ScoringJudge,
    checked_score,
    in_short,
)
from harness.evaluation.judges.make import make_judge
from harness.evaluation.judges.stored import StoredReply, stored_replies
from harness.metrics import SCORE_PREFIX, WIN_PREFIX
from harness.records import ITEMS, JUDGEMENTS, PROMPT, REPLY_ID
from pipelines.errors import PipelineError
from pipelines.judge_settings import Judge, LlmJudge
from pipelines.outcomes import EvaluateOutcome
from pipelines.stages import JudgeSettings, Observer, Stage

TIE = 0.5
MOST_ANSWER_CHARACTERS = 2000  # of what a judge wrote, as it is kept


def judge(stage: Stage, folder: Path, observer: Observer) -> EvaluateOutcome:
    """Judge, and write `items.jsonl`, one row an item, and what the judge wrote, into `folder`.

    Args:
        stage: A judge's stage.
        folder: Its folder; those of the replies lie beside it.
        observer: Told of phases and progress.

    Raises:
        PipelineError: the replies cannot be read, or the judge cannot serve or gives what is no score or verdict.
    """
    settings = stage.settings
    assert isinstance(settings, JudgeSettings)
    assert stage.inputs.replies is not None
    with observer.phase("data"):
        own = stored_replies(folder.parent / stage.inputs.replies, settings.judge.replies)
        opponent = stage.inputs.opponent
        others = stored_replies(folder.parent / opponent, settings.judge.replies) if opponent else {}
    with observer.phase("load"):
        made = make_judge(stage, folder, observer)
    name = settings.judge.name
    with observer.phase("evaluate"):
        logs: list[Row] = []
        if opponent is None:
            rows = _scored(name, made, own)
        else:
            rows, logs = _compared(settings.judge, made, own, others)
    with observer.phase("save"):
        spent = getattr(made, "tokens_spent", None)
        outcome = outcome_of("judge", rows).model_copy(update={"num_judge_tokens": spent})
        write_rows(folder / ITEMS, rows)
        if logs:
            write_rows(folder / JUDGEMENTS, logs)
    return outcome


def _scored(name: str, made: ScoringJudge | ComparingJudge, own: Mapping[str, StoredReply]) -> list[Row]:
    """A row a reply: its score and its length."""
    if not isinstance(made, ScoringJudge):
        raise PipelineError(f"judge {name}: has no method `score`. Give it `mode: compare`")
    replies = [Reply(one.item, one.prompt, one.reply, one.category) for one in own.values()]
    scores = _one_each(name, made.score(replies), len(replies))
    return [
        _about(one)
        | {
            SCORE_PREFIX + name: checked_score(score, f"judge {name}, item {one.item}"),
            "num_tokens": one.num_tokens,
            REPLY_ID: _reply_id(one.reply),
        }
        for one, score in zip(own.values(), scores, strict=True)
    ]


def _compared(
    judge: Judge,
    made: ScoringJudge | ComparingJudge,
    own: Mapping[str, StoredReply],
    others: Mapping[str, StoredReply],
) -> tuple[list[Row], list[Row]]:
    """A row a match: who won, and by how much the first reply is longer; and what the judge wrote."""
    name = judge.name
    if not isinstance(made, ComparingJudge):
        raise PipelineError(f"judge {name}: has no method `compare`. Give it `mode: score`")
    items = [item for item in own if item in others]
    if not items:
        raise PipelineError(f"judge {name}: the two models answered no prompt in common")
    sides = [(own[item], others[item]) for item in items]
    matches = [Match(one.item, one.prompt, one.reply, two.reply, one.category) for one, two in sides]
    judged = [_tied_if_same(*both) for both in zip(matches, _judgements(judge, made, matches), strict=True)]
    rows: list[Row] = [
        _about(one) | _verdict(name, verdict) | {"length_difference": one.num_tokens - two.num_tokens}
        for (one, two), verdict in zip(sides, judged, strict=True)
    ]
    logs: list[Row] = [
        {"item": item, "win": verdict.win, "answers": [_kept(text) for text in verdict.answers]}
        for item, verdict in zip(items, judged, strict=True)
        if verdict.answers
    ]
    return rows, logs


def _judgements(judge: Judge, made: ComparingJudge, matches: list[Match]) -> list[Judgement]:
    """The judge's verdicts, from the side of each match's first reply; which one it sees first is drawn."""
    if isinstance(judge, LlmJudge):  # that one sees both orders
        return _one_each(judge.name, made.compare(matches), len(matches))
    # Imported here, since its places are no part of what an llm judge says: its answers are paid for.
    from harness.evaluation.judges.places import shown, turned_back

    said = _one_each(judge.name, made.compare([shown(match) for match in matches]), len(matches))
    return [
        turned_back(match, one, f"judge {judge.name}, item {match.item}")
        for match, one in zip(matches, said, strict=True)
    ]


def _tied_if_same(match: Match, verdict: Judgement) -> Judgement:
    """Equal replies tie, whatever a judge says of them; what it says by order still tells of its bias."""
    return replace(verdict, win=TIE) if match.first == match.second else verdict


def _reply_id(text: str) -> int:
    """A number that equal replies share; as many bits of a hash as a double holds."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:8], "big") >> 11


def _about(reply: StoredReply) -> dict[str, Any]:
    category = {} if reply.category is None else {"category": reply.category}
    return {"item": reply.item, PROMPT: reply.prompt_id, **category}


def _verdict(name: str, verdict: Judgement) -> dict[str, Any]:
    row: dict[str, Any] = {"unparsable": int(verdict.win is None)}
    if verdict.win is not None:
        wins = zip(
            (WIN_PREFIX + name, "win_shown_first", "win_shown_last"),
            (verdict.win, *(verdict.by_order or ())),
            strict=False,
        )
        row |= {column: win for column, win in wins if win is not None}
    return row


def _one_each(name: str, found: Any, expected: int) -> list[Any]:
    """What a judge returned, as a list with an entry for each item."""
    wrong = f"judge {name}: must answer once for each of {expected} items, got"
    try:
        answers = list(found)
    except TypeError as error:
        raise PipelineError(f"{wrong} {in_short(found)}") from error
    if len(answers) != expected:
        raise PipelineError(f"{wrong} {len(answers)}")
    return answers


def _kept(text: str) -> str:
    """What a judge wrote, of bounded length; JSON lets it write halves of characters that no file can hold."""
    whole = text[:MOST_ANSWER_CHARACTERS].encode("utf-8", "replace").decode()
    return whole if len(text) <= MOST_ANSWER_CHARACTERS else f"{whole}… [cut, {len(text)} characters]"
