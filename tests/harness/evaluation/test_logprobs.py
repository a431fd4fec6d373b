"""Log-probs of replies: right to float64, whatever the model, the batch, the order."""

from __future__ import annotations

import pytest
import torch
from lm_eval.models.huggingface import HFLM

from harness.evaluation.logprobs import Scored, completion_logprobs, head_makes_the_logits
from pipelines.errors import PipelineError
from tests.harness.evaluation import tiny_models
from tests.pipelines.training.tiny import completion_logprobs as by_hand

MODELS = {
    "llama": tiny_models.llama,
    "gpt2": tiny_models.gpt2,
    "scaled logits": tiny_models.granite,
    "adapter": tiny_models.llama_with_adapter,
}
PROMPTS = tiny_models.random_ids(1, 9, 4, 20, 4, 12, 7)
REPLIES = [[*ids, tiny_models.EOS] for ids in tiny_models.random_ids(5, 1, 0, 11, 3, 26, 8, seed=8)]
SEQUENCES = [Scored(prompt, reply) for prompt, reply in zip(PROMPTS, REPLIES, strict=True)]


@pytest.mark.parametrize("name", MODELS)
def test_log_probs_are_those_of_a_float64_softmax_over_each_sequence_alone(name: str) -> None:
    model = MODELS[name]()
    found = completion_logprobs(model, SEQUENCES, batch_size=3)
    for prompt, reply, logprobs in zip(PROMPTS, REPLIES, found, strict=True):
        assert logprobs.dtype == torch.float32
        torch.testing.assert_close(logprobs.double(), by_hand(model, prompt, reply), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", MODELS)
def test_sums_equal_lm_evals_own_loglikelihood_of_the_same_ids(name: str) -> None:
    model = MODELS[name]()
    inner = model.get_base_model() if name == "adapter" else model
    harness = HFLM(pretrained=inner, tokenizer=tiny_models.tokenizer(), batch_size=2)
    requests = [((str(i), str(i)), *pair) for i, pair in enumerate(zip(PROMPTS, REPLIES, strict=True))]
    theirs = [answer[0] for answer in harness._loglikelihood_tokens(requests, disable_tqdm=True)]
    ours = [float(logprobs.sum()) for logprobs in completion_logprobs(model, SEQUENCES, batch_size=4)]
    assert ours == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_neither_batch_size_nor_order_nor_chunk_changes_a_log_prob(name: str) -> None:
    model = MODELS[name]()
    alone = completion_logprobs(model, SEQUENCES, batch_size=1)
    for batch_size, max_logits in ((2, 1), (5, 7 * tiny_models.VOCABULARY), (100, 10**9)):
        together = completion_logprobs(model, SEQUENCES[::-1], batch_size=batch_size, max_logits=max_logits)
        for one, other in zip(alone, together[::-1], strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_the_head_sees_completion_tokens_only_and_never_more_than_a_chunk() -> None:
    model = tiny_models.llama()
    seen: list[int] = []

    def note(_module: object, arguments: tuple[torch.Tensor, ...]) -> None:
        if arguments[0].dim() == 2:  # the probe before it gives whole sequences
            seen.append(len(arguments[0]))

    model.lm_head.register_forward_pre_hook(note)
    completion_logprobs(model, SEQUENCES, batch_size=4, max_logits=10 * tiny_models.VOCABULARY)
    assert sum(seen) == sum(map(len, REPLIES))
    assert max(seen) == 10


def test_a_model_that_scales_its_logits_is_not_scored_through_the_bare_head() -> None:
    assert head_makes_the_logits(tiny_models.llama())
    assert head_makes_the_logits(tiny_models.gpt2())
    assert not head_makes_the_logits(tiny_models.granite())


@pytest.mark.parametrize("sequence", [Scored([], [3]), Scored([3], [])])
def test_nothing_to_score_is_an_error_not_a_division_by_zero(sequence: Scored) -> None:
    with pytest.raises(PipelineError, match="empty prompt or an empty reply"):
        completion_logprobs(tiny_models.llama(), [sequence], batch_size=1)


def test_progress_ends_with_all_sequences_done() -> None:
    seen: list[tuple[int, int]] = []
    completion_logprobs(
        tiny_models.llama(), SEQUENCES, batch_size=3, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(3, 7), (6, 7), (7, 7)]
