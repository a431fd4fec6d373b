"""How much memory an audit takes by number of pairs.

    python -m benchmarks.audit_memory 100000 1000000

Made-up lines of `pairs.jsonl`, and of the `batches.jsonl` of three stages (SFT, DPO, ORPO; one epoch in batches of 16), are held as the
audit holds them, each number of pairs in a process of its own. Printed is that process' peak of resident memory above what its imports hold.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from hashlib import blake2b
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from harness.audit.prepared import PreparedPairs
from harness.audit.received import receive

BATCH, MICRO_BATCH = 16, 8
PROMPT, CHOSEN, REJECTED = 25, 30, 35  # tokens
STRIDE = 7_919  # a prime: pairs come in another order than they were prepared in


def peak_bytes() -> int:
    """Of this process since it started."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def of(place: int, what: str) -> str:
    """16 hex digits."""
    return blake2b(f"{what} {place}".encode(), digest_size=8).hexdigest()


def prepared_rows(count: int) -> Iterator[dict[str, Any]]:
    """So many training pairs, and a tenth as many of the test split."""
    for place in range(count + count // 10):
        hashes = {name: of(place, name) for name in ("prompt", "prompt_normalised", "chosen", "rejected")}
        tokens = {"prompt_tokens": PROMPT, "chosen_tokens": CHOSEN, "rejected_tokens": REJECTED}
        split = "train" if place < count else "test"
        yield {"uid": of(place, "uid"), "split": split, "prompt_ends": 0, "closed": True, **hashes, **tokens}


def received_lines(count: int, sides: dict[str, int]) -> Iterator[dict[str, Any]]:
    """A line for each micro-batch of one epoch."""
    for start in range(0, count, MICRO_BATCH):
        places = [place * STRIDE % count for place in range(start, min(start + MICRO_BATCH, count))]
        sequences = [
            {
                "uid": of(place, "uid"), "side": side, "ids": of(place, side), "loss": f"{PROMPT}-{PROMPT + reply - 1}",
                "tokens": PROMPT + reply, "ends": 1,
            }
            for side, reply in sides.items()
            for place in places
        ]  # fmt: skip
        yield {"step": start // BATCH + 1, "sequences": sequences}


def measure(count: int) -> None:
    """Hold what an audit of so many pairs holds, and print what that took."""
    imports = peak_bytes()
    prepared = PreparedPairs(prepared_rows(count))
    after = peak_bytes()
    both = {"chosen": CHOSEN, "rejected": REJECTED}
    stages = [
        receive(received_lines(count, sides), prepared, paired="rejected" in sides, whole_chosen=False)
        for sides in ({"chosen": CHOSEN}, both, both)
    ]
    assert not any(stage.num_unknown or stage.ids.count or stage.masks.count for stage in stages)
    mebibytes = [(peak - imports) / 2**20 for peak in (after, peak_bytes())]
    print(f"{count:,} pairs: {mebibytes[0]:.0f} MiB prepared, {mebibytes[1]:.0f} MiB with three stages")


def main() -> None:
    """Measure each number of pairs that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs", type=int, nargs="+")
    for count in parser.parse_args().pairs:
        process = get_context("spawn").Process(target=measure, args=(count,))
        process.start()
        process.join()


if __name__ == "__main__":
    main()
