"""An engine in its sandbox: who can reach it, what it sees, and how it ends."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aicert.errors import ToolError
from enclave_runner.sandbox.places import CODE
from enclave_runner.serving import answers, engine_process, running
from enclave_runner.serving.answers import EngineError
from enclave_runner.serving.requests import CHAT
from enclave_runner.serving.running import MODEL, PORT, EngineSettings, Running
from rules.host import training_env
from rules.serving import power
from tests.e2e.guard.guarded import ROOT

PROGRAM = Path(__file__).with_name("sandboxed_engine.py")
PLACE = f"{CODE}/engine.py"


def settings(folder: Path, *command: str) -> EngineSettings:
    return EngineSettings(
        environment=Path(sys.prefix),
        command=command or ("-P", PLACE, MODEL, str(PORT)),
        scratch=folder / "scratch",
        log=folder / "log",
        memory_bytes=1 << 30,
        show=((PLACE, PROGRAM),),
    )


@contextmanager
def engine_of(given: EngineSettings, folder: Path) -> Iterator[Running]:
    weights = folder / "weights"
    weights.write_bytes(b"w")
    (folder / "given").mkdir()
    engine = Running(given, folder / "given")
    try:
        yield engine.give({"model.safetensors": weights, "config.json": weights})
    finally:
        engine.kill()


def test_an_engine_is_reached_by_the_gateway_alone(tmp_path: Path) -> None:
    with engine_of(settings(tmp_path), tmp_path) as engine:
        engine.await_ready()
        with engine.engine.ask(CHAT, b"{}") as lines:
            pieces = list(answers.pieces(lines, CHAT, max_bytes=1 << 20, most=10))
        assert pieces[-1].usage == (7, 3)
        seen = json.loads("".join(piece.text for piece in pieces))
        assert seen["model"] == ["config.json", "model.safetensors"]
        assert (seen["devices"], seen["etc"]) == ([], False)
        assert seen["network"] == "Network is unreachable"
        assert "PATH" not in seen["environment"]
        assert "HF_HUB_OFFLINE" in seen["environment"]
        assert engine.is_alive()
        engine.kill()
        assert not engine.is_alive()
        assert not engine.engine.is_there()
        assert left_of(tmp_path) == []
        with pytest.raises(EngineError, match="does not answer"), engine.engine.ask(CHAT, b"{}"):
            pass
        engine.kill()


def test_an_engine_starts_before_there_is_a_model_and_gets_it_whole(tmp_path: Path) -> None:
    """Its program ends when it sees the model, with what it sees of it."""
    program = (
        "import os, sys, time\n"
        "assert not os.listdir(os.path.dirname(sys.argv[1]))\n"
        "open('waits', 'w').close()\n"
        "while not os.path.isdir(sys.argv[1]): time.sleep(0.01)\n"
        "print('sees', sorted(os.listdir(sys.argv[1])), flush=True)\n"
    )
    (tmp_path / "given").mkdir()
    (tmp_path / "weights").write_bytes(b"w")
    engine = Running(settings(tmp_path, "-c", program, MODEL), tmp_path / "given")
    try:
        while not (tmp_path / "scratch" / "waits").exists():
            assert engine.is_alive()
            time.sleep(0.05)
        engine.give(dict.fromkeys(("a", "b/c"), tmp_path / "weights"))
        with pytest.raises(ToolError, match="exited before it was ready"):
            engine.await_ready()
        assert b"sees ['a', 'b']" in (tmp_path / "log").read_bytes()
    finally:
        engine.kill()


def test_an_engine_that_ends_at_once_is_an_error(tmp_path: Path) -> None:
    given = settings(tmp_path, "-c", "print('no such model'); raise SystemExit(3)")
    with engine_of(given, tmp_path) as engine:
        with pytest.raises(ToolError, match="exited before it was ready"):
            engine.await_ready()
        assert b"no such model" in (tmp_path / "log").read_bytes()


def test_an_engine_that_never_serves_is_an_error(tmp_path: Path) -> None:
    given = settings(tmp_path, "-c", "import time; time.sleep(600)")
    with engine_of(given, tmp_path) as engine:
        with pytest.raises(ToolError, match="was not ready within 0 s"):
            engine.await_ready(seconds=0)


@contextmanager
def process(folder: Path, *command: str) -> Iterator["subprocess.Popen[str]"]:
    """Start the process between a machine and a sandbox, as the machine starts it."""
    (folder / "scratch").mkdir()
    (folder / "given").mkdir()
    job = running._job(settings(folder, *command), folder / "given")
    words = ["-m", "enclave_runner.serving.engine_process", engine_process.emit(job)]
    with subprocess.Popen(
        [sys.executable, *words], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[3],
    ) as started:  # fmt: skip
        yield started


def left_of(folder: Path) -> list[str]:
    """Return the commands of processes that name a test's folder."""
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            # The process has ended in the meantime.
            continue
        commands += [command] if str(folder) in command else []
    return commands


