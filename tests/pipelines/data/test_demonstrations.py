"""Data for SFT alone: the forms of its rows, and no held-out prompt among them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.data.prepare import prepare
from pipelines.data.prepared import PAIRS, read_split
from pipelines.errors import PipelineError
from pipelines.outcomes import DataOutcome
from pipelines.stages import DataSettings, ModelSettings, PrepareSettings, Stage, StageInputs
from tests.pipelines.data import tiny_tokenizers as tiny
from tests.pipelines.training.tiny import Silent

PAIR_DATA, SFT_DATA = "data-000000000000", "data-111111111111"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny.saved(tiny.make(template=tiny.CHATML), tmp_path_factory.mktemp("tokenizer"))


class Sources:
    """A data stage of 40 pairs, and beside it one for SFT."""

    def __init__(self, root: Path, tokenizer: str) -> None:
        self.root, self.tokenizer = root, tokenizer
        pairs = [{"prompt": f"what is {n}?", "chosen": f"yes {n}", "rejected": f"no {n}"} for n in range(40)]
        self._run(PAIR_DATA, pairs, demonstrations=False)
        self.held_out = [
            row["prompt_text"]
            for split in ("validation", "test")
            for row in read_split(root / PAIR_DATA, split)  # type: ignore[arg-type]
        ]
        self.trained = [row["prompt_text"] for row in read_split(root / PAIR_DATA, "train")]

    def __call__(self, rows: list[dict[str, Any]], **data: Any) -> DataOutcome:
        return self._run(SFT_DATA, rows, demonstrations=True, **data)

    def rows(self) -> list[dict[str, Any]]:
        return list(read_split(self.root / SFT_DATA, "train"))

    def _run(
        self,
        name: str,
        rows: list[dict[str, Any]],
        *,
        demonstrations: bool,
        max_length: int = 64,
        **data: Any,
    ) -> DataOutcome:
        source = self.root / f"{name}.jsonl"
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        settings = PrepareSettings(
            kind="data",
            model=ModelSettings(name=self.tokenizer),
            data=DataSettings(path=str(source), **data),
            max_length=max_length,
            demonstrations=demonstrations,
        )
        inputs = StageInputs(data=PAIR_DATA if demonstrations else None)
        stage = Stage(id=name, settings=settings, inputs=inputs, seed=0, threads=1, device="cpu")
        (self.root / name).mkdir()
        return prepare(stage, self.root / name, Silent())


@pytest.fixture
def sources(tmp_path: Path, tokenizer: str) -> Sources:
    return Sources(tmp_path, tokenizer)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "name a colour", "completion": "blue it is"},
        {"prompt": [user("name a colour")], "completion": [assistant("blue it is")]},
        {"messages": [user("name a colour"), assistant("blue it is")]},
        {
            "conversations": [
                {"from": "human", "value": "name a colour"},
                {"from": "gpt", "value": "blue it is"},
            ]
        },
        {"prompt": "name a colour", "chosen": "blue it is", "rejected": "no"},
    ],
    ids=["completion", "messages in columns", "messages", "conversations", "pairs"],
)
def test_the_same_reply_gives_the_same_tokens_in_every_form(sources: Sources, row: dict[str, Any]) -> None:
    outcome = sources([row])
    (made,) = sources.rows()
    assert (made["prompt_text"], made["chosen_text"], made["rejected_text"]) == (
        "name a colour",
        "blue it is",
        "",
    )
    assert made["rejected_ids"] == []
    assert made["chosen_ids"][-1] == outcome.end_of_turn_ids[0]
    assert outcome.splits["train"].num_rejected_tokens == 0
    (line,) = map(json.loads, (sources.root / SFT_DATA / PAIRS).read_text().splitlines())
    assert (line["split"], line["closed"]) == ("train", True)


def test_no_prompt_that_the_pairs_hold_out_is_left_as_it_is_nor_but_for_case_nor_within_a_conversation(
    sources: Sources,
) -> None:
    secret = sources.held_out[0]
    outcome = sources(
        [
            {"messages": [user(secret), assistant("a")]},
            {"messages": [user(f"  {secret.upper()} "), assistant("b")]},
            {"messages": [user(secret), assistant("c"), user("and then?"), assistant("d")]},
            {"messages": [user(sources.trained[0]), assistant("e")]},
            {"messages": [user("something else"), assistant("f")]},
        ]
    )
    assert [row["chosen_text"] for row in sources.rows()] == ["e", "f"]
    (dropped,) = outcome.dropped
    assert (dropped.reason, dropped.num_rows) == ("prompt of the validation or test split", 3)


def test_a_reply_that_is_a_test_pair_once_its_prompt_is_cut_is_left_out(sources: Sources) -> None:
    tested = read_split(sources.root / PAIR_DATA, "test")[0]
    # The window leaves room for as much of the prompt's text as the test pair has.
    window = len(tested["prompt_ids"]) + len(tested["chosen_ids"])
    row = {"prompt": f"well well well\n{tested['prompt_text']}", "completion": tested["chosen_text"]}
    rows = [row, row | {"completion": "fox"}]
    outcome = sources(rows, truncation="keep_end", max_dropped=0.5, max_length=window)
    assert [row["chosen_text"] for row in sources.rows()] == ["fox"]
    (dropped,) = outcome.dropped
    assert (dropped.reason, dropped.first_rows) == ("same tokens as a test pair", [0])


def test_a_cap_keeps_some_and_columns_are_renamed(sources: Sources) -> None:
    rows = [{"question": f"say {n}", "answer": f"so {n}"} for n in range(9)]
    sources(rows, columns={"prompt": "question", "completion": "answer"}, max_train_pairs=4)
    assert len(sources.rows()) == 4


def test_rows_that_hold_no_reply_are_an_error_that_names_the_columns(sources: Sources) -> None:
    with pytest.raises(PipelineError, match=r"needs the columns prompt and completion.*It has: text"):
        sources([{"text": "once upon a time"}])


CHAT = [user("name a colour"), assistant("blue it is")]


@pytest.mark.parametrize(
    ("form", "row"),
    [
        ("prompt", {"prompt": "name a colour", "completion": "blue it is", "messages": [user("x"), assistant("y")]}),
        ("messages", {"messages": CHAT, "conversations": [user("x"), assistant("y")]}),
        ("messages", {"prompt": CHAT[:1], "completion": CHAT[1:]}),
        ("sharegpt", {"conversations": CHAT, "messages": [user("x"), assistant("y")]}),
        ("prompt", {"prompt": "name a colour", "chosen": "blue it is", "rejected": "no", "completion": "y"}),
    ],
)  # fmt: skip
def test_a_forced_form_says_where_the_reply_is(sources: Sources, form: str, row: dict[str, Any]) -> None:
    sources([row], form=form)
    (made,) = sources.rows()
    assert (made["prompt_text"], made["chosen_text"]) == ("name a colour", "blue it is")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"form": "sharegpt"}, r"of form sharegpt needs the columns conversations, or chosen\. It has: messages"),
        ({"form": "orca"}, r"form orca needs the column chosen.*Rename columns with sft\.data\.columns"),
        ({"columns": {"completion": "answer"}}, r"sft\.data\.columns\.completion names a column 'answer' that is not"),
    ],
)  # fmt: skip
def test_settings_that_the_rows_do_not_meet_are_an_error_under_their_own_key(
    sources: Sources, data: dict[str, Any], message: str
) -> None:
    with pytest.raises(PipelineError, match=message):
        sources([{"messages": CHAT}], **data)


def test_too_many_rows_that_cannot_serve_are_an_error_under_its_own_key(sources: Sources) -> None:
    with pytest.raises(PipelineError, match=r"1 of 2 rows cannot serve, more than sft\.data\.max_dropped"):
        sources([{"messages": CHAT}, {"messages": CHAT}])


def test_a_conversation_that_ends_with_the_user_is_dropped(sources: Sources) -> None:
    rows = [{"messages": [user("a"), assistant("b"), user("c")]}] + [
        {"messages": [user(f"say {n}"), assistant("so")]} for n in range(19)
    ]
    (dropped,) = sources(rows).dropped
    assert (dropped.num_rows, dropped.first_rows) == (1, [0])
