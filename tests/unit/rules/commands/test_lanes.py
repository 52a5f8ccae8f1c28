"""Real programs side by side, which wait for each other or for the test."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rules.commands import lanes
from rules.commands.lanes import Program

ROOT = Path(__file__).resolve().parents[4]
# A reader waits for a writer, and the writer for a reader.
MEET = """
import os, sys
mine, other = sys.argv[1:]
order = [lambda: open(mine, "w").close(), lambda: open(other).close()]
for step in order if mine < other else reversed(order):
    step()
print("tests/met.py .", flush=True)
"""
PYTEST = """
print("=== test session starts ===")
print("tests/unit/test_a.py ..F...                       [ 60%]", flush=True)
print("....                                              [100%]")
print("=== FAILURES ===")
print("what went wrong")
print("FAILED tests/unit/test_a.py::test_x - assert 1 == 2")
print("ERROR tests/unit/test_b.py - no such fixture")
raise SystemExit(1)
"""
# Run one program that reports how often it was interrupted; `hold` continues regardless.
INTERRUPTED = """
import sys
from rules.commands import lanes
program = lanes.Program(name="p", command=(sys.executable, "-c", sys.argv[1], sys.argv[2]))
lanes.run([program], lanes=1, show=lambda line: print(line, flush=True))
"""
COUNTS = """
import os, signal, sys
def told(number, frame):
    print("tests/interrupted.py .", flush=True)
    if sys.argv[1] == "end":
        print("cleaned up", flush=True)
        sys.exit(2)
signal.signal(signal.SIGINT, told)
print(f"tests/{os.getpid()} .", flush=True)
while True:
    signal.pause()
"""


def python(name: str, source: str, *arguments: object) -> Program:
    return Program(name=name, command=(sys.executable, "-c", source, *map(str, arguments)))


def test_two_run_at_once(tmp_path: Path) -> None:
    one, two = tmp_path / "1", tmp_path / "2"
    os.mkfifo(one)
    os.mkfifo(two)
    shown: list[str] = []
    both = [python("a", MEET, one, two), python("long", MEET, two, one)]
    ended = lanes.run(both, lanes=2, show=shown.append)
    assert {(program.name, program.code) for program in ended} == {("a", 0), ("long", 0)}
    assert sorted(shown) == [
        "a     ended with exit code 0",
        "a     tests/met.py .",
        "long  ended with exit code 0",
        "long  tests/met.py .",
    ]


def test_no_more_at_once_than_there_are_lanes() -> None:
    shown: list[str] = []
    todo = [python(name, f"print('{name}')") for name in ("1", "2", "3")]
    ended = lanes.run(todo, lanes=1, show=shown.append)
    assert [program.name for program in ended] == ["1", "2", "3"]
    assert shown[1::2] == ["1", "2", "3"]


def test_progress_is_shown_at_once_and_a_report_in_one_piece() -> None:
    shown: list[str] = []
    (ended,) = lanes.run([python("unit", PYTEST)], lanes=2, show=shown.append)
    assert [line.split()[:3] for line in shown[:2]] == [
        ["unit", "tests/unit/test_a.py", "..F..."],
        ["unit", "....", "[100%]"],
    ]
    assert shown[2] == "unit  ended with exit code 1"
    assert shown[3:6] == ["=== test session starts ===", "=== FAILURES ===", "what went wrong"]
    assert (ended.name, ended.code) == ("unit", 1)
    assert ended.failures == (
        "FAILED tests/unit/test_a.py::test_x - assert 1 == 2",
        "ERROR tests/unit/test_b.py - no such fixture",
    )


def test_a_line_that_does_not_go_on_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "_STALLED_S", 0.0)
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    shown: list[str] = []

    def show(line: str) -> None:
        shown.append(line)
        if len(shown) == 1:
            gate.write_text("go on")

    hangs = "import sys; print('tests/x.py ..', end='', flush=True); open(sys.argv[1]).read()"
    lanes.run([python("p", hangs, gate)], lanes=1, show=show)
    assert shown[:2] == ["p  tests/x.py ..", "p  tests/x.py .."]


def test_what_a_program_leaves_open_is_not_waited_for(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    leaves = "import subprocess, sys; subprocess.Popen(['cat', sys.argv[1]]); print('left')"
    shown: list[str] = []
    (ended,) = lanes.run([python("p", leaves, gate)], lanes=1, show=shown.append)
    gate.write_text("")
    assert (ended.code, shown[1:]) == (0, ["left"])


def test_a_program_gets_its_environment() -> None:
    source = "import os; print(os.environ['COVERAGE_FILE'])"
    program = Program(
        name="p", command=(sys.executable, "-c", source), environment={"COVERAGE_FILE": "here"}
    )
    shown: list[str] = []
    lanes.run([program], lanes=1, show=shown.append)
    assert shown[1:] == ["here"]


def start(how: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, COUNTS, how],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 128 + signal.SIGTERM)],
)
def test_an_interrupt_reaches_a_program_once_and_its_end_is_waited_for(
    number: signal.Signals, code: int
) -> None:
    with start("end") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("p  tests/")
        # To the whole process group, as a terminal sends it.
        os.killpg(process.pid, number)
        shown, _ = process.communicate()
    assert shown == "p  tests/interrupted.py .\np  ended with exit code 2\ncleaned up\n"
    assert process.returncode == code


def test_a_second_interrupt_kills_it() -> None:
    with start("hold") as process:
        assert process.stdout is not None
        number = int(process.stdout.readline().split()[1].removeprefix("tests/"))
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout.readline() == "p  tests/interrupted.py .\n"
        os.killpg(process.pid, signal.SIGINT)
        process.communicate()
    assert process.returncode == -signal.SIGINT
    assert not Path("/proc", str(number)).exists()


def test_programs_end_with_what_runs_them() -> None:
    with start("hold") as process:
        assert process.stdout is not None
        number = int(process.stdout.readline().split()[1].removeprefix("tests/"))
        watch = os.pidfd_open(number)
        process.kill()
        process.communicate()
        # The descriptor is readable once the process has ended.
        assert select.select([watch], [], [])[0]
        os.close(watch)


def test_nothing_runs_on_where_something_else_goes_wrong() -> None:
    numbers: list[int] = []

    def show(line: str) -> None:
        numbers.append(int(line.split()[1].removeprefix("tests/")))
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        lanes.run([python("p", COUNTS, "hold")], lanes=1, show=show)
    assert not Path("/proc", str(numbers[0])).exists()