def test_an_engine_ends_with_whoever_started_it(tmp_path: Path) -> None:
    """The engine also ends if that process is killed, because then the sandbox's pipe closes."""
    with process(tmp_path, "-c", "import time; time.sleep(600)") as started:
        assert started.stdin is not None
        started.stdin.close()
        assert started.wait() == 1
    assert left_of(tmp_path) == []


def test_a_sandbox_that_cannot_be_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with process(tmp_path) as started:
        assert started.wait() == 1
        assert started.stderr is not None
        assert "bubblewrap (bwrap), which is missing" in started.stderr.read()


def test_transformers_listens_where_it_is_looked_for(tmp_path: Path) -> None:
    given = running.transformers(settings(tmp_path))
    *_, program, model, port = given.command
    assert (model, port) == (MODEL, str(PORT))
    assert dict(given.show)[program].name == "engine_start.py"


# Each way of asking is tried in a process of its own, which has what a server imports.
WITHOUT_COMPILER = """
import os, sys

sys.path.insert(0, sys.argv[1])
import engine_start

# Other names there are those of packages.
del sys.path[0]
engine_start._import_transformers()
import torch
import transformers.generation.utils, transformers.masking_utils, transformers.modeling_utils


def compile_something():
    double = torch.compile(lambda x: x + x, backend="eager")
    assert double(torch.ones(1)).item() == 2


def by_attribute():
    torch._dynamo.reset()


def by_module():
    from torch._dynamo.utils import counters

    import torch._dynamo

    assert torch._dynamo.utils.counters is counters
    assert torch._dynamo.utils is sys.modules["torch._dynamo.utils"]


for module in ("torch._inductor", "torch._dynamo.utils", "torch.distributed.tensor"):
    assert module not in sys.modules, module
for ask in (compile_something, by_attribute, by_module):
    if os.fork() == 0:
        ask()
        assert "torch._dynamo.utils" in sys.modules
        compile_something()
        os._exit(0)
    print(ask.__name__, os.waitstatus_to_exitcode(os.wait()[1]))
"""


LAZY = """
import importlib, sys

sys.path.insert(0, sys.argv[1])
import engine_start

del sys.path[0]
engine_start._import_transformers()
for name in engine_start._LAZY:
    importlib.import_module(name)
print(*[name for name in ("torch._inductor", "torch._dynamo.utils") if name in sys.modules])
"""


def test_what_the_engine_imports_early_exists_and_needs_no_compiler() -> None:
    python = training_env.ensure(ROOT) / "bin/python"
    packages = power._engine_packages(ROOT, print)
    done = subprocess.run(
        [python, "-P", "-c", LAZY, ROOT / "enclave_runner/serving"],
        env={
            "PATH": "/usr/bin",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(packages),
            "HF_HUB_OFFLINE": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr


def test_a_server_imports_torchs_compiler_only_when_asked_for() -> None:
    python = training_env.ensure(ROOT) / "bin/python"
    done = subprocess.run(
        [python, "-P", "-c", WITHOUT_COMPILER, ROOT / "enclave_runner/serving"],
        env={"PATH": "/usr/bin", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "compile_something 0\nby_attribute 0\nby_module 0\n", done.stderr
