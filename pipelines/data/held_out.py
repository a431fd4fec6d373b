"""Prompts that another data stage holds out, so that SFT's own data set does not give them away."""

from __future__ import annotations

import json
from pathlib import Path

from pipelines.data.fingerprints import text_hash
from pipelines.data.forms import Message, readable
from pipelines.data.splitting import normalised


class HeldOut:
    """The prompts that nothing may be trained on.

    Args:
        pairs_file: Of the data stage that holds them out.

    Attributes:
        sequences: Hashes of the test pairs' token ids: what is a test pair's to the model though its text is another.
    """

    def __init__(self, pairs_file: Path) -> None:
        self._prompts, self.sequences = set[str](), set[str]()
        with pairs_file.open(encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                if row["split"] != "train":
                    self._prompts.add(row["prompt_normalised"])
                if row["split"] == "test":
                    self.sequences.update((row["chosen"], row["rejected"]))

    def __contains__(self, prompt: list[Message]) -> bool:
        """Whether a prompt, or one of its user turns, is held out as it is or but for case, spacing and a closing mark."""
        turns = [message["content"] for message in prompt if message["role"] == "user"]
        return any(text_hash(normalised(text)) in self._prompts for text in (readable(prompt), *turns))
