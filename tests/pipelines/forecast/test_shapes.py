"""Shapes by name, without a download."""

from __future__ import annotations

import pytest

from pipelines.errors import PipelineError
from pipelines.forecast.fakes import meta_model
from pipelines.forecast.shapes import shape_of
from pipelines.models import count_parameters
from pipelines.stages import ModelSettings
from tests.pipelines.forecast.tiny_shapes import settings

# As the models' own pages count them.
PUBLISHED = {
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "Qwen/Qwen3-4B": 4_022_468_096,
    "mistralai/Mistral-7B-v0.1": 7_241_732_096,
    "google/gemma-3-1b-pt": 999_885_952,
    "HuggingFaceTB/SmolLM2-135M": 134_515_008,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_known_shape_has_the_published_number_of_parameters(name: str) -> None:
    config = shape_of(ModelSettings(name=name))
    assert count_parameters(meta_model(config, settings("sft")))[0] == PUBLISHED[name]


def test_an_unknown_shape_says_which_are_known() -> None:
    with pytest.raises(
        PipelineError, match=r"shape of 'nobody/Nothing-9B' is not on this machine.*Qwen/Qwen3-4B"
    ):
        shape_of(ModelSettings(name="nobody/Nothing-9B"))
