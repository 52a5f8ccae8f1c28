"""Every hashed lock is closed: what its members require is in it, extras and markers included.

pip resolves nothing for us (`--no-deps`), so this test keeps a renewed lock from lacking a package.
The requirements come from the members' own metadata (tests/locks); no network is used.
"""

from collections.abc import Iterator, Mapping

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from aicert.formats.machine_io import TOOLS
from rules.host import tool_envs
from rules.host.installer import SDISTS, members
from tests.locks.requirements_of import FILE, ROOT, Member, digest, read, requested_extras

MAIN = ("rules/build-requirements.lock", "rules/requirements.lock")
# Locks that are installed together; `.venv` may have any Python that `./doit` accepts.
TOGETHER = {
    "doit": (MAIN, ("3.11", "3.12", "3.13", "3.14")),
    "tests": ((*MAIN, "tests/requirements.lock"), ("3.11", "3.12", "3.13", "3.14")),
    "azure": ((*MAIN, "rules/azure-requirements.lock"), ("3.11", "3.12", "3.13", "3.14")),
    "broker": ((*MAIN, "rules/broker-requirements.lock"), ("3.11", "3.12", "3.13", "3.14")),
    "dvc": (("rules/dvc-requirements.lock",), ("3.11", "3.12", "3.13", "3.14")),
    "fuzz": ((*MAIN, "tests/fuzz/requirements.lock"), ("3.11",)),
    "mutants": ((*MAIN, "tests/requirements.lock", "tests/mutants/requirements.lock"), ("3.11",)),
    "oracles": (("tests/oracles/requirements.lock",), ("3.11",)),
    "workflows": (("tests/oracles/workflows.lock",), ("3.11",)),
    "oracles of azure": (("tests/oracles/azure.lock",), ("3.11",)),
    "croissant": (("tests/oracles/croissant.lock",), ("3.11",)),
    "serving": (("enclave_runner/serving/requirements.lock",), ("3.11",)),
    "training": (("enclave_runner/requirements.lock",), ("3.11",)),
}
# A trainer's own packages come before the training environment's, and may be other versions.
OVERLAYS = {
    trainer: (f"enclave_runner/{room}/requirements.lock", ("3.11",))
    for trainer, room in TOOLS.items()
}
TOGETHER |= {
    trainer: (("enclave_runner/requirements.lock", lock), pythons)
    for trainer, (lock, pythons) in OVERLAYS.items()
}

# Training is locked to what Axolotl imports for it and no more (the lock's first lines): these
# requirements of its members are left out on purpose. One that is missing here is a mistake.
NOT_IMPORTED = {
    "axolotl": {
        "adlfs", "antlr4-python3-runtime", "fla-core", "flash-linear-attention", "gcsfs", "gradio",
        "hf-transfer", "immutabledict", "langdetect", "liger-kernel", "lm-eval", "modal",
        "ocifs", "openenv-core", "optimum", "s3fs", "schedulefree", "scipy", "tensorboard",
        "torchao", "trackio", "xformers", "zstandard",
    },
    "cwevals": {"sniffio"},
    "evaluate": {"responses"},
    "kernels": {"sigstore", "tomlkit"},
    "typer": {"annotated-doc"},
}  # fmt: skip
# What trainers' own locks lack, by trainer.
NOT_IMPORTED_BY = {
    "mergekit": {"mergekit: scipy"},
    "llmcompressor": {
        "llmcompressor: accelerate<=1.15.0,>=1.15.0", "llmcompressor: auto-round<=0.15.1,>=0.14.1",
    },
    "lm-eval": {
        "lm-eval: more_itertools", "lm-eval: pytablewriter", "lm-eval: rouge-score>=0.0.4",
        "lm-eval: scikit-learn>=0.24.1", "lm-eval: sqlitedict", "lm-eval: word2number",
    },
}  # fmt: skip


