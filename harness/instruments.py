"""Chooses what measures a stage, by the device that it runs on."""

from __future__ import annotations

from harness.contention import Processors
from harness.device_sampler import DeviceSampler
from harness.meters import Instruments
from harness.nvml import NoDevice, find_gpu
from harness.peaks import NoPeak, ResidentPeak, cuda_peaks
from pipelines.stages import Stage

ON_CPU = "the stage ran on the CPU"


def instruments_of(stage: Stage) -> Instruments:
    """What measures a stage in this process."""
    if stage.device == "cpu":
        nothing = NoPeak(f"{ON_CPU}, where torch keeps no peak of its tensors")
        device = DeviceSampler(NoDevice(ON_CPU))
        return Instruments(
            ResidentPeak(), nothing, nothing, device, Processors(), on_gpu=False, workers=stage.workers
        )
    import torch

    allocated, reserved = cuda_peaks()
    device = DeviceSampler(find_gpu(str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)))
    return Instruments(ResidentPeak(), allocated, reserved, device, Processors(), on_gpu=True)
