"""Replies: greedy is the argmax, samples follow the softmax, and neither depends on the batch around."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
import torch
from scipy.stats import chisquare
from transformers import GenerationConfig, PreTrainedModel

from harness.evaluation.replies import (
    GumbelNoise,
    Limits,
    Reply,
    greedy_replies,
    item_seed,
    neutral_generation,
    sampled_replies,
)
from pipelines.errors import PipelineError
from tests.harness.evaluation import tiny_models

PROMPTS = tiny_models.random_ids(3, 8, 1, 12, 5, 3)
LIMITS = Limits(
    end_of_turn_ids=[tiny_models.EOS, 9], pad_token_id=tiny_models.PAD, max_new_tokens=12, batch_size=4
)
SEEDS = [item_seed(0, f"uid {number}") for number in range(len(PROMPTS))]


@torch.no_grad()
def argmax_reply(model: PreTrainedModel, prompt: list[int]) -> Reply:
    """Token by token, the whole sequence anew each time: no cache, no padding, no library."""
    ids: list[int] = []
    while len(ids) < LIMITS.max_new_tokens:
        token = int(model(torch.tensor([prompt + ids])).logits[0, -1].argmax())
        if token in LIMITS.end_of_turn_ids:
            return Reply(ids, stopped=True)
        ids.append(token)
    return Reply(ids, stopped=False)


def models() -> list[PreTrainedModel]:
    return [tiny_models.llama(seed) for seed in (3, 12)] + [tiny_models.gpt2()]


def test_greedy_replies_are_the_argmax_at_every_place() -> None:
    found = [(greedy_replies(model, PROMPTS, LIMITS), model) for model in models()]
    for replies, model in found:
        assert replies == [argmax_reply(model, prompt) for prompt in PROMPTS]
    stopped = {reply.stopped for replies, _ in found for reply in replies}
    assert stopped == {True, False}


@pytest.mark.parametrize(
    ("longest", "said"),
    [
        (
            50,
            r"^max_new_tokens: the longest prompt \(50 tokens\) and a reply must fit the model's 64 learnt positions, got 20\. "
            "Use at most 14$",
        ),
        (64, "None fits: use a smaller training.max_length$"),
    ],
)
def test_replies_beyond_the_learnt_positions_are_refused_before_any_is_made(longest: int, said: str) -> None:
    told: list[int] = []
    prompts = [*PROMPTS, *tiny_models.random_ids(longest)]
    limits = dataclasses.replace(LIMITS, max_new_tokens=20)
    with pytest.raises(PipelineError, match=said):
        greedy_replies(tiny_models.gpt2(), prompts, limits, progress=lambda done, _: told.append(done))
    assert told == []


def test_replies_up_to_the_last_learnt_position_are_made_and_rotary_positions_are_no_bound() -> None:
    prompts = tiny_models.random_ids(50)
    never = dataclasses.replace(LIMITS, end_of_turn_ids=[tiny_models.VOCABULARY])
    (reply,) = greedy_replies(tiny_models.gpt2(), prompts, dataclasses.replace(never, max_new_tokens=14))
    assert len(reply.ids) == 14
    (reply,) = greedy_replies(tiny_models.llama(), prompts, dataclasses.replace(never, max_new_tokens=40))
    assert len(reply.ids) == 40


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_a_reply_does_not_depend_on_the_batch_around_it(batch_size: int) -> None:
    other = dataclasses.replace(LIMITS, batch_size=batch_size)
    for model in models():
        assert greedy_replies(model, PROMPTS, other) == greedy_replies(model, PROMPTS, LIMITS)
        for temperature in (1.0, 0.7):
            backwards = sampled_replies(
                model, PROMPTS[::-1], other, seeds=SEEDS[::-1], temperature=temperature
            )
            assert backwards[::-1] == sampled_replies(
                model, PROMPTS, LIMITS, seeds=SEEDS, temperature=temperature
            )


@torch.no_grad()
def gaps(model: PreTrainedModel, prompt: list[int], reply: Reply) -> list[float]:
    """How far the two likeliest tokens lie apart at each place of a reply, by a float64 log-softmax of the sequence alone."""
    ends = LIMITS.end_of_turn_ids[:1] if reply.stopped else []
    logits = model(torch.tensor([prompt + reply.ids + ends])).logits[0].double()
    best = torch.log_softmax(logits, dim=-1)[len(prompt) - 1 : -1].topk(2, dim=-1).values
    return (best[:, 0] - best[:, 1]).tolist()


def test_places_where_the_two_likeliest_tokens_are_nearly_equal_are_counted() -> None:
    model = tiny_models.llama()
    # Two tokens with one embedding: wherever one of them is the likeliest, the other is as likely.
    rows = model.lm_head.weight.data
    favourite = greedy_replies(model, PROMPTS, LIMITS)[0].ids[0]
    rows[2 if favourite != 2 else 3] = rows[favourite]
    replies = greedy_replies(model, PROMPTS, LIMITS)
    expected = [sum(gap <= 1e-4 for gap in gaps(model, *both)) for both in zip(PROMPTS, replies, strict=True)]
    assert [reply.near_ties for reply in replies] == expected
    assert sum(expected) > 0
    for other in (tiny_models.llama(12), tiny_models.gpt2()):
        found = greedy_replies(other, PROMPTS, LIMITS)
        assert [reply.near_ties for reply in found] == [
            sum(gap <= 1e-4 for gap in gaps(other, *both)) for both in zip(PROMPTS, found, strict=True)
        ]


def test_a_greedy_reply_depends_on_the_batch_at_near_ties_alone() -> None:
    for model in models():
        in_batches = greedy_replies(model, PROMPTS, LIMITS)
        alone = greedy_replies(model, PROMPTS, dataclasses.replace(LIMITS, batch_size=1))
        for one, other in zip(in_batches, alone, strict=True):
            assert one.near_ties == other.near_ties
            assert one == other or one.near_ties > 0


def test_sampling_repeats_with_its_seed_and_changes_with_it() -> None:
    model = tiny_models.llama()
    first = sampled_replies(model, PROMPTS, LIMITS, seeds=SEEDS)
    assert sampled_replies(model, PROMPTS, LIMITS, seeds=SEEDS) == first
    assert sampled_replies(model, PROMPTS, LIMITS, seeds=[seed + 1 for seed in SEEDS]) != first
    assert item_seed(0, "a") != item_seed(0, "b")
    assert item_seed(0, "a") != item_seed(1, "a")


def test_samples_follow_the_models_softmax_at_temperature_1() -> None:
    logits = torch.tensor([2.0, 0.0, 1.0, -1.0, 0.5])
    count = 4000
    noise = GumbelNoise(list(range(count)))
    drawn = noise(torch.zeros(count, 1), logits.repeat(count, 1)).argmax(dim=1)
    seen = torch.bincount(drawn, minlength=5).numpy()
    expected = (logits.double().softmax(0) * count).numpy()
    assert chisquare(seen, expected).pvalue > 0.01


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@torch.no_grad()
def test_sampled_tokens_follow_the_softmax_of_a_models_logits_over_the_temperature(
    temperature: float,
) -> None:
    """Two tokens of many replies to one prompt, against the product of float64 softmaxes of the plain forward pass."""
    model, count, prompt = tiny_models.llama(), 3000, PROMPTS[0]
    limits = dataclasses.replace(LIMITS, end_of_turn_ids=[tiny_models.EOS], max_new_tokens=2, batch_size=500)
    drawn = sampled_replies(
        model, [prompt] * count, limits, seeds=list(range(count)), temperature=temperature
    )
    first = (model(torch.tensor([prompt])).logits[0, -1].double() / temperature).softmax(0)
    after = model(torch.tensor([[*prompt, token] for token in range(tiny_models.VOCABULARY)])).logits[:, -1]
    both = first[:, None] * (after.double() / temperature).softmax(1)
    expected = {
        (one, two): float(both[one, two])
        for one in range(tiny_models.VOCABULARY)
        for two in range(tiny_models.VOCABULARY)
        if tiny_models.EOS not in (one, two)
    }
    likely = sorted(expected, key=lambda pair: -expected[pair])[:12]
    seen = Counter(tuple(reply.ids) for reply in drawn)
    counts = [seen[pair] for pair in likely]
    shares = [expected[pair] for pair in likely]
    assert (
        chisquare(
            [*counts, count - sum(counts)], [*(share * count for share in shares), (1 - sum(shares)) * count]
        ).pvalue
        > 0.01
    )


def test_a_colder_sample_is_nearer_to_the_greedy_reply() -> None:
    model = tiny_models.llama()
    greedy = greedy_replies(model, PROMPTS, LIMITS)
    assert sampled_replies(model, PROMPTS, LIMITS, seeds=SEEDS, temperature=1e-4) == greedy
    assert sampled_replies(model, PROMPTS, LIMITS, seeds=SEEDS, temperature=1.0) != greedy


def test_the_checkpoints_own_generation_settings_do_not_reach_the_replies() -> None:
    model = tiny_models.llama()
    plain = greedy_replies(model, PROMPTS, LIMITS)
    own = GenerationConfig(
        do_sample=True, temperature=3.0, top_k=2, repetition_penalty=9.0, eos_token_id=[17]
    )
    model.generation_config = own
    torch.manual_seed(1)
    assert greedy_replies(model, PROMPTS, LIMITS) == plain
    assert model.generation_config is own


def test_a_models_generation_settings_come_back_after_an_error() -> None:
    model = tiny_models.llama()
    own = model.generation_config
    with pytest.raises(RuntimeError, match="stop"), neutral_generation(model):
        raise RuntimeError("stop")
    assert model.generation_config is own


def test_an_adapter_answers_with_its_own_weights() -> None:
    model = tiny_models.llama_with_adapter()
    with_adapter = greedy_replies(model, PROMPTS, LIMITS)
    assert with_adapter == greedy_replies(model.merge_and_unload(), PROMPTS, LIMITS)
    assert with_adapter != greedy_replies(tiny_models.llama(), PROMPTS, LIMITS)
