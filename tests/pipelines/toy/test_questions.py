"""The toy world's lm-eval task: sound questions, and a run from any folder without a network."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from pipelines.toy.gold import score
from pipelines.toy.questions import NUM_QUESTIONS, SEED, make_questions
from pipelines.toy.tokenizer import make_tokenizer

TASKS = Path(__file__).parents[3] / "configs" / "tasks"


def committed() -> list[dict]:
    return [json.loads(line) for line in (TASKS / "toy_tickets.jsonl").read_text().splitlines()]


def test_the_committed_questions_are_the_generated_ones() -> None:
    assert committed() == make_questions(NUM_QUESTIONS, seed=SEED)


def test_one_choice_alone_has_the_right_code_and_the_right_team() -> None:
    for question in committed():
        graded = [
            score(question["prompt"], question["opening"] + choice).components
            for choice in question["choices"]
        ]
        right = [number for number, parts in enumerate(graded) if parts["ticket"] and parts["team"]]
        assert right == [question["answer"]]


def test_the_right_answer_stands_anywhere_and_length_does_not_give_it_away() -> None:
    questions = committed()
    places = Counter(question["answer"] for question in questions)
    assert all(0.15 < places[place] / len(questions) < 0.35 for place in range(4))
    tokenizer = make_tokenizer()
    for question in questions:
        assert len({len(tokenizer(choice)["input_ids"]) for choice in question["choices"]}) == 1


def test_lm_eval_runs_the_task_from_any_folder_on_text_in_the_chat_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    monkeypatch.chdir(tmp_path)
    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            num_key_value_heads=1,
            max_position_embeddings=128,
        )
    )
    found = lm_eval.simple_evaluate(
        model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=32),
        tasks=["toy_tickets"],
        task_manager=TaskManager(include_path=str(TASKS), include_defaults=False),
        limit=20,
        log_samples=True,
    )
    assert 0 <= found["results"]["toy_tickets"]["acc,none"] <= 1
    samples = found["samples"]["toy_tickets"]
    assert len(samples) == 20
    for sample, question in zip(samples, committed(), strict=False):
        context = sample["arguments"][0][0]
        turns = [{"role": "user", "content": question["prompt"]}]
        rendered = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        assert context == rendered + question["opening"]
        assert [choice for _, choice in sample["arguments"]] == question["choices"]
        assert tokenizer.unk_token_id not in tokenizer(context)["input_ids"]
