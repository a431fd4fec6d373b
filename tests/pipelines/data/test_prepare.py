"""The data stage from source to folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from pipelines.data.fingerprints import ids_hash, pair_line
from pipelines.data.prepare import prepare
from pipelines.data.prepared import PAIRS, read_outcome, read_split, read_tokenizer
from pipelines.data.render import Renderer
from pipelines.errors import PipelineError
from pipelines.evaluations import Split
from pipelines.outcomes import DataOutcome
from pipelines.stages import DataSettings, ModelSettings, PrepareSettings, Stage
from tests.pipelines.data import tiny_tokenizers as tiny
from tests.pipelines.training.tiny import Silent

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
REAL = Path(__file__).parents[4] / "shared" / "data" / "dpo_en_demo.json"


def rows_of(count: int) -> list[dict[str, str]]:
    return [{"prompt": f"what is {n}?", "chosen": f"yes {n}", "rejected": f"no {n}"} for n in range(count)]


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny.saved(tiny.make(template=tiny.CHATML), tmp_path_factory.mktemp("tokenizer"))


class Prepared:
    """Runs data stages below one folder."""

    def __init__(self, root: Path, tokenizer: str) -> None:
        self.root = root
        self.tokenizer = tokenizer
        self.folder = root
        self._runs = 0

    def __call__(self, rows: list[dict[str, Any]] | str, *, max_length: int = 64, **data: Any) -> DataOutcome:
        self._runs += 1
        self.folder = self.root / f"run{self._runs}"
        self.folder.mkdir()
        path = rows
        if not isinstance(rows, str):
            path = str(self.root / f"rows{self._runs}.jsonl")
            Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        model = ModelSettings(name="toy" if path == "toy" else self.tokenizer)
        settings = PrepareSettings(
            kind="data", model=model, data=DataSettings(path=path, **data), max_length=max_length
        )
        stage = Stage(id="data-000000000000", settings=settings, seed=0, threads=1, device="cpu")
        return prepare(stage, self.folder, Silent())

    def all_rows(self) -> list[dict[str, Any]]:
        return [row for split in SPLITS for row in read_split(self.folder, split)]


@pytest.fixture
def prepared(tmp_path: Path, tokenizer_folder: str) -> Prepared:
    return Prepared(tmp_path, tokenizer_folder)


def test_what_is_written_does_not_depend_on_how_many_pairs_are_tokenized_at_once(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    # More batches than are tokenized at a time; a row that cannot serve and one with a control token among them.
    rows = rows_of(40)
    rows[7]["chosen"], rows[11]["prompt"] = " ", f"say {tiny.END} twice"
    written = []
    for size, most_characters in ((1, 10**6), (3, 10**6), (512, 10**6), (512, 100)):
        monkeypatch.setattr("pipelines.data.prepare.BATCH", size)
        monkeypatch.setattr("pipelines.data.prepare.MOST_CHARACTERS", most_characters)
        outcome = prepared(rows)
        written.append((outcome, (prepared.folder / PAIRS).read_bytes(), prepared.all_rows()))
    assert all(one == written[0] for one in written[1:])
    assert [row["source_row"] for row in prepared.all_rows() if row["source_row"] in (7, 11)] == [11]


def test_long_pairs_go_to_the_tokenizer_a_few_at_a_time(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    tokenize = Renderer.tokenize_texts

    def counted(renderer: Renderer, pairs: Any, texts: Any) -> Any:
        sizes.append(len(pairs))
        return tokenize(renderer, pairs, texts)

    monkeypatch.setattr(Renderer, "tokenize_texts", counted)
    monkeypatch.setattr("pipelines.data.prepare.MOST_CHARACTERS", 1000)
    rows = [row | {"rejected": f"no {number} " + "a" * 400} for number, row in enumerate(rows_of(40))]
    prepared(rows, max_length=4096)
    assert sum(sizes) == 40
    assert max(sizes) == 3


def test_an_error_while_later_rows_are_read_ends_the_stage(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("pipelines.data.prepare.BATCH", 50)
    path = tmp_path / "damaged.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows_of(400)) + "{", encoding="utf-8")
    with pytest.raises(PipelineError, match="401"):
        prepared(str(path))


def test_the_folder_holds_splits_tokenizer_and_outcome_and_nothing_else(prepared: Prepared) -> None:
    outcome = prepared(rows_of(40))
    assert sorted(path.name for path in prepared.folder.iterdir()) == [
        "data.json", "pairs.jsonl", "splits", "tokenizer",
    ]  # fmt: skip
    assert read_outcome(prepared.folder) == outcome
    assert read_split(prepared.folder, "train").column_names == [
        "uid", "source_row", "prompt_ids", "chosen_ids", "rejected_ids", "prompt_text", "chosen_text", "rejected_text",
        "category",
    ]  # fmt: skip
    tokenizer = read_tokenizer(prepared.folder)
    assert tokenizer.chat_template == tiny.CHATML
    assert tokenizer.pad_token_id == outcome.pad_token_id
    assert outcome.end_of_turn_ids[0] == tokenizer.convert_tokens_to_ids(tiny.END)


def test_every_row_keeps_its_texts_its_number_and_its_tokens(prepared: Prepared) -> None:
    source = rows_of(40)
    outcome = prepared(source)
    tokenizer = read_tokenizer(prepared.folder)
    rows = prepared.all_rows()
    assert len(rows) == 40
    for row in rows:
        texts = {"prompt": row["prompt_text"], "chosen": row["chosen_text"], "rejected": row["rejected_text"]}
        assert texts == source[row["source_row"]]
        assert row["prompt_text"] in tokenizer.decode(row["prompt_ids"])
        assert tokenizer.decode(row["chosen_ids"]) == row["chosen_text"] + tiny.END
    for split in SPLITS:
        pairs = read_split(prepared.folder, split).to_list()
        count = outcome.splits[split]
        assert count.num_pairs == len(pairs)
        assert count.num_prompt_tokens == sum(len(pair["prompt_ids"]) for pair in pairs)
        assert count.num_chosen_tokens == sum(len(pair["chosen_ids"]) for pair in pairs)
        assert count.num_rejected_tokens == sum(len(pair["rejected_ids"]) for pair in pairs)


def test_no_prompt_is_on_two_sides(prepared: Prepared) -> None:
    rows = rows_of(60)
    prepared(rows + [row | {"chosen": "the fox"} for row in rows])
    sides: dict[str, set[str]] = {}
    for split in SPLITS:
        for row in read_split(prepared.folder, split):
            sides.setdefault(row["prompt_text"], set()).add(split)
    assert len(sides) == 60
    assert all(len(found) == 1 for found in sides.values())


def test_the_split_does_not_move_when_rows_are_added(prepared: Prepared) -> None:
    def test_uids(rows: list[dict[str, str]]) -> list[str]:
        prepared(rows)
        return list(read_split(prepared.folder, "test")["uid"])

    few, many = test_uids(rows_of(50)), test_uids(rows_of(90))
    assert [uid for uid in many if uid in set(few)] == few
    assert len(many) > len(few)


def test_the_same_source_gives_the_same_ids_to_the_bit_and_another_does_not(prepared: Prepared) -> None:
    first = prepared(rows_of(30))
    again = prepared(rows_of(30))
    other = prepared([*rows_of(29), {"prompt": "what is 29?", "chosen": "yes 29", "rejected": "no 28"}])
    assert first == again
    assert first.content_hash != other.content_hash


def test_a_pair_has_one_uid_whatever_the_model_or_its_place(prepared: Prepared, tmp_path: Path) -> None:
    prepared(rows_of(30))
    uids = {row["prompt_text"]: row["uid"] for row in prepared.all_rows()}
    another = Prepared(tmp_path / "other", tiny.saved(tiny.make(template=tiny.INST), tmp_path / "other"))
    another(rows_of(30)[::-1])
    assert {row["prompt_text"]: row["uid"] for row in another.all_rows()} == uids
    assert len(set(uids.values())) == 30


def test_caps_keep_so_many_pairs_in_the_order_of_the_source(prepared: Prepared) -> None:
    outcome = prepared(rows_of(90), max_train_pairs=10, max_validation_pairs=2, max_test_pairs=5)
    assert [outcome.splits[split].num_pairs for split in SPLITS] == [10, 2, 5]
    numbers = read_split(prepared.folder, "train")["source_row"]
    assert list(numbers) == sorted(numbers)


def test_rows_that_cannot_serve_are_counted_by_reason(prepared: Prepared) -> None:
    good = rows_of(40)
    bad = [
        good[0],
        {"prompt": "", "chosen": "a", "rejected": "b"},
        {"prompt": "?", "chosen": "a", "rejected": "a "},
    ]
    long = [
        {"prompt": "x" * 500, "chosen": "a", "rejected": "b"},
        {"prompt": "fits", "chosen": "a", "rejected": "y" * 500},
    ]
    outcome = prepared(good + bad + long, max_dropped=0.5)
    assert {group.reason: group.first_rows for group in outcome.dropped} == {
        "duplicate": [40],
        "empty prompt": [41],
        "equal chosen and rejected": [42],
        "prompt too long": [43],
        "pair too long": [44],
    }
    assert outcome.num_rows == 45
    assert sum(count.num_pairs for count in outcome.splits.values()) == 40


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
@pytest.mark.parametrize("column", ["prompt", "chosen", "rejected", "category"])
def test_half_of_a_surrogate_pair_drops_its_row_and_a_whole_one_is_a_character(
    prepared: Prepared, tmp_path: Path, name: str, column: str
) -> None:
    rows = rows_of(40)
    rows[7] = rows[7] | {column: "cut \ud83d"}
    rows[8] = rows[8] | {column: "whole \ud83d\ude00"}
    written = list(map(json.dumps, rows))  # as escapes, which JSON joins where they are a pair
    text = "\n".join(written) if name == "rows.jsonl" else f"[{', '.join(written)}]"
    (tmp_path / name).write_text(text, encoding="ascii")
    (dropped,) = prepared(str(tmp_path / name)).dropped
    assert (dropped.reason, dropped.first_rows) == ("not valid Unicode", [7])
    (row,) = [row for row in prepared.all_rows() if row["source_row"] == 8]
    assert row[column if column == "category" else f"{column}_text"] == "whole 😀"


STRANGE = {
    "a NUL byte": "what\x00is\x00",
    "right to left": "مرحبا שלום \u202eworld\u202c ",
    "100,000 characters": "lazy dog " * 11_112,
}


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.parquet"])
@pytest.mark.parametrize("what", STRANGE)
def test_strange_text_reaches_ids_and_people_as_it_was_written(
    prepared: Prepared, tmp_path: Path, what: str, name: str
) -> None:
    strange = STRANGE[what]
    rows = rows_of(20)
    rows[5] = {"prompt": f"{strange}?", "chosen": f"yes {strange}", "rejected": f"no {strange}"}
    path = tmp_path / name
    if name == "rows.jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        (Dataset.from_list(rows).to_csv if name == "rows.csv" else Dataset.from_list(rows).to_parquet)(path)
    assert prepared(str(path), max_length=300_000).dropped == []
    (row,) = [row for row in prepared.all_rows() if row["source_row"] == 5]
    assert [row["prompt_text"], row["chosen_text"], row["rejected_text"]] == list(rows[5].values())
    tokenizer = read_tokenizer(prepared.folder)
    assert rows[5]["prompt"] in tokenizer.decode(row["prompt_ids"])
    assert tokenizer.decode(row["chosen_ids"]) == rows[5]["chosen"] + tiny.END


def test_a_text_of_100_000_characters_is_dropped_or_cut_where_the_window_is_smaller(
    prepared: Prepared,
) -> None:
    rows = rows_of(20)
    rows[5] = rows[5] | {"prompt": STRANGE["100,000 characters"]}
    (dropped,) = prepared(rows).dropped
    assert (dropped.reason, dropped.first_rows) == ("prompt too long", [5])
    assert prepared(rows, truncation="keep_end").num_truncated == 1


def test_too_many_dropped_rows_stop_the_run_with_their_reasons(prepared: Prepared) -> None:
    rows = [*rows_of(8), *rows_of(2)]
    with pytest.raises(
        PipelineError, match=r"2 of 10 rows cannot serve.*\(0\.1\) allows: 2 duplicate \(rows 8, 9\)"
    ):
        prepared(rows)
    assert not (prepared.folder / "data.json").exists()


def test_exactly_the_share_that_may_be_dropped_is_allowed(prepared: Prepared) -> None:
    # 0.29 * 100 is a little less than 29 in floating point.
    assert prepared(rows_of(71) + rows_of(29), max_dropped=0.29).dropped[0].num_rows == 29


def test_pairs_that_differ_in_the_rejected_reply_alone_are_no_duplicates(prepared: Prepared) -> None:
    rows = rows_of(30)
    assert prepared(rows + [row | {"rejected": "the fox"} for row in rows]).dropped == []
    assert len({row["uid"] for row in prepared.all_rows()}) == 60


def test_a_pair_exactly_as_long_as_the_window_stays_and_one_token_less_drops_it(prepared: Prepared) -> None:
    prepared(rows_of(40))
    lengths = {
        row["uid"]: len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))
        for row in prepared.all_rows()
    }
    longest = max(lengths.values())
    assert prepared(rows_of(40), max_length=longest).dropped == []
    outcome = prepared(rows_of(40), max_length=longest - 1, max_dropped=1)
    assert {row["uid"] for row in prepared.all_rows()} == {uid for uid in lengths if lengths[uid] < longest}
    assert outcome.dropped[0].reason == "pair too long"


LONG_WORDS = " ".join(f"w{n}" for n in range(200))


@pytest.mark.parametrize("side", ["keep_start", "keep_end"])
def test_truncation_cuts_the_prompt_alone_and_it_remains_a_prompt(prepared: Prepared, side: str) -> None:
    rows = [
        {"prompt": f"{n} {LONG_WORDS}", "chosen": f"yes {n}", "rejected": f"no no {n}"} for n in range(40)
    ]
    outcome = prepared(rows, truncation=side, max_length=120)
    assert outcome.num_truncated == 40
    tokenizer = read_tokenizer(prepared.folder)
    for row in prepared.all_rows():
        reply = max(len(row["chosen_ids"]), len(row["rejected_ids"]))
        assert len(row["prompt_ids"]) + reply == 120
        text = tokenizer.decode(row["prompt_ids"])
        assert text.endswith("<|im_end|>\n<|im_start|>assistant\n")
        assert tokenizer.decode(row["chosen_ids"]) == row["chosen_text"] + tiny.END
        if side == "keep_start":
            assert text.startswith(
                f"<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n{row['source_row']} w0 w1"
            )
        else:
            assert text.startswith("<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n")
            assert "w198 w199<|im_end|>" in text


def test_a_cut_prompt_keeps_its_bos(prepared: Prepared, tmp_path: Path) -> None:
    prepared.tokenizer = tiny.saved(tiny.make(post="bos", template=tiny.TRIMMED), tmp_path / "bos")
    rows = [row | {"prompt": f"{row['prompt']} {LONG_WORDS}"} for row in rows_of(20)]
    prepared(rows, truncation="keep_end", max_length=60)
    bos = read_tokenizer(prepared.folder).bos_token_id
    assert all(
        row["prompt_ids"].count(bos) == 1 and row["prompt_ids"][0] == bos for row in prepared.all_rows()
    )


def test_a_reply_that_leaves_no_room_drops_the_pair_rather_than_being_cut(prepared: Prepared) -> None:
    rows = [*rows_of(40), {"prompt": "short", "chosen": "z" * 100, "rejected": "no"}]
    outcome = prepared(rows, truncation="keep_start", max_length=64)
    assert [(group.reason, group.first_rows) for group in outcome.dropped] == [
        ("reply leaves no room for the prompt", [40])
    ]


@pytest.mark.parametrize("side", ["keep_start", "keep_end"])
def test_one_token_of_the_prompts_text_is_enough_and_none_is_not(prepared: Prepared, side: str) -> None:
    text = "hello " * 50
    rows = [{"prompt": f"{text}{n}", "chosen": f"{n:02} yes", "rejected": f"{n:02} no"} for n in range(20)]
    prepared([rows[0] | {"prompt": "?"}, *rows], max_length=1000)
    row = next(row for row in prepared.all_rows() if row["prompt_text"] == "?")
    # "?" is one token, so this window leaves room for one.
    window = len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))
    outcome = prepared(rows, truncation=side, max_length=window)
    assert outcome.num_truncated == 20
    assert all(len(made["prompt_ids"]) == len(row["prompt_ids"]) for made in prepared.all_rows())
    with pytest.raises(PipelineError, match="20 reply leaves no room for the prompt"):
        prepared(rows, truncation=side, max_length=window - 1)


def sequences(prepared: Prepared, split: Split) -> set[tuple[int, ...]]:
    """Prompt and reply as the model gets them, both sides of every pair."""
    pairs = read_split(prepared.folder, split)
    return {(*pair["prompt_ids"], *pair[side]) for pair in pairs for side in ("chosen_ids", "rejected_ids")}


def places(prepared: Prepared) -> dict[int, str]:
    return {row["source_row"]: split for split in SPLITS for row in read_split(prepared.folder, split)}


@pytest.mark.parametrize("same", ["chosen", "rejected"])
def test_a_pair_that_is_a_test_pair_once_its_prompt_is_cut_is_left_out(prepared: Prepared, same: str) -> None:
    alike = [row | {"prompt": f"{row['prompt']} {LONG_WORDS}", same: "the fox"} for row in rows_of(20)]
    rows = [*alike, *({**row, "prompt": f"{row['prompt']}!?"} for row in rows_of(40))]
    assert prepared(rows, max_length=3000).dropped == []
    by_text = places(prepared)
    assert {by_text[number] for number in range(20)} == set(SPLITS)
    outcome = prepared(rows, truncation="keep_end", max_length=100, max_dropped=0.4)
    kept = {number for number, split in by_text.items() if number >= 20 or split == "test"}
    assert places(prepared) == {number: by_text[number] for number in kept}
    assert not sequences(prepared, "test") & (
        sequences(prepared, "train") | sequences(prepared, "validation")
    )
    (dropped,) = outcome.dropped
    assert (dropped.reason, dropped.num_rows) == ("same tokens as a test pair", 60 - len(kept))
    assert dropped.first_rows == sorted(set(range(20)) - kept)[:10]
    # Also where the test pair itself is not among those that are measured: a smaller cap moves no other pair.
    assert prepared(
        rows, truncation="keep_end", max_length=100, max_dropped=0.4, max_test_pairs=1
    ).dropped == [dropped]


def test_pairs_whose_words_are_all_unknown_are_not_split_between_training_and_test(
    prepared: Prepared, tmp_path: Path
) -> None:
    prepared.tokenizer = tiny.saved(tiny.make("prefix_space", template=tiny.CHATML), tmp_path / "unknown")
    letters = "αβγδεζηθικλμνξοπρστυφχψω"
    unknown = [
        {"prompt": f"what is {letter}?", "chosen": f"{letter} yes", "rejected": "no"} for letter in letters
    ]
    outcome = prepared(rows_of(60) + unknown, max_dropped=0.4)
    assert [group.reason for group in outcome.dropped] == ["same tokens as a test pair"]
    assert {split for number, split in places(prepared).items() if number >= 60} == {"test"}


def test_too_many_pairs_that_are_a_test_pair_to_the_model_stop_the_run_in_one_line(
    prepared: Prepared,
) -> None:
    rows = [row | {"prompt": f"{row['prompt']} {LONG_WORDS}", "rejected": "no"} for row in rows_of(40)]
    with pytest.raises(
        PipelineError,
        match=r"of 40 rows cannot serve.*allows: \d+ same tokens as a test pair \(rows [\d, .]+\)\.$",
    ):
        prepared(rows, truncation="keep_end", max_length=100)


def test_an_empty_split_that_is_needed_stops_the_run(prepared: Prepared) -> None:
    with pytest.raises(PipelineError, match=r"no pair is left for the (train|test) split"):
        prepared(rows_of(1))


def test_an_empty_validation_split_can_be_read(prepared: Prepared) -> None:
    outcome = prepared(rows_of(30), validation_share=0.0)
    assert outcome.splits["validation"].num_pairs == 0
    assert len(read_split(prepared.folder, "validation")) == 0


def test_a_split_that_was_never_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="has no prepared test split"):
        read_split(tmp_path, "test")


def test_several_turns_are_shown_to_people_with_their_roles(prepared: Prepared) -> None:
    turns = [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}]
    rows = [
        {"prompt": [*turns, {"role": "user", "content": f"{n}"}], "chosen": [{"role": "assistant", "content": "yes"}],
         "rejected": [{"role": "assistant", "content": "no"}]}
        for n in range(30)
    ]  # fmt: skip
    assert prepared(rows).form == "messages"
    row = prepared.all_rows()[0]
    assert row["prompt_text"] == f"user: 1\n\nassistant: 2\n\nuser: {row['source_row']}"


def test_the_toy_world_is_prepared_without_losing_a_row_or_an_unknown_token(prepared: Prepared) -> None:
    outcome = prepared("toy", max_length=128, num_pairs=100)
    assert (outcome.dropped, outcome.adds_bos) == ([], True)
    unknown = read_tokenizer(prepared.folder).unk_token_id
    assert all(unknown not in row["prompt_ids"] + row["chosen_ids"] for row in prepared.all_rows())


def test_a_saved_dataset_is_prepared_as_its_rows_are(prepared: Prepared, tmp_path: Path) -> None:
    Dataset.from_list(rows_of(30)).save_to_disk(tmp_path / "saved")
    assert prepared(str(tmp_path / "saved")).content_hash == prepared(rows_of(30)).content_hash


@pytest.mark.skipif(not REAL.is_file(), reason=f"needs {REAL.name} in ../shared/data")
def test_real_sharegpt_pairs_are_prepared(prepared: Prepared) -> None:
    outcome = prepared(str(REAL), max_length=20_000)
    assert (outcome.form, outcome.num_rows) == ("sharegpt", 300)
    assert {group.reason: group.num_rows for group in outcome.dropped} == {"duplicate": 5}
    source = json.loads(REAL.read_text(encoding="utf-8"))
    for row in prepared.all_rows():
        assert row["chosen_text"] == source[row["source_row"]]["chosen"]["value"]


def test_a_line_of_hashes_for_every_pair_stays_when_the_splits_are_gone(prepared: Prepared) -> None:
    ends = prepared(rows_of(30)).end_of_turn_ids
    lines = [json.loads(line) for line in (prepared.folder / PAIRS).read_text().splitlines()]
    rows = {row["uid"]: row for row in prepared.all_rows()}
    assert len(lines) == len(rows) == 30
    assert len({line["prompt"] for line in lines}) == len({line["prompt_normalised"] for line in lines}) == 30
    for line in lines:
        row = rows[line["uid"]]
        assert line["chosen"] == ids_hash(row["prompt_ids"] + row["chosen_ids"])
        assert line["rejected"] == ids_hash(row["prompt_ids"] + row["rejected_ids"])
        assert (line["prompt_tokens"], line["chosen_tokens"]) == (
            len(row["prompt_ids"]),
            len(row["chosen_ids"]),
        )
        assert line["closed"] is True
        assert line["prompt_ends"] == sum(token in ends for token in row["prompt_ids"]) > 0


def test_replies_without_exactly_one_end_of_turn_are_not_closed() -> None:
    def closed(chosen: list[int], rejected: list[int]) -> bool:
        row = {"uid": "u", "prompt_text": "p", "prompt_ids": [5]}
        return pair_line(row | {"chosen_ids": chosen, "rejected_ids": rejected}, "train", [1, 2])["closed"]

    assert closed([7, 1], [8, 2])
    assert not closed([7, 1, 1], [8, 1])
    assert not closed([7, 1], [8])
    assert not closed([7, 1], [])
