"""Which way of reading is taken for which model, and that each way gives the same numbers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel

from harness.evaluation import reading
from harness.evaluation.logprobs import reply_logprobs
from harness.evaluation.packing import Prompted, apart, batches, together
from harness.evaluation.reading import Reader
from tests.harness.evaluation import tiny_models
from tests.harness.evaluation.test_logprobs import ITEMS, MODELS, assert_equal

CPU = torch.device("cpu")


def reader(model: PreTrainedModel) -> Reader:
    with torch.inference_mode():
        return Reader(model, ITEMS)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "no positions"])
def test_a_prompt_is_computed_once_wherever_the_model_allows_it(name: str) -> None:
    found = reader(MODELS[name]())
    assert found.through_body
    assert found.shares_prompts


def test_a_model_that_counts_distances_in_the_row_gets_a_row_for_each_reply() -> None:
    found = reader(tiny_models.bloom())
    assert found.through_body
    assert not found.shares_prompts


def test_only_items_that_fit_the_window_share_a_row() -> None:
    found = reader(tiny_models.mistral(9))
    short = [place for place, item in enumerate(ITEMS) if item.longest <= 9]
    assert 0 < len(short) < len(ITEMS)
    for batch in found.batches(ITEMS, batch_size=3):
        assert set(batch) <= set(short) or set(batch).isdisjoint(short)


def test_attention_that_takes_no_mask_of_its_own_gets_a_row_for_each_reply() -> None:
    model = tiny_models.llama()
    model.config._attn_implementation = "flash_attention_2"
    found = object.__new__(Reader)
    found.model, found.window, found._output = model, float("inf"), None
    assert not found._sharing_is_right(ITEMS)


@pytest.mark.parametrize("make", [tiny_models.llama, tiny_models.gemma2, tiny_models.opt])
def test_every_way_of_reading_gives_the_same_numbers(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], PreTrainedModel]
) -> None:
    model = make()
    shared = reply_logprobs(model, ITEMS, batch_size=3)
    monkeypatch.setattr(reading, "FREE_MASKS", ())
    assert not reader(model).shares_prompts
    apart = reply_logprobs(model, ITEMS, batch_size=3)
    monkeypatch.setattr(reading, "_output_of_body", lambda _model: None)
    assert not reader(model).through_body
    whole = reply_logprobs(model, ITEMS, batch_size=3)
    assert_equal(shared, apart)
    assert_equal(apart, whole)


def test_a_body_that_cannot_be_split_off_is_read_as_a_whole() -> None:
    class Doubled(tiny_models.LlamaForCausalLM):  # type: ignore[misc, name-defined]
        """Its logits depend on the ids too, so that its body's output is not enough."""

        def forward(self, input_ids: torch.Tensor, **more: object) -> object:
            made = super().forward(input_ids=input_ids, **more)
            made.logits = made.logits + input_ids[..., None] / 7
            return made

    torch.manual_seed(2)
    model = Doubled(tiny_models.LlamaConfig(**tiny_models.SHAPE, **tiny_models.SPECIAL)).eval()
    assert not reader(model).through_body
    plain = tiny_models.LlamaForCausalLM(model.config).eval()
    plain.load_state_dict(model.state_dict())
    # Adding the same to every logit of a place leaves the softmax as it is.
    assert_equal(reply_logprobs(model, ITEMS, batch_size=2), reply_logprobs(plain, ITEMS, batch_size=2))


def test_a_lack_of_memory_is_not_taken_for_a_model_that_cannot_share(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(reading, "logits_after_body", full)
    with pytest.raises(torch.OutOfMemoryError):
        reader(tiny_models.llama())


def test_a_wrapped_forward_is_put_back_after_reading() -> None:
    model = tiny_models.llama()
    own = model.model.forward
    model.model.forward = lambda *given, **named: own(*given, **named)
    wrapped = model.model.forward
    reader(model)
    assert model.model.forward is wrapped


def test_a_shared_row_holds_the_prompt_once_and_predicts_every_reply_token() -> None:
    item = Prompted([5, 6, 7], [[8, 9], [10]])
    packed = together([item, Prompted([5], [[6], [7]])], CPU)
    assert packed.ids_bt.tolist() == [[5, 6, 7, 8, 9, 10], [5, 6, 7, 0, 0, 0]]
    assert packed.positions_bt.tolist() == [[0, 1, 2, 3, 4, 3], [0, 1, 1, 0, 0, 0]]
    assert packed.segments_bt.tolist() == [[0, 0, 0, 1, 1, 2], [0, 1, 2, 2, 2, 2]]
    assert packed.rows_c.tolist() == [0, 0, 0, 1, 1]
    assert packed.places_c.tolist() == [2, 3, 2, 0, 0]
    assert packed.targets_c.tolist() == [8, 9, 10, 6, 7]
    assert apart([item], CPU).ids_bt.tolist() == [[5, 6, 7, 8, 9], [5, 6, 7, 10, 0]]


def test_batches_waste_at_most_a_tenth_on_padding() -> None:
    items = [Prompted([1] * length, [[1]]) for length in (5, 50, 49, 44, 100, 95, 5, 5)]
    made = list(batches(items, 3, lambda item: item.longest, among=list(range(8))))
    assert made == [[4, 5], [1, 2], [3], [0, 6, 7]]
    assert list(batches(items, 3, lambda item: item.longest, among=[])) == []
