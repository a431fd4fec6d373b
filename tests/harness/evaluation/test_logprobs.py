"""Log-probs of replies: right to float64, whatever the model, the batch, the order."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedModel

from harness.evaluation.logprobs import reply_logprobs
from harness.evaluation.packing import Prompted
from pipelines.errors import PipelineError
from tests.harness.evaluation import tiny_models
from tests.pipelines.training.tiny import completion_logprobs as by_hand

MODELS = {
    "llama": tiny_models.llama,
    "tied": tiny_models.tied,
    "gpt2": tiny_models.gpt2,
    "opt": tiny_models.opt,
    "scaled logits": tiny_models.granite,
    "capped logits": tiny_models.gemma2,
    "wide window": lambda: tiny_models.mistral(64),
    "narrow window": lambda: tiny_models.mistral(9),
    "no positions": tiny_models.bloom,
    "adapter": tiny_models.llama_with_adapter,
}
PROMPTS = tiny_models.random_ids(1, 9, 4, 20, 4, 12, 7)
CHOSEN = [[*ids, tiny_models.EOS] for ids in tiny_models.random_ids(5, 1, 0, 11, 3, 26, 8, seed=8)]
REJECTED = [[*ids, tiny_models.EOS] for ids in tiny_models.random_ids(0, 9, 3, 2, 16, 4, 8, seed=9)]
ITEMS = [Prompted(prompt, list(replies)) for prompt, *replies in zip(PROMPTS, CHOSEN, REJECTED, strict=True)]


@pytest.mark.parametrize("name", MODELS)
def test_log_probs_are_those_of_a_float64_softmax_over_each_sequence_alone(name: str) -> None:
    model = MODELS[name]()
    for item, found in zip(ITEMS, reply_logprobs(model, ITEMS, batch_size=3), strict=True):
        for reply, logprobs in zip(item.replies, found, strict=True):
            assert logprobs.dtype == torch.float32
            expected = by_hand(model, item.prompt_ids, reply)
            torch.testing.assert_close(logprobs.double(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", MODELS)
def test_sums_equal_lm_evals_own_loglikelihood_of_the_same_ids(name: str) -> None:
    model = MODELS[name]()
    inner = model.get_base_model() if name == "adapter" else model
    harness = HFLM(pretrained=inner, tokenizer=tiny_models.tokenizer(), batch_size=2)
    requests = [
        ((f"{i}", f"{j}"), item.prompt_ids, reply)
        for i, item in enumerate(ITEMS)
        for j, reply in enumerate(item.replies)
    ]
    theirs = [answer[0] for answer in harness._loglikelihood_tokens(requests, disable_tqdm=True)]
    ours = [float(one.sum()) for found in reply_logprobs(model, ITEMS, batch_size=4) for one in found]
    assert ours == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_neither_batch_size_nor_order_nor_chunk_changes_a_log_prob(name: str) -> None:
    model = MODELS[name]()
    alone = reply_logprobs(model, ITEMS, batch_size=1)
    for batch_size, max_logits in ((2, 1), (5, 7 * tiny_models.VOCABULARY), (100, 10**9)):
        backwards = reply_logprobs(model, ITEMS[::-1], batch_size=batch_size, max_logits=max_logits)
        assert_equal(backwards[::-1], alone)


@pytest.mark.parametrize("make", [tiny_models.dynamic_rope, tiny_models.longrope])
def test_frequencies_are_those_of_each_sequence_alone_whatever_is_read_beside_or_before(
    make: Callable[[], PreTrainedModel],
) -> None:
    """The items are shorter and longer than the 16 tokens up to which these models have the frequencies that they were trained with."""
    expected = [[by_hand(make(), item.prompt_ids, reply) for reply in item.replies] for item in ITEMS]
    model = make()
    for batch_size in (1, 3, 100):
        assert_close(reply_logprobs(model, ITEMS, batch_size=batch_size), expected)
    short = [place for place, item in enumerate(ITEMS) if item.longest < 16]
    found = reply_logprobs(model, [ITEMS[place] for place in short], batch_size=3)
    assert_close(found, [expected[place] for place in short])


def assert_close(found: list[list[torch.Tensor]], expected: list[list[torch.Tensor]]) -> None:
    for one, other in zip(found, expected, strict=True):
        for logprobs, wanted in zip(one, other, strict=True):
            torch.testing.assert_close(logprobs.double(), wanted, atol=1e-5, rtol=0)


def test_the_replies_of_an_item_do_not_see_each_other() -> None:
    model = tiny_models.llama()
    (both,) = reply_logprobs(model, [Prompted(PROMPTS[1], [CHOSEN[3], REJECTED[4]])], batch_size=1)
    (turned,) = reply_logprobs(model, [Prompted(PROMPTS[1], [REJECTED[4], CHOSEN[3]])], batch_size=1)
    (three,) = reply_logprobs(
        model, [Prompted(PROMPTS[1], [CHOSEN[5], CHOSEN[3], REJECTED[4]])], batch_size=1
    )
    single = reply_logprobs(model, [Prompted(PROMPTS[1], [CHOSEN[3]])], batch_size=1)[0]
    assert_equal([both, three[1:]], [turned[::-1], both])
    assert_equal([single], [both[:1]])


def test_padding_on_the_left_gives_the_same_numbers() -> None:
    """As generation pads: the engine pads on the right, and a log-prob must not know."""
    model = tiny_models.llama()
    found = reply_logprobs(model, ITEMS, batch_size=3)
    for place, item in enumerate(ITEMS):
        for number, reply in enumerate(item.replies):
            torch.testing.assert_close(
                found[place][number], left_padded(model, item.prompt_ids, reply, padding=6), atol=1e-5, rtol=0
            )


@torch.no_grad()
def left_padded(model: PreTrainedModel, prompt: list[int], reply: list[int], *, padding: int) -> torch.Tensor:
    ids = torch.tensor([[tiny_models.PAD] * padding + prompt + reply])
    mask = (torch.arange(ids.shape[1]) >= padding).long()[None]
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    logits = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits[0]
    first = padding + len(prompt) - 1
    logprobs = torch.log_softmax(logits[first : first + len(reply)], dim=-1)
    return logprobs.gather(1, torch.tensor(reply)[:, None])[:, 0]


def test_the_head_sees_reply_tokens_only_and_never_more_than_a_chunk() -> None:
    model = tiny_models.llama()
    seen: list[int] = []
    model.lm_head.register_forward_pre_hook(lambda _module, given: seen.append(given[0].shape[:-1].numel()))
    reply_logprobs(model, ITEMS, batch_size=4, max_logits=10 * tiny_models.VOCABULARY)
    tokens = sum(map(len, CHOSEN + REJECTED))
    probes = 2 * 16 + len(CHOSEN[5] + REJECTED[5])  # the longest pair's own numbers are kept
    assert sum(seen) == tokens + probes
    assert max(seen[2:]) == 10  # after the probes of 16 tokens


@pytest.mark.parametrize(
    "item", [Prompted([], [[3]]), Prompted([3], [[]]), Prompted([3], [[4], []]), Prompted([3], [])]
)
def test_nothing_to_score_is_an_error_not_a_division_by_zero(item: Prompted) -> None:
    with pytest.raises(PipelineError, match="empty prompt or an empty reply"):
        reply_logprobs(tiny_models.llama(), [item], batch_size=1)


def test_progress_ends_with_all_items_done() -> None:
    seen: list[tuple[int, int]] = []
    reply_logprobs(
        tiny_models.llama(), ITEMS, batch_size=3, progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1] == (7, 7)
    assert sorted(seen) == seen


def assert_equal(found: list[list[torch.Tensor]], expected: list[list[torch.Tensor]]) -> None:
    assert [len(of_item) for of_item in found] == [len(of_item) for of_item in expected]
    for one, other in zip(found, expected, strict=True):
        for logprobs, others in zip(one, other, strict=True):
            torch.testing.assert_close(logprobs, others, atol=1e-5, rtol=0)
