"""Read the config of a run of `lm-eval`: which model, and which tasks (docs/spec/lm-eval.md).

Everything that decides a score is in the config or in the tasks' files, which are inputs of the
run or part of the image. The harness's command line, its environment variables and its defaults for
sampling are not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from aicert.errors import ConfigError
from aicert.formats import known_tasks
from aicert.formats.digest import Digest, of_bytes
from aicert.formats.evaluated_tasks import MAX_TASKS, MOST_IN_BATCH, MOST_SHOTS, SEED
from aicert.formats.fields import MAX_INT
from aicert.formats.lockfile import CONFIG_INPUT
from aicert.records.forms import form_of
from enclave_runner.axolotl import strict_yaml
from enclave_runner.axolotl.config import InputView
from enclave_runner.inputs import model_reference
from enclave_runner.inputs.references import Reference, Selection
from enclave_runner.inputs.shared_refusals import require_all_named, require_known_keys
from enclave_runner.lm_eval import definition
from enclave_runner.lm_eval.definition import Files, Source, Task

TRAINER = "a run of lm-eval"
BASE, ADAPTER, TASKS = "base_model", "lora_model_dir", "tasks"
_CHAT, _LIMIT, _SHOTS, _SEED, _BATCH = (
    "apply_chat_template", "limit", "num_fewshot", "seed", "batch_size",
)  # fmt: skip
# Stands for the image where the name of an input stands otherwise.
OF_IMAGE = ""
KEYS = frozenset((ADAPTER, BASE, TASKS, _BATCH, _CHAT, _LIMIT, _SEED, _SHOTS))


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """A config that passed every check.

    `tasks`: the files of tasks, as an input and a path in it; for a task of the image, OF_IMAGE and
    its name. `limit`: at most so many rows of each task, or None.
    """

    base: Reference
    adapter: Reference | None
    tasks: tuple[tuple[str, str], ...]
    shots: int | None
    limit: int | None
    seed: int
    batch_size: int
    chat_template: bool

    @property
    def references(self) -> tuple[Reference, ...]:
        """The models that the child loads."""
        return (self.base,) if self.adapter is None else (self.base, self.adapter)


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationPlan:
    """What the run evaluates: the settings, the tasks, and what is read for each of them.

    `selections`: for each source of a task its selection of rows.
    """

    settings: Settings
    tasks: tuple[Task, ...]
    selections: Mapping[Source, Selection]

    @property
    def config(self) -> bytes:
        """The effective config: everything that decides the results, in one form."""
        own = self.settings
        return strict_yaml.canonical(
            {
                ADAPTER: None if own.adapter is None else own.adapter.place,
                BASE: own.base.place,
                TASKS: [_task_json(task, self.selections) for task in self.tasks],
                _BATCH: own.batch_size,
                _CHAT: own.chat_template,
                _LIMIT: own.limit,
                _SEED: own.seed,
            }
        )

    @property
    def digest(self) -> Digest:
        """SHA-256 of the effective config."""
        return of_bytes(self.config)


def _task_json(task: Task, selections: Mapping[Source, Selection]) -> dict[str, object]:
    rows = {
        name: {"place": selections[source].place, "split": source.split}
        for name, source in (("rows", task.evaluated), ("examples", task.examples))
        if source is not None
    }
    return {"definition": task.definition, "name": task.name, **rows}


def read(data: bytes, inputs: Mapping[str, InputView]) -> Settings:
    """Read the config itself, without the tasks. Raises ConfigError."""
    document = strict_yaml.mapping(data, f"{BASE} and {TASKS}")
    require_known_keys(TRAINER, document, KEYS, hint="docs/spec/lm-eval.md lists them")
    folders = {name: not view.is_file for name, view in inputs.items()}
    base = model_reference.read(BASE, document.get(BASE), folders, "model")
    adapter = None
    if document.get(ADAPTER) is not None:
        adapter = model_reference.read(ADAPTER, document[ADAPTER], folders, "adapter")
    return Settings(
        base=base,
        adapter=adapter,
        tasks=_files(document.get(TASKS), inputs),
        shots=_number(document, _SHOTS, None, 0, MOST_SHOTS),
        limit=_number(document, _LIMIT, None, 1, MAX_INT),
        seed=_number(document, _SEED, SEED, 0, 2**32 - 1) or 0,
        batch_size=_number(document, _BATCH, 1, 1, MOST_IN_BATCH) or 1,
        chat_template=_flag(document, _CHAT),
    )


def _number(
    document: Mapping[str, object], key: str, default: int | None, low: int, high: int
) -> int | None:
    value = document.get(key)
    if value is None:
        return default
    if type(value) is not int or not low <= value <= high:
        raise ConfigError(f"config: {key}: expected a number from {low} to {high}")
    return value


def _flag(document: Mapping[str, object], key: str) -> bool:
    value = document.get(key, False)
    if type(value) is not bool:
        raise ConfigError(f"config: {key}: expected true or false")
    return value


def _files(value: object, inputs: Mapping[str, InputView]) -> tuple[tuple[str, str], ...]:
    hint = (
        f"write `{TASKS}: [input:NAME]`, where NAME is a task's YAML file. The image has "
        + ", ".join(known_tasks.NAMES)
    )
    if not isinstance(value, list) or not 0 < len(value) <= MAX_TASKS:
        raise ConfigError(f"config: {TASKS}: expected a list of 1 to {MAX_TASKS} tasks", hint=hint)
    places: list[tuple[str, str]] = []
    for index, each in enumerate(value):
        key = f"{TASKS}[{index}]"
        match = definition.REFERENCE.fullmatch(each) if isinstance(each, str) else None
        if each in known_tasks.NAMES:
            place = OF_IMAGE, str(each)
            _check_name(key, str(each), inputs)
        elif match is None:
            problem = "must be an `input:` reference or the name of a task of the image"
            raise ConfigError(f"config: {key}: {problem}", hint=hint)
        else:
            place = match[1], match[2] or ""
            _check_place(key, place, inputs)
        if place in places:
            raise ConfigError(f"config: {key}: the same task is named twice")
        places.append(place)
    return tuple(places)


def _check_name(key: str, name: str, inputs: Mapping[str, InputView]) -> None:
    """Refuse an input with the name under which the rows of the image's task are reported."""
    if name in inputs:
        raise ConfigError(
            f"config: {key}: input {name!r} has the name of a task of the image",
            hint=f"give the input another name, or write `input:{name}`",
        )


