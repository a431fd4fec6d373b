"""Pins what makes numbers differ between runs. Part of every stage's identity, so it does nothing else."""

from __future__ import annotations

from pipelines.stages import Stage


def make_deterministic(stage: Stage) -> None:
    """Pin threads, seed, and kernels that choose by timing, for the stage that this process runs."""
    import torch

    torch.set_num_threads(stage.threads)
    torch.manual_seed(stage.seed)
    torch.use_deterministic_algorithms(stage.device == "cpu")
    # Otherwise torch fills every new tensor with NaN: TRL's fused head in SFT and DPO allocates large ones, and DPO
    # took three times as long, which would be charged to its arm.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
