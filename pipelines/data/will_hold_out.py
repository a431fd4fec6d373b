"""Which prompts a data stage will hold out, told before it has run. No part of the stage's own code, so no part of its identity."""

from __future__ import annotations

from array import array

from pipelines.data.drops import Drop
from pipelines.data.fingerprints import text_hash
from pipelines.data.forms import readable
from pipelines.data.held_out import HeldOut
from pipelines.data.reading import read_pairs
from pipelines.data.splitting import SPLITS, normalised, rows_of_splits, split_of
from pipelines.stages import DataSettings


class WillHoldOut(HeldOut):
    """The prompts that nothing will be trained on, of pairs that turn out too long among them: tokens are not counted.

    Args:
        data: What the stage will read.

    Raises:
        PipelineError: the source is malformed.
    """

    def __init__(self, data: DataSettings) -> None:
        uids, splits, prompts = array("Q"), bytearray(), dict[int, str]()
        for _, found in read_pairs(data).pairs:
            if isinstance(found, Drop):
                continue
            split = split_of(found.prompt, data)
            if split != "train":
                prompts[len(uids)] = text_hash(normalised(readable(found.prompt)))
            uids.append(found.uid)
            splits.append(SPLITS.index(split))
        kept = rows_of_splits(uids, splits, data=data)
        self.sequences = set()  # known once there are tokens
        self._prompts = {prompts[place] for split in SPLITS if split != "train" for place in kept[split]}
