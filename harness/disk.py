"""Whether the disk can hold what a plan needs. Imports no torch: sizes come from records, files' heads, the forecast."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from harness.errors import UserError
from harness.forecast.history import read_forecast
from harness.hub import snapshot
from harness.keeping import KINDS_WITH_WEIGHTS
from harness.numbers import bytes_text
from harness.plan import Plan
from harness.records import sound_record
from pipelines.data.sources import TOY
from pipelines.locations import model_location
from pipelines.outcomes import PretrainOutcome, TrainOutcome
from pipelines.stages import ModelSettings, Stage, TrainSettings

BYTES = {"float32": 4, "bfloat16": 2}
MOMENT_BYTES = 8  # AdamW's two moments in float32
ADAPTER_SHARE = (
    0.05  # of the base's parameters, where no adapter of this comparison is there to tell: a high guess
)
AT_ONCE = 2  # what is not kept: a model and the one made from it; a checkpoint and the one that replaces it
DATA_FACTOR = 6  # ids and texts of a prepared pair against the bytes of its row, a high guess
GGUF_PARAMETERS_PER_BYTE = 2  # at 4 bits each; fewer at more bits


class DiskCheck:
    """Whether a run's results can fit: asked until the model's size is known, and before any training then.

    The answer stays: later, what the run itself has written would count twice.

    Args:
        folder: The comparison's results folder; it is there when the check is asked.
        free_bytes: What the disk has; asked of the system if None.
    """

    def __init__(self, folder: Path, *, free_bytes: int | None = None) -> None:
        self._folder, self._free = folder, free_bytes
        self._is_answered = False
        self._lack: str | None = None

    def require(self, plan: Plan, todo: list[Stage]) -> None:
        """Refuse a run whose results cannot fit.

        Args:
            plan: The plan.
            todo: Its stages that have to run.

        Raises:
            UserError: too little is free; says how much is needed and how much there is.
        """
        if (lack := self.lack(plan, todo)) is not None:
            advice = (
                "" if plan.comparison.keep_weights == "none" else ", or keep fewer weights (keep_weights)"
            )
            raise UserError(
                f"{self._folder}: {lack}. Free some (`prefduel gc {self._folder}` lists what nothing refers to){advice}."
            )

    def lack(self, plan: Plan, todo: list[Stage]) -> str | None:
        """Both figures where too little is free for the stages still to run; None: they fit, or it is not known yet."""
        if self._is_answered:
            return self._lack
        needed = bytes_needed(plan, todo, self._folder)
        if needed is None:
            return None
        free = shutil.disk_usage(self._folder).free if self._free is None else self._free
        self._is_answered = any(isinstance(stage.settings, TrainSettings) for stage in todo)
        self._lack = None
        if needed > free:
            self._lack = f"must have {bytes_text(needed)} free for the {len(todo)} stages that are left, has {bytes_text(free)}"
        return self._lack


def bytes_needed(plan: Plan, todo: list[Stage], folder: Path) -> int | None:
    """Bytes that the stages still to run will take at their height; None where the model's size is not known here."""
    shape = plan.comparison.training
    making = [stage for stage in todo if stage.kind in KINDS_WITH_WEIGHTS]
    data = _data_bytes(plan) if any(stage.kind == "data" for stage in todo) else 0
    if not making:
        return data
    parameters, trained = _parameters(plan, folder)
    if parameters is None:
        return None
    if shape.tuning == "full":
        trained = parameters
    trained = trained or int(parameters * ADAPTER_SHARE)
    trained_bytes = trained * _trained_size(plan)
    weights = {
        stage.id: parameters * BYTES[shape.dtype] if stage.kind in ("pretrain", "convert") else trained_bytes
        for stage in making
    }
    largest = max(weights.values())
    at_once = AT_ONCE * largest
    if plan.comparison.save_every_minutes is not None:
        at_once += AT_ONCE * (largest + trained * MOMENT_BYTES)
    if shape.select == "best_validation":  # the best so far, and those of before that checkpoints still hold
        at_once += largest * (1 if plan.comparison.save_every_minutes is None else 1 + AT_ONCE)
    num_running = min(len(making), max(stage.workers for stage in making))
    return data + sum(weights[stage] for stage in _kept(plan, making)) + num_running * at_once


def _kept(plan: Plan, making: list[Stage]) -> list[str]:
    """Stages whose weights will all be there when the last one is done; `best` is known only then."""
    keep = plan.comparison.keep_weights
    ids = [stage.id for stage in making]
    if keep == "all":
        return ids
    final = {trial.training[-1] for trial in plan.trials if trial.role == "arm" and trial.training}
    return [] if keep == "none" else [stage for stage in ids if stage in final]


def _trained_size(plan: Plan) -> int:
    """Bytes of a trained number: float32, unless weights are bfloat16 ones without a float32 master."""
    shape = plan.comparison.training
    return BYTES[shape.dtype] if shape.master_weights == "none" else BYTES["float32"]


def _parameters(plan: Plan, folder: Path) -> tuple[int | None, int | None]:
    """Parameters of the model, and of what is trained of it, as far as records, files or the forecast tell."""
    for stage in plan.stages:
        record = sound_record(folder / stage.id)
        outcome = record.outcome if record else None
        if isinstance(outcome, TrainOutcome):
            return outcome.num_parameters, outcome.num_trainable_parameters
        if isinstance(outcome, PretrainOutcome):
            return outcome.num_parameters, None
    model = plan.comparison.model
    location = _files_of(model)
    if location is None:
        return _forecast_parameters(plan, folder)
    if model.gguf_file is not None and (location / model.gguf_file).is_file():
        return (location / model.gguf_file).stat().st_size * GGUF_PARAMETERS_PER_BYTE, None
    counts = [_parameters_in(path) for path in sorted(location.glob("*.safetensors"))]
    return (sum(counts), None) if counts else _forecast_parameters(plan, folder)


def _files_of(model: ModelSettings) -> Path | None:
    """The folder of a model's files: its own, or that which the hub's were fetched into; None where there is none yet."""
    location = Path(model_location(model.name))
    if location.is_dir():
        return location
    return None if model.name == TOY else snapshot(model.name, "model", model.revision)


def _forecast_parameters(plan: Plan, folder: Path) -> tuple[int | None, int | None]:
    """As the forecast of these stages has them: it knows shapes of models that are not here yet."""
    forecast = read_forecast(folder)
    if forecast is None or not {one.id for one in forecast.planned} & {stage.id for stage in plan.stages}:
        return None, None
    stages = [stage for arm in forecast.arms.values() for stage in arm.stages]
    trained = max(stage.disk_bytes for stage in stages) // _trained_size(plan)
    shape = plan.comparison.training
    if shape.tuning == "full":
        return trained, trained
    return max(stage.parts.weights_bytes for stage in stages) // BYTES[shape.dtype], trained


def _parameters_in(path: Path) -> int:
    """Numbers in a safetensors file, by its head: eight bytes of length, then JSON with every tensor's shape."""
    with path.open("rb") as file:
        head = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    total = 0
    for name, tensor in head.items():
        if name != "__metadata__":
            size = 1
            for length in tensor["shape"]:
                size *= length
            total += size
    return total


def _data_bytes(plan: Plan) -> int:
    path = Path(plan.comparison.data.path)
    return path.stat().st_size * DATA_FACTOR if path.is_file() else 0
