"""Writes what a run left as tidy tables: a row an item, a trial's metric, a trial, a stage. docs/results.md has the columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from harness.costs import cost_of_trial
from harness.hiding import public
from harness.hostile import terminal
from harness.outlook import against
from harness.plan import Trial
from harness.records import Missing
from harness.results import Results
from pipelines.outcomes import ReferenceOutcome, TrainOutcome
from pipelines.stages import EvaluateSettings

if TYPE_CHECKING:
    import pandas

Format = Literal["csv", "parquet", "json"]
Rows = dict[str, list[Any]]  # column to values


class Column(NamedTuple):
    """One column of a table; the dtype is pandas'."""

    dtype: Literal["string", "Int64", "Float64"]
    meaning: str


MODEL = {
    "comparison": Column("string", "the comparison's name"),
    "model": Column("string", "the arm, `base`, `sft`, or a sweep's point such as `orpo@2`"),
    "role": Column("string", "`arm`, `control` or `point`"),
    "seed": Column("Int64", "the trial's seed; empty for a base that all seeds share"),
}
TOKENS = {
    "num_pairs_seen": Column("Int64", "pairs through the policy, epochs counted"),
    "num_policy_tokens": Column("Int64", "tokens through the policy's forward passes, padding not counted"),
    "num_reference_tokens": Column("Int64", "tokens through the reference model's forward passes"),
}
TABLES: dict[str, dict[str, Column]] = {
    "items": {
        **MODEL,
        "stage": Column("string", "id of the evaluation stage"),
        "evaluation": Column(
            "string",
            "its group: `preference`, `generation`, `benchmarks`, `drift`; `judge`, or `judge against` and a model",
        ),
        "metric": Column("string", "name of the number, as in `items.jsonl`"),
        "item": Column("string", "id of the prompt or pair: test ones, of a sweep's point validation ones"),
        "prompt": Column(
            "string", "hash of its prompt, the item itself where it has none: average within it first"
        ),
        "value": Column("Float64", "its value"),
    },
    "scores": {
        **MODEL,
        "stage": Column("string", "id of the evaluation stage"),
        "evaluation": Column("string", "its group"),
        "metric": Column("string", "name of the number"),
        "mean": Column("Float64", "mean over the items"),
        "num_items": Column("Int64", "how many"),
    },
    "trials": {
        **MODEL,
        "training_stages": Column("string", "ids of its training stages in order, separated by spaces"),
        "evaluation_stages": Column("string", "ids of its evaluation stages"),
        "train_seconds": Column(
            "Float64", "training loops and reference log-probs, all stages; empty if one did not finish"
        ),
        "total_seconds": Column(
            "Float64", "the same stages from process start to record, less looks at validation pairs"
        ),
        "peak_memory_bytes": Column("Int64", "the largest peak of its stages"),
        "peak_device_memory_bytes": Column(
            "Int64", "the same by the device's own figure; empty where it was not measured"
        ),
        "steady_train_seconds": Column(
            "Float64", "`train_seconds` without the first optimizer step of each training stage"
        ),
        "waiting_seconds": Column("Float64", "of `train_seconds`: waiting for the data loader"),
        "energy_joules": Column("Float64", "what the GPU's board used; empty where it was not measured"),
        "tokens_per_second": Column("Float64", "`num_policy_tokens` over `train_seconds`"),
        **TOKENS,
    },
    "stages": {
        "comparison": Column("string", "the comparison's name"),
        "stage": Column("string", "its id, which names its folder"),
        "kind": Column("string", "what it does"),
        "status": Column("string", "`done`, how it failed, or `not_run`"),
        "message": Column("string", "why it failed, without absolute paths; unprintable characters by name"),
        "num_trials": Column("Int64", "trials whose bill it is on"),
        "device": Column("string", "`cpu` or `cuda`"),
        "threads": Column("Int64", "CPU threads of torch"),
        "started_at": Column("string", "UTC, ISO 8601"),
        "git_commit": Column("string", "of this project's code"),
        "total_seconds": Column("Float64", "from process start to record"),
        "train_seconds": Column("Float64", "training loop, and reference log-probs before it"),
        "peak_memory_bytes": Column("Int64", "the largest of any phase"),
        "peak_memory_kind": Column("string", "`cuda_reserved` or `resident`"),
        "peak_device_memory_bytes": Column(
            "Int64", "the device's own figure; empty where it was not measured"
        ),
        "steady_train_seconds": Column(
            "Float64",
            "`train_seconds` without the first optimizer step of each process; empty if it does not train",
        ),
        "waiting_seconds": Column("Float64", "of `train_seconds`: waiting for the data loader"),
        "energy_joules": Column("Float64", "what the GPU's board used; empty where it was not measured"),
        "contended": Column(
            "string", "`true` where the machine was shared, `false`; empty where it is not known"
        ),
        "workers": Column(
            "Int64", "stages of its run that could run at a time; more than 1 makes its seconds unreliable"
        ),
        "other_processor_share": Column("Float64", "what others took of the processors' time, 0 to 1"),
        "operations": Column(
            "Float64", "floating-point operations by the model's formula; empty where it has none"
        ),
        "num_steps": Column("Int64", "optimizer steps"),
        **TOKENS,
    },
}


