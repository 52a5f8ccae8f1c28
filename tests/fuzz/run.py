"""Fuzz one target for a while: `python -m tests.fuzz.run TARGET CORPUS SECONDS`.

It uses atheris (coverage-guided) where that can be imported, and otherwise mutates the corpus
blindly. It writes a finding beside the corpus, prints its path, and then exits with a code other
than 0.
"""

import hashlib
import importlib
import random
import resource
import sys
import time
from pathlib import Path
from types import TracebackType

from aicert.errors import AicertError

# The worst input may take 1 s and 200 MB; libFuzzer's own limits are coarse: whole seconds.
SECONDS = 1.0
MEGABYTES = 200
# Inputs that reach the size limits are in tests/fuzz/worst.py: no fuzzer would find them.
MAX_INPUT = 1 << 16


def main(arguments: list[str]) -> int:
    """Fuzz, and return 0 if the time ends without a finding."""
    name, folder, seconds = arguments[0], Path(arguments[1]), int(arguments[2])
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        return _blindly(name, folder, seconds)
    with atheris.instrument_imports(include=["aicert", "enclave_runner"]):
        from tests.fuzz.targets import TARGETS
    target = TARGETS[name]

    def once(data: bytes) -> None:
        try:
            target(data)
        except AicertError:
            pass

    options = [
        f"-max_total_time={seconds}",
        f"-max_len={MAX_INPUT}",
        f"-timeout={2 * int(SECONDS)}",
        # Instrumentation and libFuzzer's own tables need memory besides the parser's.
        f"-rss_limit_mb={MEGABYTES + 400}",
        f"-artifact_prefix={folder.parent}/finding-{name}-",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(folder)], once)
    atheris.Fuzz()
    return 0


def _blindly(name: str, folder: Path, seconds: int) -> int:
    from tests.fuzz.mutate import mutated
    from tests.fuzz.targets import TARGETS

    print(f"{name}: atheris cannot be imported: blind mutation of the corpus", file=sys.stderr)
    corpus = [path.read_bytes() for path in sorted(folder.iterdir())]
    chance = random.Random(0)  # noqa: S311 - mutations need no secrecy, and can be repeated
    rounds = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        data = mutated(chance, corpus)[:MAX_INPUT]
        started = time.process_time()
        with _Watched(folder.parent / f"finding-{name}", data):
            TARGETS[name](data)
        if time.process_time() - started > SECONDS:
            print(f"{name}: slow: {data[:200]!r}", file=sys.stderr)
            return 1
        rounds += 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{name}: {rounds} inputs, no finding, {peak} MB", file=sys.stderr)
    return 0


class _Watched:
    """A context that ignores AicertErrors and saves the input that raised any other exception."""

    def __init__(self, path: Path, data: bytes) -> None:
        self.path = path
        self.data = data

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if kind is None or issubclass(kind, AicertError):
            return True
        name = f"{self.path.name}-{hashlib.sha256(self.data).hexdigest()[:16]}"
        self.path.with_name(name).write_bytes(self.data)
        print(self.path.with_name(name), file=sys.stderr)
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
