"""A pytest plugin that tries mutants: each in a fork of the session that has collected every test.

`AICERT_MUTANTS` names the modules, `AICERT_MUTANTS_JOBS` how many forks run at once. mutmut wrote
the mutants and noted which tests reach which function (`mutmut-stats.json`); its own loop starts
pytest anew for each mutant, which takes ten times as long. Results go where mutmut keeps them.
"""

import gc
import json
import mmap
import os
import resource
import signal
import subprocess
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
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


@dataclass(slots=True, kw_only=True)
class _Trial:
    """A mutant in a fork, which writes into `killer` the place of the test that failed."""

    module: _Module
    mutant: str
    items: list[pytest.Item]
    killer: mmap.mmap


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

    def of(self, mutant: str) -> tuple[list[pytest.Item], float]:
        names = self._reaching.get(mutant.partition("__mutmut_")[0], [])
        known = {name: self._seconds.get(name, 0.0) for name in names if name in self._items}
        lately = [name for name in self._killers if name in known]
        rest = sorted(known.keys() - lately, key=lambda name: (self._breadth[name], known[name]))
        rest = [*rest[-BROAD:], *rest[:-BROAD]]
        return [self._items[name] for name in (*lately, *rest)], sum(known.values())


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool:
    """Try every mutant that has no result."""
    tests = _Tests(session.items)
    modules = [_Module(name) for name in os.environ["AICERT_MUTANTS"].split()]
    jobs = int(os.environ["AICERT_MUTANTS_JOBS"])
    running: dict[int, _Trial] = {}
    _warm()
    # Made before the forks: each would remove what stands there, and with it what others use.
    folder = _temporary(session.config).getbasetemp()
    gc.collect()
    gc.freeze()
    try:
        for module, mutant in _open(modules):
            items, seconds = tests.of(mutant)
            if not items:
                module.note(mutant, UNREACHED)
                continue
            while len(running) >= jobs:
                _finish(running, tests, folder)
            trial = _Trial(module=module, mutant=mutant, items=items, killer=mmap.mmap(-1, 4))
            running[_start(trial, seconds)] = trial
        while running:
            _finish(running, tests, folder)
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


def _start(trial: _Trial, seconds: float) -> int:
    child = os.fork()
    if child:
        return child
    code = KILLED
    try:
        limit = int(PATIENCE * seconds) + SPARE_SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
        signal.alarm(4 * limit)
        factory = _temporary(trial.items[0].config)
        factory._basetemp = factory.getbasetemp() / str(os.getpid())
        factory._basetemp.mkdir()
        set_mutant_under_test(trial.mutant)
        code = KILLED if _fails(trial) else SURVIVED
    finally:
        os._exit(code)


def _fails(trial: _Trial) -> bool:
    for index, item in enumerate(trial.items):
        trial.killer[:] = index.to_bytes(4)
        following = trial.items[index + 1] if index + 1 < len(trial.items) else None
        if any(report.failed for report in runtestprotocol(item, log=False, nextitem=following)):
            return True
    return False


def _temporary(config: pytest.Config) -> pytest.TempPathFactory:
    factory: pytest.TempPathFactory = config._tmp_path_factory  # type: ignore[attr-defined]  # pytest sets it
    return factory


def _finish(running: dict[int, _Trial], tests: _Tests, folder: Path) -> None:
    child, status = os.wait()
    # A test that was stopped may leave folders that are too deep for Python.
    subprocess.run(["rm", "-rf", str(folder / str(child))])
    trial = running.pop(child)
    code = os.waitstatus_to_exitcode(status)
    if code != SURVIVED:
        tests.killed_by(trial.items[int.from_bytes(trial.killer[:])])
    trial.killer.close()
    trial.module.note(trial.mutant, code)
