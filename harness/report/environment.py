"""Where it ran, where each number is kept, how to run it again, and what the words mean."""

from __future__ import annotations

from collections.abc import Iterable

from harness.concurrency import WORTH_IT, Concurrency, read_choice
from harness.numbers import bytes_text, number
from harness.plan import Trial
from harness.records import Record
from harness.report.page import Block, Bullets, Code, Inline, Listing, Paragraph, Section, Table, Text, cut
from harness.report.settings import config_text, run_command
from harness.report.view import View
from pipelines.stages import EvaluateSettings

DIRTY = "-dirty"  # what harness.machine puts after a commit with changes
CONFIG_CHARACTERS, CONFIG_LINES = 20_000, 400
MOST_VALUES = 6


def environment_section(view: View) -> Section:
    """Machine, versions and commit of the stages; several values where they differ."""
    records = list(view.results.records.values())
    stages = view.results.plan.stages
    libraries = dict.fromkeys(name for record in records for name in record.versions)
    device_memory = (record.machine.accelerator_memory_bytes for record in records)
    found: list[tuple[str, Iterable[object]]] = [
        ("processor", (record.machine.processor for record in records)),
        ("cores", (record.machine.num_cores for record in records)),
        ("memory", (bytes_text(record.machine.memory_bytes) for record in records)),
        ("accelerator", (record.machine.accelerator or "none" for record in records)),
        ("accelerator memory", (bytes_text(memory) for memory in device_memory if memory)),
        ("driver", (record.machine.driver or "none" for record in records)),
        ("device, CPU threads", (f"{stage.device}, {stage.threads}" for stage in stages)),
        ("stages at a time", _at_a_time(records)),
        ("git commit", (record.git_commit or "not in a repository" for record in records)),
        ("stages started (UTC)", _span(records)),
        # lists, not generators: a generator would look `name` up when it is read, after the last library
        *((name, [record.versions.get(name, "absent") for record in records]) for name in libraries),
    ]
    rows = [(name, cells) for name, values in found if (cells := _values(view, values))]
    blocks: list[Block] = [Table(["what", "value"], rows, align="ll")]
    choice = read_choice(view.results.folder)
    return Section("Environment", blocks if choice is None else [*blocks, Paragraph(_chosen(view, choice))])


def files_section(view: View) -> Section:
    """Which stage folders stand behind each trial, so that a number can be followed to its file."""
    plan = view.results.plan
    measure = {stage.id for stage in plan.stages if isinstance(stage.settings, EvaluateSettings)}
    before = list(dict.fromkeys(stage_id for trial in plan.trials for stage_id in trial.preparation))
    rows = [
        (
            "before all trials",
            _ids([stage_id for stage_id in before if stage_id not in measure]),
            _ids([stage_id for stage_id in before if stage_id in measure]),
        ),
        *(
            (trial.label(), _ids(_trained(trial)), _ids([*trial.evaluations, *trial.judgements]))
            for trials in view.results.models_and_points().values()
            for trial in trials
        ),
    ]
    head = ["trial", "data and training stages", "evaluation and judges' stages"]
    intro = (
        "Each stage's folder below ",
        Code(f"results/{view.name}/"),
        " has its ",
        Code("record.json"),
        "; evaluations have their ",
        Code("items.jsonl"),
        ". ",
        Code(view.export),
        " writes items, scores, trials and stages as tables.",
    )
    table = Table(head, rows, align="lll")
    return Section("Where the numbers are", [Paragraph(intro), *cut(table, view.export)])


def reproduce_section(view: View) -> Section:
    """The config as it ran, the commit, and the command."""
    commits = [record.git_commit for record in view.results.records.values() if record.git_commit]
    file = Code(f"{view.name}.yaml")
    versions: Text = ("With the versions above: save this as ", file)
    if commits:
        names = " or ".join(sorted({commit.removesuffix(DIRTY) for commit in commits}))
        changed = " (there were changes that were not committed)"
        dirty = changed if any(commit.endswith(DIRTY) for commit in commits) else ""
        versions = (f"At commit {names}{dirty}, with the locked requirements: save this as ", file)
    blocks: list[Block] = [
        Paragraph(versions),
        Listing(config_text(view), "yaml", CONFIG_CHARACTERS, CONFIG_LINES),
        Paragraph("and run"),
        Listing(run_command(view), "sh"),
        Paragraph(_elsewhere(view)),
    ]
    return Section("How to reproduce", blocks)


