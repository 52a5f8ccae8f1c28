"""A key or a signal ends a program in order: it is raised once, and never lost."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[4]

HEAD = """
import os, signal, sys, time, weakref
from rules.host.signals import keys_raise, termination_raises

def key(number):
    os.kill(os.getpid(), number)
    time.sleep(0)  # where Python looks for signals

"""

IN_A_CALLBACK = """
class Thing:
    pass

thing = Thing()
watch = weakref.ref(thing, lambda _: key(signal.SIGNAL))
keys_raise()
try:
    del thing
    while True:
        time.sleep(600)
except BaseException as error:
    print(type(error).__name__, getattr(error, "code", None))
"""

IN_A_DESTRUCTOR = """
class Thing:
    def __del__(self):
        key(signal.SIGNAL)

keys_raise()
try:
    Thing()
    while True:
        time.sleep(600)
except BaseException as error:
    print(type(error).__name__, getattr(error, "code", None))
"""

WHILE_ENDING = """
keys_raise()
try:
    try:
        key(signal.SIGNAL)
        print("went on")
    finally:
        key(signal.SIGINT)
        key(signal.SIGQUIT)
        print("given back")
except BaseException as error:
    print(type(error).__name__, getattr(error, "code", None))
"""

TERMINATED_TWICE = """
try:
    with termination_raises():
        try:
            key(signal.SIGNAL)
            print("went on")
        finally:
            key(signal.SIGTERM)
            key(signal.SIGHUP)
            print("given back")
except BaseException as error:
    print(type(error).__name__, getattr(error, "code", None))
"""

OF_ITS_OWN = """
class Thing:
    def __del__(self):
        raise ValueError("of its own")

keys_raise()
Thing()
print("went on")
"""


def run(program: str, number: signal.Signals = signal.SIGINT) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", HEAD + program.replace("SIGNAL", number.name)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )


ENDINGS = {
    signal.SIGINT: "KeyboardInterrupt None\n",
    signal.SIGQUIT: "SystemExit 131\n",
    signal.SIGTERM: "SystemExit 143\n",
    signal.SIGHUP: "SystemExit 129\n",
}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
@pytest.mark.parametrize("program", [IN_A_CALLBACK, IN_A_DESTRUCTOR])
def test_a_key_is_not_lost_where_nothing_can_be_raised(
    program: str, number: signal.Signals
) -> None:
    done = run(program, number)
    assert (done.stdout, done.stderr) == (ENDINGS[number], "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_more_keys_do_not_disturb_what_is_given_back(number: signal.Signals) -> None:
    done = run(WHILE_ENDING, number)
    assert done.stdout == "given back\n" + ENDINGS[number]
    assert done.stderr == "\nstopping, please wait\n" * 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_more_signals_do_not_disturb_what_is_given_back(number: signal.Signals) -> None:
    done = run(TERMINATED_TWICE, number)
    assert done.stdout == "given back\n" + ENDINGS[number]


def test_other_errors_in_destructors_are_still_shown() -> None:
    done = run(OF_ITS_OWN)
    assert done.stdout == "went on\n"
    assert "ValueError: of its own" in done.stderr