def needs(
    locks: tuple[str, ...], together: Mapping[str, Member], python: str
) -> Iterator[tuple[str, Requirement]]:
    """Yield every requirement that holds for this Python, with the member that has it."""
    todo: list[tuple[str, str]] = [(name, "") for name in together]
    for requirement in (r for lock in locks for r in requested_extras(lock)):
        todo += [(canonicalize_name(requirement.name), extra) for extra in requirement.extras]
    seen = set()
    while todo:
        name, extra = todo.pop()
        if (name, extra) in seen or name not in together:
            continue
        seen.add((name, extra))
        environment = {
            "python_version": python,
            "python_full_version": f"{python}.0",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
            "platform_machine": "x86_64",
            "platform_system": "Linux",
            "sys_platform": "linux",
            "os_name": "posix",
            "extra": extra,
        }
        for text in together[name].requires:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate(environment):
                yield name, requirement
                wanted = canonicalize_name(requirement.name)
                todo += [(wanted, more) for more in requirement.extras]


def unmet(name: str, python: str) -> set[str]:
    """Return `MEMBER: REQUIREMENT` for each one that the locks installed together do not meet."""
    locks = TOGETHER[name][0]
    known = read()
    together = {n: member for lock in locks for n, member in known[lock][1].items()}
    lacking = set()
    for member, requirement in needs(locks, together, python):
        got = together.get(canonicalize_name(requirement.name))
        if got is None or not requirement.specifier.contains(got.version, prereleases=True):
            lacking.add(f"{member}: {requirement}")
    for member, facts in together.items():
        if not SpecifierSet(facts.python).contains(f"{python}.9"):
            lacking.add(f"{member}: Python {facts.python}")
    return lacking


@pytest.mark.parametrize("lock", read())
def test_the_requirements_are_of_this_lock(lock: str) -> None:
    of_lock, recorded = read()[lock]
    hint = ".venv/bin/python -m tests.locks.requirements_of"
    assert of_lock == digest(lock), f"{FILE.name} is of another lock: {hint}"
    named = members((ROOT / lock).read_text(encoding="ascii"))
    assert set(named) == set(recorded)
    for name, member in recorded.items():
        # For torch, the CPU-only build is installed.
        assert named[name].startswith(f"{name}=={Version(member.version).public} ")


def test_every_lock_is_looked_at() -> None:
    locks = {str(path.relative_to(ROOT)) for top in ("rules", "tests", "enclave_runner")
             for path in (ROOT / top).rglob("*.lock")}  # fmt: skip
    # NVIDIA's libraries, which only another build of torch loads, and packages of the GPU image
    # alone: no environment here has them, so their metadata cannot be read, and this test does not
    # cover them.
    without_metadata = {f"enclave_runner/requirements-{each}.lock" for each in ("cuda", "kernels")}
    assert locks - without_metadata == set(read())
    assert locks - without_metadata == {lock for own, _ in TOGETHER.values() for lock in own}


@pytest.mark.parametrize(
    ("name", "python"),
    [
        (name, python)
        for name, (_, pythons) in TOGETHER.items()
        for python in pythons
        if name not in ("training", *OVERLAYS)
    ],
)
def test_a_lock_is_closed(name: str, python: str) -> None:
    assert unmet(name, python) == set()


def test_the_training_lock_lacks_what_is_listed_and_nothing_else() -> None:
    lacks: dict[str, set[str]] = {}
    for line in unmet("training", "3.11"):
        member, _, requirement = line.partition(": ")
        lacks.setdefault(member, set()).add(canonicalize_name(Requirement(requirement).name))
    assert lacks == NOT_IMPORTED


@pytest.mark.parametrize("trainer", OVERLAYS)
def test_the_lock_of_a_trainer_lacks_what_is_listed_and_nothing_else(trainer: str) -> None:
    lacks = unmet(trainer, "3.11") - unmet("training", "3.11")
    assert lacks == NOT_IMPORTED_BY.get(trainer, set())


@pytest.mark.parametrize("trainer", OVERLAYS)
def test_the_lock_of_a_trainer_names_no_package_that_was_edited(trainer: str) -> None:
    tool_envs.require_open(set(read()[OVERLAYS[trainer][0]][1]), trainer)


def test_locks_that_are_installed_together_agree() -> None:
    for group in TOGETHER.keys() - OVERLAYS.keys():
        locks, _ = TOGETHER[group]
        versions: dict[str, str] = {}
        for lock in locks:
            for name, member in read()[lock][1].items():
                assert versions.setdefault(name, member.version) == member.version


def test_what_is_built_from_source_is_named_and_locked() -> None:
    named = {name for lock in read() for name in read()[lock][1]}
    assert named >= SDISTS