def words_section() -> Section:
    """The glossary."""
    return Section(
        "Words",
        [
            Bullets(
                [
                    "SFT: supervised fine-tuning on the chosen replies. DPO: a second stage that prefers chosen to rejected, "
                    "held near a reference model. ORPO: both in one stage, without a reference.",
                    "arm: one recipe. control: a model measured beside the arms (base: untouched; sft: SFT alone). seed: one "
                    "repetition of an arm with other random numbers. item: one test prompt or pair. stage: one training or one "
                    "evaluation.",
                    "95 % interval: made in this way, 95 of 100 such intervals hold the true value.",
                    "margin: the difference that was declared too small to matter, before the run.",
                    "equivalent: shown to differ by less than the margin. undecided: not shown to differ, nor to be "
                    "equivalent; more data would tell.",
                    "tokens: the pieces of words that a model reads and writes. loss: what a trainer makes small; each "
                    "trainer has its own.",
                ]
            )
        ],
    )


def _elsewhere(view: View) -> str:
    """How far another machine's numbers may be from these."""
    said = (
        "On a CPU the same kind of processor and the same number of threads give the same digits. Another one, or an "
        "accelerator, rounds otherwise, and training makes more of that, as it does of another seed."
    )
    comparison = view.results.plan.comparison
    if comparison.model.name == "toy" and not comparison.base_per_seed:
        said += (
            " Here the base is pre-trained by the run itself, so it would be another base as well: the intervals are for "
            "other seeds and items of this one."
        )
    return said


def _at_a_time(records: list[Record]) -> list[str]:
    """Nothing where every stage ran alone, as stages do."""
    numbers = sorted({record.stage.workers for record in records})
    if max(numbers, default=1) == 1:
        return []
    return [f"{many} (metering: relaxed)" if many > 1 else "1" for many in numbers]


def _chosen(view: View, choice: Concurrency) -> str:
    """What `threads: auto` or `workers: auto` came to, and by which measurements."""
    said = f"Chosen for auto: {_shared_out(choice.workers, choice.threads)}"
    if choice.reason is not None:
        return f"{said}; {view.shown(choice.reason)}."
    tried = "; ".join(
        f"{_shared_out(one.workers, one.threads)} {number(one.steps_per_second)}" for one in choice.tried
    )
    return (
        f"{said}, by measurement before the first stage: the first that none beats by more than {WORTH_IT - 1:.0%}. "
        f"Optimizer steps a second, one of each kind of training stage counted as one: {tried}."
    )


def _shared_out(workers: int, threads: int) -> str:
    stages, each = ("1 stage", "") if workers == 1 else (f"{workers} stages", " each")
    return f"{stages} at a time with {threads} thread{'s' * (threads != 1)}{each}"


def _trained(trial: Trial) -> list[str]:
    """Ids of the stages that its bill counts, and of its training where a night's bill is of other stages."""
    return list(dict.fromkeys([*trial.billed(), *trial.training, *trial.references]))


def _values(view: View, values: Iterable[object]) -> Text:
    """The distinct values, in order of first use."""
    found = dict.fromkeys(map(str, values))
    distinct = list(dict.fromkeys(map(view.shown, found)))
    parts: list[Inline] = []
    for value in distinct[:MOST_VALUES]:
        parts += ["; ", Code(value)] if parts else [Code(value)]
    if len(distinct) > MOST_VALUES:
        parts.append(f"; and {len(distinct) - MOST_VALUES} more")
    return tuple(parts)


def _span(records: list[Record]) -> list[str]:
    times = sorted(record.started_at for record in records if record.started_at)
    return [f"{times[0]} to {times[-1]}"] if times else []


def _ids(stage_ids: list[str]) -> Text:
    if not stage_ids:
        return "none"
    parts: list[Code | str] = [Code(stage_ids[0])]
    for stage_id in stage_ids[1:]:
        parts += [" ", Code(stage_id)]
    return tuple(parts)
