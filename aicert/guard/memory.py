"""Remember what this process has verified, and check that it has not changed since.

The key of a subject is the status of everything in it: device, inode, size, mode, mtime and ctime;
for a link, its own status and that of its target. Keys are compared before, between and after
loads; only a pass is remembered. Changes above the subject's folder are not noticed. If copies are
made, the key only decides whether an earlier copy can be used: nothing can change what is loaded.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aicert.files.bounded import StrPath
from aicert.guard.copies import Copies
from aicert.guard.judge import UNSEEN, RefusedError, Subject, UnsignedError, find, judge
from aicert.guard.policy import GuardPolicy
from aicert.guard.saving import load_key
from aicert.text import error_lines, safe

Status = tuple[int, ...]
Key = dict[str, Status]
# Two writes within one tick of the kernel's clock (10 ms at most) have the same ctime.
GRAIN_NS = 50_000_000


def _status(status: os.stat_result) -> Status:
    return (
        status.st_dev, status.st_ino, status.st_size, status.st_mode, status.st_mtime_ns,
        status.st_ctime_ns,
    )  # fmt: skip


def _of(path: str) -> Status:
    """Return the status of a path; for a link, also that of its target."""
    own = os.lstat(path)
    if not os.path.islink(path):
        return _status(own)
    try:
        return (*_status(own), *_status(os.stat(path)))
    except OSError:
        return _status(own)


def key_of(root: str) -> Key:
    """Return the status of everything in a folder, or of one file and its signature."""
    try:
        key = {".": _of(root)}
        if os.path.isdir(root):
            _add(root, "", key)
        elif os.path.lexists(f"{root}.sig"):
            key[".sig"] = _of(f"{root}.sig")
    except OSError as error:
        raise RefusedError(f"{safe(root)}: {error.strerror}") from None
    return key


def _add(folder: str, prefix: str, key: Key) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            name = f"{prefix}{entry.name}"
            if f"{name}/" in UNSEEN:
                continue
            key[name] = _of(entry.path)
            if entry.is_dir(follow_symlinks=False):
                _add(entry.path, f"{name}/", key)


def _newest(key: Key) -> int:
    # For a link, the last number is its target's and the sixth its own.
    return max(max(status[5], status[-1]) for status in key.values())


def _moved(root: str, before: Key, after: Key) -> RefusedError:
    names = sorted(
        name for name in before.keys() | after.keys() if before.get(name) != after.get(name)
    )
    return RefusedError(
        f"{safe(root)} was changed while it was verified or loaded: {safe(names[0])}",
        hint="load from a folder that nobody writes to",
    )


class Load:
    """One load: what was verified during it, and the first refusal in its thread.

    `keys` has for each subject its key, and whether every later write would change that key.
    """

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.keys: dict[Subject, tuple[Key, bool]] = {}
        self.refusal: RefusedError | None = None


class Guard:
    """The guard of this process. Use `check` before a load, and `loading` around a load."""

    def __init__(
        self,
        policy: GuardPolicy,
        *,
        copies: Copies | None = None,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self._policy = policy
        self._copies = copies
        # Read the key now, so that a missing key does not show only at the end of a training.
        self.signer = None if policy.signing is None else load_key(policy.signing)
        self._now = now
        self._lock = threading.RLock()
        # Without this, a child that is forked while another thread hashes would wait for ever.
        os.register_at_fork(after_in_child=self._renew_lock)
        self._passed: dict[Subject, Key] = {}
        self._warned: set[str] = set()
        self._loads: list[Load] = []

    def _renew_lock(self) -> None:
        self._lock = threading.RLock()

    def check(self, path: StrPath, *, is_rows: bool = False) -> StrPath:
        """Verify the subject of a path, unless it is known to have passed; raises RefusedError.

        Returns the path to load from, which is in a copy if copies are made.
        """
        with self._lock, self._refusals():
            if self._copies is not None and self._copies.holds(path):
                return path
            subject = find(path, is_rows=is_rows)
            try:
                key, is_settled = self._verified(subject)
            except UnsignedError as error:
                self._unsigned(error)
                return path
            copies = self._copies_for(subject)
            if copies is not None:
                return copies.at(subject, path)
            for load in self._loads:
                load.keys.setdefault(subject, (key, is_settled))
            return path

    def _copies_for(self, subject: Subject) -> Copies | None:
        """Return None for rows: datasets caches what it read in files that others may write to."""
        return self._copies if subject.has_evidence and not subject.is_rows else None

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Record a refusal, so that this thread's loads fail even if a library catches the
        exception.
        """
        try:
            yield
        except RefusedError as error:
            for load in self._loads:
                if load.thread == threading.get_ident() and load.refusal is None:
                    load.refusal = error
            raise

    def _verified(self, subject: Subject) -> tuple[Key, bool]:
        key, is_settled = self._settled(subject.root) if subject.has_evidence else ({}, True)
        for load in self._loads:
            before, _ = load.keys.get(subject, (key, is_settled))
            if before != key:
                raise _moved(subject.root, before, key)
        if key and self._passed.get(subject) == key:
            return key, True
        self._passed.pop(subject, None)
        copies = self._copies_for(subject)
        if copies is not None:
            copies.make(subject, lambda copied: judge(copied, self._policy))
            self._passed[subject] = key
            return key, True
        judge(subject, self._policy)
        after = key_of(subject.root)
        if after != key:
            raise _moved(subject.root, key, after)
        if is_settled:
            self._passed[subject] = key
        return key, is_settled

    def _settled(self, root: str) -> tuple[Key, bool]:
        """Return the key, and whether every write from now on would change it."""
        key = key_of(root)
        young = GRAIN_NS - (self._now() - _newest(key))
        # Waiting does not help for a file from the future, so `loading` hashes it again.
        if 0 <= young <= GRAIN_NS:
            time.sleep((young + 1_000_000) / 1e9)
        before = self._now()
        key = key_of(root)
        return key, before - _newest(key) > GRAIN_NS

    def refuse_unverifiable(self, what: str) -> None:
        """Treat bytes whose origin cannot be verified like unsigned files."""
        with self._lock, self._refusals():
            self._unsigned(
                UnsignedError(
                    f"{safe(what)}: bytes from elsewhere cannot be verified",
                    hint="hf download it, and load from its folder",
                )
            )

    def _unsigned(self, error: UnsignedError) -> None:
        if self._policy.unsigned == "refuse":
            raise error
        if error.message not in self._warned:
            self._warned.add(error.message)
            word = {"warn": "warning", "allow": "allowed by the policy"}[self._policy.unsigned]
            sys.stderr.write(error_lines(f"aicert guard: {word}: {error.message}", None))

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Guard one load: at its end, everything that was verified during it must be unchanged.

        A refusal during the load is raised at the end, whatever the library did with the exception.
        """
        load = Load()
        with self._lock:
            self._loads.append(load)
        try:
            yield
        except Exception as error:
            if load.refusal is not None and error is not load.refusal:
                raise load.refusal from error
            raise
        finally:
            with self._lock:
                self._loads.remove(load)
        if load.refusal is not None:
            raise load.refusal
        for subject, (key, is_settled) in load.keys.items():
            with self._lock:
                self._compare(subject, key, is_settled)

    def _compare(self, subject: Subject, key: Key, is_settled: bool) -> None:
        after = key_of(subject.root)
        if after != key:
            self._passed.pop(subject, None)
            raise _moved(subject.root, key, after)
        if not is_settled:
            judge(subject, self._policy)
