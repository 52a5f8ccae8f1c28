"""A pytest plugin that tries mutants, each in a fork of the session that has collected every test.

`AICERT_MUTANTS` names the modules, `AICERT_MUTANTS_JOBS` the number of parallel forks. mutmut wrote
the mutants and recorded which tests reach which function (`mutmut-stats.json`); its own loop starts
pytest anew for each mutant, which takes ten times as long. Results go where mutmut keeps them. A
mutant that lives longer than most waits until all others were tried.
"""

import functools
import gc
import importlib
import json
import mmap
import os
import resource
import signal
import subprocess
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol

from aicert.appraisal.result import CHECKS
from tests.adversarial.attacks import table
from tests.adversarial.forger import Scene
from tests.mutants import exchange, lines

KILLED, SURVIVED, UNREACHED = 1, 0, 33
# Which test killed which mutant, for a look at what kills a mutant that changes nothing.
KILLERS = Path("killers.txt")
# A mutant that runs longer than this multiple of the unchanged time counts as endless.
PATIENCE = 20
SPARE_SECONDS = 20
# Seconds of CPU after which a mutant that still lives waits until the others of its module had the
# same time: it is likely to survive. A mutant that survives all these waits for the end, and then
# faces every test that reaches it.
WAVES = (0.3, 2.0)
WAITS = 77
# A test that killed one of the last mutants is likely to kill the next one. These numbers say how
# many tests of each kind run before the others; `_Tests` has their order.
OWN, UNCHANGED, HONEST, ATTACKS, LATELY, NARROW, BROAD = 6, 9, 4, 24, 3, 16, 4
UNCHANGED_SCENES = "::test_what_is_said_of_an_unchanged_scene_is_what_was_reviewed["
HONEST_CASES = "::test_what_is_right_is_not_refused["
# Seconds: all tests shorter than this count as equally short; and how long a module's own tests may
# take before others run.
SHORT, OWN_SECONDS = 0.01, 1.5
# An interrupted run loses at most this many results.
KEPT_EVERY = 20


class _Module:
    """One module's mutants, and the codes that mutmut keeps for them."""

    def __init__(self, name: str) -> None:
        # Tests import some modules only when they need them, which is too late for a mutant.
        importlib.import_module(f"aicert.{name.replace('/', '.')}")
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
    """A mutant in a fork, which writes the test that it has reached to `place`.

    `limit` is the CPU seconds after which it counts as endless; `quick`, if not None, the seconds
    after which it waits.
    """

    module: _Module
    mutant: str
    items: list[pytest.Item]
    limit: int
    quick: float | None = None
    has_waited: bool = False
    place: mmap.mmap = field(default_factory=lambda: mmap.mmap(-1, 4))


class _Tests:
    """The tests that reach a function, in the order in which they run.

    First come those that killed another of its mutants; then scenes that are compared whole and
    honest cases, which fail on any fault; the latest killers of other functions' mutants; its
    module's own tests; attacks on the checks that its module names; short tests that reach little
    else; short tests that reach most; and the others, alternating between files and between the
    checks that attacks are on, since many tests of one kind reach the same lines.
    """

    def __init__(self, items: list[pytest.Item]) -> None:
        stats = json.loads(Path("mutmut-stats.json").read_bytes())
        self._items = {item.nodeid: item for item in items}
        self._seconds: dict[str, float] = defaultdict(float, stats["duration_by_test"])
        self._reaching: dict[str, list[str]] = stats["tests_by_mangled_function_name"]
        self._breadth = Counter(name for names in self._reaching.values() for name in names)
        self._killers: dict[str, deque[str]] = defaultdict(lambda: deque(maxlen=OWN))
        self._lately: deque[str] = deque(maxlen=LATELY)
        self._attacked = {attack.name: attack.check for attack in table()}
        self._orders: dict[str, tuple[str, ...]] = {}
        self._lines = lines.noted()

    def killed_by(self, mutant: str, item: pytest.Item) -> None:
        for killers in (self._killers[_function(mutant)], self._lately):
            if item.nodeid in killers:
                killers.remove(item.nodeid)
            killers.appendleft(item.nodeid)

    def of(self, mutant: str) -> tuple[list[pytest.Item], int]:
        function = _function(mutant)
        if function not in self._orders:
            self._orders[function] = self._order(function)
        order = self._orders[function]
        own = sorted(self._killers[function], key=self._seconds.__getitem__)
        lately = [name for name in self._lately if name in order]
        names: Iterable[str] = dict.fromkeys((*own, *order[:HONEST], *lately, *order))
        codes = exchange.codes(mutant)
        running = None if codes is None else self._lines.tests(*codes)
        if running is not None:
            names = [name for name in names if name in running]
        limit = int(PATIENCE * sum(self._seconds[name] for name in order)) + SPARE_SECONDS
        return [self._items[name] for name in names], limit

    def sooner(self, mutant: str, items: list[pytest.Item]) -> list[pytest.Item]:
        """Sort the remaining tests: those that meanwhile killed other mutants come first."""
        killers = {*self._killers[_function(mutant)], *self._lately}
        return sorted(items, key=lambda item: item.nodeid not in killers)

    def _order(self, function: str) -> tuple[str, ...]:
        seconds, breadth = self._seconds, self._breadth
        names = [name for name in self._reaching.get(function, []) if name in self._items]
        rest = sorted(names, key=lambda name: breadth[name] * seconds[name])
        honest = [name for name in rest if UNCHANGED_SCENES in name][:UNCHANGED]
        honest += [name for name in rest if HONEST_CASES in name][:HONEST]
        checks = _checks_of(function.rpartition(".")[0])
        attacks = [name for name in rest if self._attacked.get(_case(name)) in checks]
        unit = [name for name in rest if name.startswith(_unit(function))]
        broad = sorted(rest, key=lambda name: breadth[name] / (seconds[name] + SHORT))[-BROAD:]
        first = (*honest, *_short(unit, seconds), *attacks[:ATTACKS], *rest[:NARROW])
        return tuple(dict.fromkeys((*first, *reversed(broad), *self._by_turns(rest))))

    def _by_turns(self, names: Iterable[str]) -> Iterator[str]:
        groups: dict[tuple[str, str | None], list[str]] = defaultdict(list)
        for name in names:
            file, _, _ = name.partition("::")
            groups[file, self._attacked.get(_case(name))].append(name)
        for turn in zip_longest(*groups.values()):
            yield from filter(None, turn)


