"""The toy tokenizer: lossless on its world, and a chat template on which masks can be built."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from pipelines.toy.questions import make_questions
from pipelines.toy.tickets import LETTERS, NUMBERS, make_documents, make_pairs
from pipelines.toy.tokenizer import make_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer()


def ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def conversation(pair: dict[str, str]) -> list[dict[str, str]]:
    return [{"role": "user", "content": pair["prompt"]}, {"role": "assistant", "content": pair["chosen"]}]


def test_every_text_of_the_world_comes_back_as_it_was(tokenizer: PreTrainedTokenizerFast) -> None:
    texts = [pair[column] for pair in make_pairs(400, seed=9) for column in ("prompt", "chosen", "rejected")]
    texts += [text for document in make_documents(400, seed=9) for text in document]
    texts += [question["opening"] + question["choices"][0] for question in make_questions(100, seed=9)]
    for text in texts:
        found = ids(tokenizer, text)
        assert tokenizer.unk_token_id not in found, text
        assert tokenizer.decode(found) == text


def test_every_code_is_a_letter_a_hyphen_and_one_group_of_digits(tokenizer: PreTrainedTokenizerFast) -> None:
    codes = [f" {letter}-{number}" for letter in LETTERS for number in NUMBERS]
    pieces = [tokenizer.convert_ids_to_tokens(ids(tokenizer, code)) for code in codes]
    assert pieces == [[code[:2], "-", code[3:]] for code in codes]


def test_words_from_elsewhere_become_unknown(tokenizer: PreTrainedTokenizerFast) -> None:
    for text in ("Zürich", "票号", "123", "<|im_start|>", "\n"):
        assert tokenizer.unk_token_id in ids(tokenizer, text)


def test_the_prompt_is_a_prefix_of_the_conversation_in_text_and_in_ids(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    for pair in make_pairs(50, seed=9):
        turns = conversation(pair)
        whole = tokenizer.apply_chat_template(turns, tokenize=False)
        prompt = tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
        assert whole == prompt + pair["chosen"] + tokenizer.eos_token
        reply = [*ids(tokenizer, pair["chosen"]), tokenizer.eos_token_id]
        assert ids(tokenizer, whole) == ids(tokenizer, prompt) + reply


def test_each_assistant_turn_of_a_long_conversation_ends_in_eos(tokenizer: PreTrainedTokenizerFast) -> None:
    first, second = (conversation(pair) for pair in make_pairs(2, seed=9))
    rendered = ids(tokenizer, tokenizer.apply_chat_template(first + second, tokenize=False))
    assert rendered.count(tokenizer.eos_token_id) == 2
    assert rendered[-1] == tokenizer.eos_token_id
    assert rendered.count(tokenizer.bos_token_id) == 1
    assert rendered[0] == tokenizer.bos_token_id


def test_special_tokens_differ_and_are_left_out_of_decoded_replies(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    special = [tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id]
    assert len(set(special)) == 4
    padded = [tokenizer.pad_token_id, *ids(tokenizer, "Hello Ada,"), tokenizer.eos_token_id]
    assert tokenizer.decode(padded, skip_special_tokens=True) == "Hello Ada,"


def test_it_is_the_same_every_time_and_after_saving(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    again = make_tokenizer()
    assert again.get_vocab() == tokenizer.get_vocab()
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    turns = conversation(make_pairs(1, seed=9)[0])
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    assert loaded.apply_chat_template(turns, tokenize=False) == text
    assert ids(loaded, text) == ids(tokenizer, text)
    assert loaded.decode(ids(loaded, text)) == text
    assert (loaded.pad_token, loaded.eos_token, loaded.bos_token) == ("<pad>", "<eos>", "<bos>")