def _check_place(key: str, place: tuple[str, str], inputs: Mapping[str, InputView]) -> None:
    name, inside = place
    if name not in inputs or name == CONFIG_INPUT:
        raise ConfigError(f"config: {key}: the run declares no input {name!r}")
    view = inputs[name]
    if view.is_file == bool(inside) or (inside and inside not in view.files):
        what = "a file" if view.is_file else "a folder"
        raise ConfigError(f"config: {key}: input {name!r} is {what}, and has no such task")


def with_tasks(settings: Settings, inputs: Mapping[str, InputView], files: Files) -> EvaluationPlan:
    """Read the tasks, and check that config and tasks name exactly the run's inputs.

    A task of the image reads rows that are no input. Raises ConfigError.
    """
    tasks: list[Task] = []
    for name, inside in settings.tasks:
        where = "/".join(part for part in (name, inside) if part)
        task = definition.read(files(name, inside), where, settings.shots)
        if any(task.name == other.name for other in tasks):
            raise ConfigError(f"config: {where}: task: another task has this name, {task.name}")
        of_image = {inside: InputView(is_file=True)} if name == OF_IMAGE else inputs
        for source in task.sources:
            _check_source(source, of_image)
        tasks.append(task)
    sources = [source for task in tasks for source in task.sources]
    named = {
        *(each.name for each in settings.references),
        *(name for name, _ in settings.tasks),
        *(each.input for each in sources),
    }
    selections = _selections(sources)
    require_all_named(TRAINER, named, inputs)
    return EvaluationPlan(settings=settings, tasks=tuple(tasks), selections=selections)


def _selections(sources: Sequence[Source]) -> dict[Source, Selection]:
    """Return the selection of each source; sources that are equal share one."""
    selections: dict[Source, Selection] = {}
    for source in dict.fromkeys(sources):
        if any((each.input, each.split) == (source.input, source.split) for each in selections):
            raise ConfigError(
                f"config: {TASKS}: two tasks read other files of {source.input} "
                f"as split {source.split}",
                hint="give one of the splits another name",
            )
        selections[source] = Selection(
            input=source.input,
            number=sum(each.input == source.input for each in selections),
            form=source.form,
            splits={source.split: source.files},
        )
    return selections


def _check_source(source: Source, inputs: Mapping[str, InputView]) -> None:
    where = f"config: {TASKS}: split {source.split}"
    view = inputs.get(source.input)
    if view is None or source.input == CONFIG_INPUT:
        raise ConfigError(f"{where}: the run declares no input {source.input!r}")
    for path in source.files:
        if view.is_file == bool(path) or (path and path not in view.files):
            what = "a file" if view.is_file else "a folder"
            raise ConfigError(
                f"{where}: input {source.input!r} is {what}, and has no {path[:80]!a}",
                hint="name its files: `input:NAME/FILE`",
            )
        actual = form_of(PurePosixPath(path).name) if path else None
        if path and (actual is None or actual.form != source.form):
            raise ConfigError(
                f"{where}: {path[:80]!a} is not {source.form}, as `dataset_path` says"
            )