def export(results: Results, folder: Path, form: Format) -> list[Path]:
    """Write every table, a model at a time, so that large results need little memory.

    Args:
        results: What a run left.
        folder: Made if it is not there; tables of the same names are replaced.
        form: `json` is JSON lines.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chunks: dict[str, Callable[[Results], Iterator[Rows]]] = {
        "items": _items,
        "scores": _scores,
        "trials": _trials,
        "stages": _stages,
    }
    written = []
    for name, make in chunks.items():
        path = folder / f"{name}.{'jsonl' if form == 'json' else form}"
        frames = (_frame(name, rows) for rows in make(results))
        {"csv": _write_csv, "json": _write_json, "parquet": _write_parquet}[form](path, frames)
        written.append(path)
    return written


def _frame(name: str, rows: Rows) -> pandas.DataFrame:
    import pandas

    return pandas.DataFrame(
        {column: pandas.array(rows[column], dtype=about.dtype) for column, about in TABLES[name].items()}
    )


def _write_csv(path: Path, frames: Iterator[pandas.DataFrame]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        for place, frame in enumerate(frames):
            frame.to_csv(file, index=False, header=place == 0, lineterminator="\n")


def _write_json(path: Path, frames: Iterator[pandas.DataFrame]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for frame in frames:  # not by pandas, which would round to 15 digits
            for row in frame.astype(object).where(frame.notna(), None).to_dict("records"):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _write_parquet(path: Path, frames: Iterator[pandas.DataFrame]) -> None:
    import pyarrow
    from pyarrow import parquet

    first = pyarrow.Table.from_pandas(next(frames), preserve_index=False)
    with parquet.ParquetWriter(path, first.schema) as writer:
        writer.write_table(first)
        for frame in frames:
            writer.write_table(pyarrow.Table.from_pandas(frame, schema=first.schema, preserve_index=False))


def _empty(name: str) -> Rows:
    return {column: [] for column in TABLES[name]}


def _items(results: Results) -> Iterator[Rows]:
    for trials in results.models_and_points().values():
        rows = _empty("items")
        for trial, stage_id, group in _evaluations(results, trials):
            for metric, column in results.items[stage_id].items():
                count = len(column.items)
                _extend(rows, results, trial, count, stage=stage_id, evaluation=group, metric=metric)
                rows["item"] += column.items
                rows["prompt"] += column.clusters
                rows["value"] += column.values.tolist()
        yield rows


def _scores(results: Results) -> Iterator[Rows]:
    for trials in results.models_and_points().values():
        rows = _empty("scores")
        for trial, stage_id, group in _evaluations(results, trials):
            for metric, column in results.items[stage_id].items():
                about = {"mean": float(column.values.mean()), "num_items": len(column.items)}
                _extend(rows, results, trial, 1, stage=stage_id, evaluation=group, metric=metric, **about)
        yield rows


def _trials(results: Results) -> Iterator[Rows]:
    rows = _empty("trials")
    for trials in results.models_and_points().values():
        for trial in trials:
            cost = cost_of_trial(results, trial)
            about = {name: getattr(cost, name, None) for name in TABLES["trials"] if name not in MODEL}
            about["training_stages"] = " ".join(trial.training)
            about["evaluation_stages"] = " ".join(trial.evaluations)
            _extend(rows, results, trial, 1, **about)
    yield rows


def _stages(results: Results) -> Iterator[Rows]:
    rows = _empty("stages")
    for stage in results.plan.stages:
        record = results.records.get(stage.id)
        cost = record.cost if record else None
        outcome = record.outcome if record else None
        trained = outcome if isinstance(outcome, TrainOutcome | ReferenceOutcome) else None
        work = trained.work if trained else None
        about: dict[str, Any] = {
            "comparison": results.plan.comparison.name,
            "stage": stage.id,
            "kind": stage.kind,
            "status": record.status if record else "not_run",
            "message": terminal(public(record.failure.message)) if record and record.failure else None,
            "num_trials": results.served[stage.id],
            "device": stage.device,
            "threads": stage.threads,
            "started_at": record.started_at or None if record else None,
            "git_commit": record.git_commit if record else None,
            "contended": str(cost.contended).lower() if cost and isinstance(cost.contended, bool) else None,
            "operations": work.operations if work else None,
        }
        for name in TABLES["stages"]:
            source = trained if name in ("num_steps", *TOKENS) else cost
            value = about[name] if name in about else getattr(source, name, None)
            rows[name].append(None if isinstance(value, Missing) else value)
    yield rows


def _evaluations(results: Results, trials: list[Trial]) -> Iterator[tuple[Trial, str, str]]:
    """The finished evaluations of a model, then what judges say of its replies: trial, stage id, group."""
    for trial in trials:
        for stage_id in [*trial.evaluations, *trial.judgements]:
            stage = results.stage(stage_id)
            if stage_id not in results.items:
                continue
            if isinstance(stage.settings, EvaluateSettings):
                yield trial, stage_id, stage.settings.evaluation.group
            else:
                yield trial, stage_id, f"judge{against(results.plan, stage)}"


def _extend(rows: Rows, results: Results, trial: Trial, count: int, **values: Any) -> None:
    """Append `count` equal rows, except for the columns that the caller fills."""
    values |= {"comparison": results.plan.comparison.name}
    values |= {"model": trial.name, "role": trial.role, "seed": trial.seed}
    for name, value in values.items():
        rows[name] += [value] * count
