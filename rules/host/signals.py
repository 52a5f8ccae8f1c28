"""Turn signals that end a program into exceptions, so that everything is cleaned up: the terminal's
cursor is restored, and a machine is stopped.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

AGAIN_AFTER_S = 0.02


@contextmanager
def termination_raises() -> Iterator[None]:
    """Make SIGTERM and SIGHUP raise in the block, unless somebody else handles them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    leaving = Leaving()
    ours = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is signal.SIG_DFL
    ]
    try:
        for number in ours:
            signal.signal(number, leaving.leave)
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def keys_raise() -> None:
    r"""Make Ctrl-C and Ctrl-\ raise an exception exactly once; call this in the main thread.

    Ctrl-\ would leave a core file and a hidden cursor. Ctrl-C raises in Python already, but a
    second one raises again in the middle of the clean-up that the first one started, and one that
    arrives while Python runs a destructor or a weak reference's callback is printed and lost.
    """
    leaving = Leaving()
    for number, usual in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGQUIT, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is usual:
            signal.signal(number, leaving.leave)
    signal.signal(signal.SIGALRM, leaving.again)
    sys.unraisablehook = leaving.lost


def keys_end_at_once() -> None:
    """End silently on a key from now on, because there is nothing left to clean up."""
    for number in (signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


class Leaving:
    """The first signal raises; later ones wait until its clean-up is done."""

    def __init__(self) -> None:
        self._ending: BaseException | None = None

    def leave(self, number: int, frame: FrameType | None) -> None:
        if self._ending is not None:
            # Bypass Python's streams, which may be in the middle of a line.
            with contextlib.suppress(OSError):
                os.write(2, b"\nstopping, please wait\n")
            return
        self._ending = KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)
        raise self._ending

    def lost(self, unraisable: "UnraisableHookArgs", /) -> None:
        """Python swallowed our exception where none can be raised: raise it again a
        little later.
        """
        if self._ending is not None and unraisable.exc_value is self._ending:
            signal.setitimer(signal.ITIMER_REAL, AGAIN_AFTER_S)
        else:
            sys.__unraisablehook__(unraisable)

    def again(self, number: int, frame: FrameType | None) -> None:
        if self._ending is None:
            return
        while frame is not None:
            if frame.f_code is Leaving.lost.__code__:
                # On a slow computer the hook may still be running, and an exception raised in it is
                # lost.
                signal.setitimer(signal.ITIMER_REAL, AGAIN_AFTER_S)
                return
            frame = frame.f_back
        raise self._ending
