"""A tokenizer is ready for every arm, with no token added to its vocabulary."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.data.tokenizers import load_tokenizer, template_source
from pipelines.errors import PipelineError
from pipelines.stages import ModelSettings
from tests.pipelines.data import tiny_tokenizers as tiny

TURNS = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "yes"}]


def test_a_base_model_gets_the_default_template_with_its_own_eos_and_no_new_token(tmp_path: Path) -> None:
    made = tiny.make(post="bos")
    model = ModelSettings(name=tiny.saved(made, tmp_path))
    loaded = load_tokenizer(model)
    assert loaded.get_vocab() == made.get_vocab()
    assert template_source(loaded, model) == "default"
    text = loaded.apply_chat_template(TURNS, tokenize=False)
    assert text == "<s>### User:\nhello</s>\n### Assistant:\nyes</s>\n"


def test_the_default_template_writes_no_bos_where_the_tokenizer_adds_none(tmp_path: Path) -> None:
    loaded = load_tokenizer(ModelSettings(name=tiny.saved(tiny.make(), tmp_path)))
    assert loaded.apply_chat_template(TURNS, tokenize=False).startswith("### User:\n")


def test_the_configs_template_is_for_a_tokenizer_without_one(tmp_path: Path) -> None:
    bare = ModelSettings(name=tiny.saved(tiny.make(), tmp_path / "bare"), chat_template=tiny.NO_END)
    assert load_tokenizer(bare).chat_template == tiny.NO_END
    assert template_source(load_tokenizer(bare), bare) == "config"
    own = tiny.saved(tiny.make(template=tiny.CHATML), tmp_path / "own")
    model = ModelSettings(name=own, chat_template=tiny.NO_END)
    assert load_tokenizer(model).chat_template == tiny.CHATML
    assert template_source(load_tokenizer(model), model) == "tokenizer"


@pytest.mark.parametrize(("unknown", "pad"), [(tiny.UNKNOWN, tiny.UNKNOWN), (None, tiny.EOS)])
def test_a_missing_pad_token_is_one_that_is_there(tmp_path: Path, unknown: str | None, pad: str) -> None:
    made = tiny.make(pad_token=None, unk_token=unknown)
    loaded = load_tokenizer(ModelSettings(name=tiny.saved(made, tmp_path)))
    assert loaded.pad_token == pad
    assert len(loaded) == len(made)


def test_a_pad_token_of_its_own_is_kept(tmp_path: Path) -> None:
    assert load_tokenizer(ModelSettings(name=tiny.saved(tiny.make(), tmp_path))).pad_token == tiny.PAD


def test_a_tokenizer_that_does_not_load_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(PipelineError, match="its tokenizer does not load") as error:
        load_tokenizer(ModelSettings(name=str(tmp_path)))
    assert "\n" not in str(error.value)


def test_a_base_model_without_eos_needs_a_template(tmp_path: Path) -> None:
    name = tiny.saved(tiny.make(eos_token=None), tmp_path)
    with pytest.raises(PipelineError, match=r"no EOS token to end a turn with\. Set model\.chat_template"):
        load_tokenizer(ModelSettings(name=name))


def test_the_toy_world_has_its_own() -> None:
    loaded = load_tokenizer(ModelSettings(name="toy"))
    assert (loaded.pad_token, loaded.eos_token) == ("<pad>", "<eos>")
