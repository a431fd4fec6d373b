"""Why a row cannot serve, and how many could not. Imports no torch."""

from __future__ import annotations

from enum import StrEnum

from pipelines.outcomes import DroppedRows

MAX_FIRST_ROWS = 10


class Drop(StrEnum):
    """A reason for which a row is left out; the value is what records and reports show."""

    MISSING_COLUMN = "missing column"
    WRONG_TYPES = "wrong types"
    NOT_UNICODE = "not valid Unicode"
    EMPTY_PROMPT = "empty prompt"
    EMPTY_REPLY = "empty reply"
    EQUAL_REPLIES = "equal chosen and rejected"
    NO_SHARED_PROMPT = "chosen and rejected share no prompt"
    NO_USER_TURN = "prompt does not end with the user's turn"
    DUPLICATE = "duplicate"
    REFUSED = "refused by the chat template"
    CONTROL_TOKEN = "text that becomes a control token"
    PROMPT_TOO_LONG = "prompt too long"
    PAIR_TOO_LONG = "pair too long"
    REPLY_TOO_LONG = "reply leaves no room for the prompt"
    TEST_TOKENS = "same tokens as a test pair"
    HELD_OUT = "prompt of the validation or test split"


class Unusable(Exception):
    """Raised where a row turns out not to serve; never leaves this package."""

    def __init__(self, reason: Drop) -> None:
        super().__init__(reason.value)
        self.reason = reason


class Tally:
    """Counts rows and, by reason, those that are left out."""

    def __init__(self) -> None:
        self.num_rows = 0
        self._first_rows: dict[Drop, list[int]] = {}
        self._counts: dict[Drop, int] = {}

    def drop(self, row: int, reason: Drop) -> None:
        """Count source row number `row` as left out."""
        self._counts[reason] = self._counts.get(reason, 0) + 1
        first = self._first_rows.setdefault(reason, [])
        if len(first) < MAX_FIRST_ROWS:
            first.append(row)

    @property
    def num_dropped(self) -> int:
        """Rows that could not serve; those that are held out could."""
        return sum(count for reason, count in self._counts.items() if reason is not Drop.HELD_OUT)

    def dropped(self) -> list[DroppedRows]:
        """The counts, in the order in which `Drop` lists the reasons."""
        return [
            DroppedRows(
                reason=reason.value, num_rows=self._counts[reason], first_rows=self._first_rows[reason]
            )
            for reason in Drop
            if reason in self._counts
        ]

    def sentence(self) -> str:
        """The counts for a person: `12 duplicate (rows 3, 4, 9, ...)` and so on."""
        return "; ".join(
            f"{group.num_rows} {group.reason} (rows {', '.join(map(str, group.first_rows[:3]))}"
            f"{', ...' if group.num_rows > 3 else ''})"
            for group in self.dropped()
        )