def _case(test: str) -> str:
    """Return which case of a table a test is."""
    return test.partition("[")[2].removesuffix("]")


def _unit(function: str) -> tuple[str, ...]:
    """Return the name prefixes of a module's own tests; checks are tested where they are called."""
    package, room, *folders, module = function.rpartition(".")[0].split(".")
    names = (module, "appraise") if folders == ["checks"] else (module,)
    return tuple(f"tests/unit/{package}/{room}/test_{name}" for name in names)


def _short(names: list[str], seconds: Mapping[str, float]) -> Iterator[str]:
    """Yield the shortest of them that together take OWN_SECONDS."""
    left = OWN_SECONDS
    for name in sorted(names, key=seconds.__getitem__):
        left -= seconds[name]
        if left > 0:
            yield name


@functools.cache
def _checks_of(module: str) -> frozenset[str]:
    """Return the checks that a module names."""
    text = Path(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
    return frozenset(check for check in CHECKS if f'"{check}"' in text)


def _function(mutant: str) -> str:
    return mutant.partition("__mutmut_")[0]


class _Forks:
    """The mutants that are being tried, and those that wait."""

    def __init__(self, tests: _Tests, jobs: int, folder: Path) -> None:
        self._tests = tests
        self._jobs = jobs
        self._folder = folder
        self._running: dict[int, _Trial] = {}
        self._waiting: list[_Trial] = []

    def try_all(self, trials: Iterable[_Trial], quick: float | None) -> list[_Trial]:
        """Try all mutants, and return those that live longer than `quick` seconds."""
        for trial in trials:
            self._begin(replace(trial, quick=quick))
        while self._running:
            self._take_one()
        waiting, self._waiting = self._waiting, []
        return waiting

    def _begin(self, trial: _Trial) -> None:
        while len(self._running) >= self._jobs:
            self._take_one()
        if trial.has_waited:
            trial = replace(trial, items=self._tests.sooner(trial.mutant, trial.items))
        self._running[_start(trial)] = trial

    def _take_one(self) -> None:
        child, status = os.wait()
        try:
            (self._folder / str(child)).rmdir()
        except OSError:
            # An interrupted test may leave folders that are too deep for Python.
            subprocess.run(["rm", "-rf", str(self._folder / str(child))])
        trial = self._running.pop(child)
        code = os.waitstatus_to_exitcode(status)
        place = int.from_bytes(trial.place[:])
        if code == WAITS:
            rest = trial.items[place + 1 :]
            waits = replace(trial, items=rest, has_waited=True, place=mmap.mmap(-1, 4))
            self._waiting.append(waits)
            return
        if code != SURVIVED:
            self._tests.killed_by(trial.mutant, trial.items[place])
            with KILLERS.open("a") as kept:
                kept.write(f"{trial.mutant} {code} {trial.items[place].nodeid}\n")
        trial.module.note(trial.mutant, code)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool:
    """Try every mutant without a result: all for a moment, then those that still live."""
    tests = _Tests(session.items)
    modules = [_Module(name) for name in os.environ["AICERT_MUTANTS"].split()]
    _warm()
    # Make the folder before the forks: each fork would remove it, and with it the others' files.
    folder = _temporary(session.config).getbasetemp()
    forks = _Forks(tests, int(os.environ["AICERT_MUTANTS_JOBS"]), folder)
    gc.collect()
    gc.freeze()
    try:
        late: list[_Trial] = []
        for module in modules:
            trials: Iterable[_Trial] = _open(module, tests)
            for quick in WAVES:
                trials = forks.try_all(trials, quick)
            late.extend(trials)
            module.keep()
        forks.try_all(late, None)
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


def _open(module: _Module, tests: _Tests) -> Iterator[_Trial]:
    for mutant in [name for name, code in module.codes.items() if code is None]:
        if not exchange.is_known(mutant):
            raise LookupError(f"{mutant} is of no function that was imported")
        items, limit = tests.of(mutant)
        if exchange.is_spelling(mutant):
            module.note(mutant, SURVIVED)
        elif items:
            yield _Trial(module=module, mutant=mutant, items=items, limit=limit)
        else:
            module.note(mutant, UNREACHED)


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
        # Nobody reads how a mutant fails, and a traceback needs the lines of all its mutants.
        pytest.Function.repr_failure = lambda *_, **__: "failed"  # type: ignore[method-assign]
        exchange.activate(trial.mutant)
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
