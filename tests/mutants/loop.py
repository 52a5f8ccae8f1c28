"""A pytest plugin that tries mutants: each in a fork of the session that has collected every test.

`AICERT_MUTANTS` names the modules, `AICERT_MUTANTS_JOBS` how many forks run at once. mutmut wrote
the mutants and noted which tests reach which function (`mutmut-stats.json`); its own loop starts
pytest anew for each mutant, which takes ten times as long. Results go where mutmut keeps them. A
mutant that has survived for a second waits until all others were tried.
"""

import gc
import json
import mmap
import os
import resource
import signal
import subprocess
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol
from mutmut.mutation.trampoline import set_mutant_under_test

from tests.adversarial.attacks import table
from tests.adversarial.forger import Scene

KILLED, SURVIVED, UNREACHED = 1, 0, 33
# Of what the tests took unchanged: a mutant that runs longer never ends.
PATIENCE = 20
SPARE_SECONDS = 20
# Seconds of CPU after which a mutant that still lives waits until all others were tried: it is
# likely to survive, and whoever does is asked every test that reaches it.
QUICK_SECONDS = 1.0
WAITS = 77
# A test that killed one of the last mutants is likely to kill the next one.
LATELY = 8
BROAD = 4
# Results of this many are lost at most where the run is stopped.
KEPT_EVERY = 20


class _Module:
    """One module's mutants and the codes that mutmut keeps of them."""

    def __init__(self, name: str) -> None:
        self._path = Path("aicert", f"{name}.py.meta")
        self._said = json.loads(self._path.read_bytes())
        self.codes: dict[str, int | None] = self._said["exit_code_by_key"]
        self._unkept = 0

    def note(self, mutant: str, code: int) -> None:
        self.codes[mutant] = code
        self._unkept += 1
        if self._unkept >= KEPT_EVERY:
            self.keep()

    def keep(self) -> None:
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(self._said))
        fresh.replace(self._path)
        self._unkept = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """A mutant in a fork, which writes into `place` that of the test it has come to. `limit`:
    seconds of CPU after which it is taken to run for ever; `quick`: after which it waits, if not
    None.
    """

    module: _Module
    mutant: str
    items: list[pytest.Item]
    limit: int
    quick: float | None
    place: mmap.mmap = field(default_factory=lambda: mmap.mmap(-1, 4))


class _Tests:
    """The tests that reach a function: those first that killed something lately, since mutants of
    one function stand together; then a few that reach most, and those that reach little else.
    """

    def __init__(self, items: list[pytest.Item]) -> None:
        stats = json.loads(Path("mutmut-stats.json").read_bytes())
        self._items = {item.nodeid: item for item in items}
        self._seconds: dict[str, float] = stats["duration_by_test"]
        self._reaching: dict[str, list[str]] = stats["tests_by_mangled_function_name"]
        self._breadth = Counter(name for names in self._reaching.values() for name in names)
        self._killers: deque[str] = deque(maxlen=LATELY)

    def killed_by(self, item: pytest.Item) -> None:
        if item.nodeid in self._killers:
            self._killers.remove(item.nodeid)
        self._killers.appendleft(item.nodeid)

    def of(self, mutant: str) -> tuple[list[pytest.Item], int]:
        names = self._reaching.get(mutant.partition("__mutmut_")[0], [])
        known = {name: self._seconds.get(name, 0.0) for name in names if name in self._items}
        lately = [name for name in self._killers if name in known]
        rest = sorted(known.keys() - lately, key=lambda name: (self._breadth[name], known[name]))
        rest = [*rest[-BROAD:], *rest[:-BROAD]]
        limit = int(PATIENCE * sum(known.values())) + SPARE_SECONDS
        return [self._items[name] for name in (*lately, *rest)], limit


class _Forks:
    """The mutants that are tried right now, and in `waiting` those that have to wait."""

    def __init__(self, tests: _Tests, jobs: int, folder: Path) -> None:
        self._tests = tests
        self._jobs = jobs
        self._folder = folder
        self._running: dict[int, _Trial] = {}
        self.waiting: list[_Trial] = []

    def begin(self, trial: _Trial) -> None:
        while len(self._running) >= self._jobs:
            self._take_one()
        self._running[_start(trial)] = trial

    def finish(self) -> None:
        while self._running:
            self._take_one()

    def _take_one(self) -> None:
        child, status = os.wait()
        # A test that was stopped may leave folders that are too deep for Python.
        subprocess.run(["rm", "-rf", str(self._folder / str(child))])
        trial = self._running.pop(child)
        code = os.waitstatus_to_exitcode(status)
        place = int.from_bytes(trial.place[:])
        if code == WAITS:
            rest = trial.items[place + 1 :]
            self.waiting.append(replace(trial, items=rest, quick=None, place=mmap.mmap(-1, 4)))
            return
        if code != SURVIVED:
            self._tests.killed_by(trial.items[place])
        trial.module.note(trial.mutant, code)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool:
    """Try every mutant that has no result: all of them for a moment, then those that still live."""
    tests = _Tests(session.items)
    modules = [_Module(name) for name in os.environ["AICERT_MUTANTS"].split()]
    _warm()
    # Made before the forks: each would remove what stands there, and with it what others use.
    folder = _temporary(session.config).getbasetemp()
    forks = _Forks(tests, int(os.environ["AICERT_MUTANTS_JOBS"]), folder)
    gc.collect()
    gc.freeze()
    try:
        for module, mutant in _open(modules):
            items, limit = tests.of(mutant)
            if not items:
                module.note(mutant, UNREACHED)
                continue
            forks.begin(
                _Trial(module=module, mutant=mutant, items=items, limit=limit, quick=QUICK_SECONDS)
            )
        forks.finish()
        for trial in forks.waiting:
            forks.begin(trial)
        forks.finish()
    finally:
        for module in modules:
            module.keep()
    return True


def _warm() -> None:
    """Make the keys and signatures of all attacks once: they take longer than any test."""
    for attack in table():
        scene = Scene(attack.kind, attack.version)
        attack.change(scene)
        scene.get("file")


def _open(modules: list[_Module]) -> Iterator[tuple[_Module, str]]:
    for module in modules:
        for mutant in [name for name, code in module.codes.items() if code is None]:
            yield module, mutant


def _start(trial: _Trial) -> int:
    child = os.fork()
    if child:
        return child
    code = KILLED
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (trial.limit, trial.limit + 1))
        signal.alarm(4 * trial.limit)
        factory = _temporary(trial.items[0].config)
        factory._basetemp = factory.getbasetemp() / str(os.getpid())
        factory._basetemp.mkdir()
        set_mutant_under_test(trial.mutant)
        code = _ask(trial)
    finally:
        os._exit(code)


def _ask(trial: _Trial) -> int:
    begun = time.process_time()
    for index, item in enumerate(trial.items):
        trial.place[:] = index.to_bytes(4)
        following = trial.items[index + 1] if index + 1 < len(trial.items) else None
        if any(report.failed for report in runtestprotocol(item, log=False, nextitem=following)):
            return KILLED
        is_over = trial.quick is not None and time.process_time() - begun > trial.quick
        if is_over and following is not None:
            return WAITS
    return SURVIVED


def _temporary(config: pytest.Config) -> pytest.TempPathFactory:
    factory: pytest.TempPathFactory = config._tmp_path_factory  # type: ignore[attr-defined]  # pytest sets it
    return factory
