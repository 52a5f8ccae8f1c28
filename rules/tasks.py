"""The tasks of `./doit`: what a certificate needs, and when each part is up to date.

Task creators may read `aicert.toml`, never a lockfile, because doit runs every creator before any
task. Digests decide what is up to date (rules.runs.certify.is_current), not timestamps.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

from rules.dvc import tracking
from rules.example import example
from rules.host import training_env
from rules.host.places import PROJECT
from rules.project import config, relock, results, sources
from rules.runs import afterwards, certify, exports
from rules.runs.request import request

Task = dict[str, Any]


def task_training_env() -> Task:
    """make the environment that Axolotl trains in (once; minutes, about 3 GB)"""
    return {
        "actions": [partial(_done, training_env.ensure_shown, PROJECT)],
        "uptodate": [partial(_training_env_is_there)],
    }


def task_example() -> Task:
    """make the inputs of the shipped run, the same bytes everywhere"""
    return {
        "actions": [partial(_done, example.make_example, PROJECT)],
        "uptodate": [partial(example.is_made, PROJECT)],
    }


def task_lock() -> Iterator[Task]:
    """resolve each run's inputs and write lockfiles/ (the command is `./doit lock`)"""
    yield _whole("lock", task_lock.__doc__)
    for run in _project().runs.values():
        yield {
            "name": run.name,
            "doc": f"lock the inputs of run {run.name}",
            "actions": [partial(_done, relock.write_lock, PROJECT, run)],
            "task_dep": _needs(run),
        }


def task_certify() -> Iterator[Task]:
    """make everything that a certificate needs, if it changed (the command is `./doit certify`)"""
    yield _whole("certify", task_certify.__doc__)
    for run in _project().runs.values():
        yield {
            "name": run.name,
            "doc": f"train, certify and verify run {run.name}",
            "actions": [partial(_certify, run)],
            "task_dep": [*_needs(run), *_upstream(run)],
            "uptodate": [partial(_is_current, run)],
        }


def task_track() -> Iterator[Task]:
    """let DVC track what lockfiles and certificates name but git does not hold (part of certify)"""
    yield _whole("track", task_track.__doc__)
    project = _project()
    for run in project.runs.values():
        yield {
            "name": run.name,
            "doc": f"track inputs and outputs of run {run.name} with DVC",
            "actions": [
                partial(_follow, run, "tracked by DVC", afterwards.track, PROJECT, project)
            ],
            "task_dep": [f"certify:{run.name}"],
            "uptodate": [partial(tracking.is_tracked, PROJECT, project, run)],
        }


def task_export() -> Iterator[Task]:
    """write files for other tools, computed only from each certificate"""
    yield _whole("export", task_export.__doc__)
    for run in _project().runs.values():
        certificate = results.certificate_path(PROJECT, run.name)
        yield {
            "name": run.name,
            "doc": f"bill of materials, provenance and key of run {run.name}",
            "actions": [partial(_follow, run, "exported", exports.write, certificate)],
            "task_dep": [f"certify:{run.name}"],
            "uptodate": [partial(exports.are_written, certificate)],
        }


def _project() -> config.Project:
    """Return the content of `aicert.toml`. A new repository's defines no run; `./doit list` lists
    the tasks all the same.
    """
    return config.parse(PROJECT, config.read(PROJECT), may_be_empty=True)


def _whole(name: str, doc: str | None) -> Task:
    """Return the task that stands for those of all runs. Without any run, it refuses to run."""
    if _project().runs:
        return {"name": None, "doc": doc}
    return {"basename": name, "doc": doc, "actions": [partial(_done, config.load, PROJECT)]}


def _needs(run: config.Run) -> list[str]:
    is_example = example.is_of(item.source for item in run.inputs)
    return ["example"] if is_example else []


def _upstream(run: config.Run) -> list[str]:
    """Return the certify tasks of the runs whose outputs this one uses."""
    runs = {sources.run_of(item.source) for item in run.inputs}
    return [f"certify:{name}" for name in sorted(name for name in runs if name)]


def _certify(run: config.Run) -> None:
    # Before the training, while the user is still watching: afterwards it would be too late.
    afterwards.prepare(PROJECT)
    certify.certify(
        PROJECT,
        run,
        request.nonce_for(run.name),
        accept=request.accept,
        keep=request.keep,
        again=run.name in request.again,
        named=run.name in request.named or not request.is_certifying,
        on_verdict=partial(request.verdicts.__setitem__, run.name),
    )


def _is_current(run: config.Run) -> bool:
    asked_again = run.name in request.again
    return not asked_again and certify.is_current(PROJECT, run, request.nonce_for(run.name))


def _training_env_is_there() -> bool:
    return training_env.is_complete(training_env.location(PROJECT))


def _follow(run: config.Run, what: str, function: Any, *args: Any) -> None:
    """Return the action of a step that follows a run. A failure is only reported if `certify` was
    called for the run, and fails the task if the step itself was called.
    """
    if request.is_certifying:
        afterwards.attempt(run.name, what, function, *args)
    else:
        function(*args)


def _done(function: Any, *args: Any) -> None:
    """Call `function` and drop its result, because doit takes False for a failure."""
    function(*args)
