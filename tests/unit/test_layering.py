"""Which way imports go, and what shape the repository promises (docs/architecture.md)."""

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from aicert.files.machine_code import MACHINE_CODE, SERVING_CODE

ROOT = Path(__file__).resolve().parents[2]
TRUSTED = {"aicert", "cryptography"}
# The entry points may draw a table with rich, imported when it is drawn. Sources are outside the
# trust core, with an extra of their own; only the command line reaches them, on request.
SOURCES = "aicert/sources/"
MAY_REACH_SOURCES = {"aicert/cli/sources.py"}
MAY_USE_RICH = {"aicert/cli/progress.py", "aicert/cli/table.py"}
# Modules with an extra of their own: `aicert.cli.signing` loads them by name, on request.
EXTRAS: dict[str, set[str]] = {
    "aicert/exports/card.py": set(),
    "aicert/exports/card_places.py": {"markdown_it", "yaml"},
    "aicert/guard/callback.py": {"transformers"},
    "aicert/broker/server.py": {"uvicorn"},
    "aicert/signing/sigstore_signer.py": {"sigstore"},
    "aicert/signing/pkcs11_signer.py": {"pkcs11"},
    "aicert/signing/tpm_signer.py": {"tpm2_pytss"},
    "aicert/channel/tls.py": {"OpenSSL"},
    "aicert/serving/tls.py": {"OpenSSL"},
}
# A consumer's connection to a machine, which no verdict needs: it connects to a machine, and
# listens for programs on its own computer.
SERVING = ("aicert/channel/", "aicert/serving/")
TOP_LEVEL = {
    # files
    ".gitattributes",
    ".gitignore",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "README.md",
    "SECURITY.md",
    "aicert.toml",
    "dodo.py",
    "doit",
    "pyproject.toml",
    # directories
    ".ci",
    ".dvc",
    ".github",
    "aicert",
    "browser",
    "certificates",
    "docs",
    "enclave_runner",
    "examples",
    "image",
    "lockfiles",
    "rules",
    "terraform",
    "tests",
}


def tracked() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def modules(*folders: str) -> list[str]:
    return [
        name for name in tracked() if name.endswith(".py") and name.partition("/")[0] in folders
    ]


def imports(name: str) -> dict[str, bool]:
    """Map each top-level name that a module imports to whether the import is at the top."""
    imported: dict[str, bool] = {}
    tree = ast.parse((ROOT / name).read_bytes())
    top = set(tree.body)
    for node in ast.walk(tree):
        targets: list[str] = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import"
            targets = [node.module or ""]
        for target in targets:
            base = target.partition(".")[0]
            imported[base] = imported.get(base, False) or node in top
    return imported


def test_there_is_something_to_look_at() -> None:
    assert modules("aicert")
    assert modules("rules")
    assert modules("enclave_runner")


def core() -> list[str]:
    return [name for name in modules("aicert") if not name.startswith(SOURCES)]


@pytest.mark.parametrize("name", core())
def test_the_trust_core_imports_only_what_a_verifier_installs(name: str) -> None:
    for base, at_top in imports(name).items():
        if base == "rich" and name in MAY_USE_RICH:
            assert not at_top, "rich costs start-up: import it where it is used"
            continue
        if base in EXTRAS.get(name, set()):
            continue
        assert base in TRUSTED or base in sys.stdlib_module_names, base


@pytest.mark.parametrize("name", core())
def test_the_trust_core_does_not_know_sources(name: str) -> None:
    if name in MAY_REACH_SOURCES:
        return
    tree = ast.parse((ROOT / name).read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("aicert.sources"):
            raise AssertionError(name)


@pytest.mark.parametrize("name", [n for n in modules("aicert") if n.startswith("aicert/formats/")])
def test_formats_turn_bytes_into_values_and_reach_nothing(name: str) -> None:
    assert set(imports(name)) <= sys.stdlib_module_names | {"aicert"}
    tree = ast.parse((ROOT / name).read_bytes())
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call)
              and isinstance(node.func, ast.Name)}  # fmt: skip
    assert not {"os", "io", "pathlib", "sys", "time", "random", "secrets"} & set(imports(name))
    assert not {"open", "input", "print"} & called


def imported_when_run(name: str) -> set[str]:
    """Return the top-level names that a module imports, without those for type checkers alone."""
    tree = ast.parse((ROOT / name).read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    nodes = list(ast.walk(tree))
    plain = {a.name for node in nodes if isinstance(node, ast.Import) for a in node.names}
    named = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return {module.partition(".")[0] for module in plain | named}


# Rooms that handle keys, certificates and signatures. Model signatures have curves and key
# encodings of their own (OpenSSF); leases have keys that TPMs load, and seal.
CRYPTOGRAPHY = (
    "aicert/crypto/",
    "aicert/signing/",
    "aicert/model_signature/",
    "aicert/lease/",
    # Keys of logs and witnesses, in notes.
    "aicert/tlog/",
    # Revocation lists, which only one kind of evidence has.
    "aicert/appraisal/evidence/revocation.py",
)


@pytest.mark.parametrize("name", core())
def test_cryptography_is_used_in_the_rooms_that_are_for_it(name: str) -> None:
    assert name.startswith(CRYPTOGRAPHY) or "cryptography" not in imported_when_run(name)


@pytest.mark.parametrize("name", [n for n in modules("aicert") if n.startswith(SOURCES)])
def test_sources_add_only_the_extra(name: str) -> None:
    extra = {"httpx2", "huggingface_hub"}
    assert set(imports(name)) <= extra | TRUSTED | sys.stdlib_module_names


# The guard, which no verdict needs: its program makes a file system by system calls.
MAKING_COPIES = {
    "aicert/guard/copies.py": {"subprocess", "socket"},
    "aicert/guard/file_system.py": {"ctypes", "socket"},
}


@pytest.mark.parametrize("name", core())
def test_the_trust_core_starts_nothing_and_opens_no_connection(name: str) -> None:
    # Parsing a URI opens nothing.
    imported = {
        module for module in imported_modules(name) if not module.startswith("urllib.parse")
    }
    bases = {module.partition(".")[0] for module in imported}
    bases -= MAKING_COPIES.get(name, set())
    bases -= {"socket", "http"} if name.startswith(SERVING) else set()
    assert not {"subprocess", "socket", "http", "urllib", "ctypes", "pickle"} & bases


@pytest.mark.parametrize("name", core())
def test_modules_that_need_an_extra_are_imported_by_none_that_does_not(name: str) -> None:
    if name in EXTRAS:
        return
    extras = {path.removesuffix(".py").replace("/", ".") for path in EXTRAS}
    assert not extras & imported_modules(name)


@pytest.mark.parametrize("name", modules("rules", "dodo.py"))
def test_rules_never_import_the_runner(name: str) -> None:
    assert "enclave_runner" not in imports(name)


@pytest.mark.parametrize("name", modules("enclave_runner"))
def test_the_runner_never_imports_rules(name: str) -> None:
    assert not {"rules", "dodo", "doit"} & set(imports(name))


@pytest.mark.parametrize("name", modules("rules"))
def test_rules_import_heavy_libraries_only_in_actions(name: str) -> None:
    at_top = {base for base, top in imports(name).items() if top}
    heavy = {"azure", "torch", "dvc", "tpm2_pytss", "rich", "transformers", "tokenizers"}
    assert not (heavy | {"httpx2", "huggingface_hub"}) & at_top


def imported_modules(name: str) -> set[str]:
    """Return the dotted names that a module imports, and those that it imports from."""
    dotted: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / name).read_bytes())):
        if isinstance(node, ast.Import):
            dotted.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            dotted.add(node.module or "")
            dotted.update(f"{node.module}.{alias.name}" for alias in node.names)
    return dotted


# Which rooms a room may import; a lower room comes before a higher one. The modules of a package
# that lie in no room are its ground (`aicert`) or its top (`enclave_runner`, `rules`, the commands'
# entry points), each with its dotted name.
GROUND = ("aicert.errors", "aicert.frozen", "aicert.text")
VALUES = (*GROUND, "aicert.formats")
READERS = (*VALUES, "aicert.crypto", "aicert.files")
# Audits and logs hash the same tree; no room that decides imports the rest of audits.
BELOW_APPRAISAL = ("aicert.model_signature", "aicert.audits", "aicert.tlog")
DECIDING = (*READERS, *BELOW_APPRAISAL, "aicert.appraisal")
VERIFYING = (*DECIDING, "aicert.trust", "aicert.verifier")
LEASING = ("aicert.lease", "aicert.leasing")
MACHINE = (*READERS, "aicert.model_signature", "aicert.records", "aicert.audits")
# Modules that all commands share.
FACE = ("aicert.cli.terminal", "aicert.cli.progress", "aicert.cli.table")
BELOW_TRAINERS = ("enclave_runner.machine_facts", "enclave_runner.sandbox", "enclave_runner.inputs")
_EVERY = ("audit", "attester", "events", "options")
OF_EVERY_RUN = (*MACHINE, *BELOW_TRAINERS, *(f"enclave_runner.{n}" for n in _EVERY))
_TOP = ("outputs", "trainers")
EVALUATION = ("enclave_runner.axolotl", "enclave_runner.evaluate")
FINE_TUNE = ("enclave_runner.axolotl", "enclave_runner.outputs")
MERGES = ("enclave_runner.axolotl", "enclave_runner.merge")
_OTHERS = ("evaluate", "fine_tune", "gguf", "llmcompressor", "lm_eval", "mergekit")
TRAINERS = (*MERGES, *(f"enclave_runner.{n}" for n in _OTHERS))
ROOMS: dict[str, tuple[str, ...]] = {
    "aicert.errors": (),
    "aicert.frozen": (),
    "aicert.text": ("aicert.errors",),
    "aicert.formats": GROUND,
    "aicert.crypto": VALUES,
    "aicert.files": VALUES,
    "aicert.model_signature": READERS,
    "aicert.records": (*VALUES, "aicert.files"),
    # Only bytes and values; the machine and the command line bring it rows.
    "aicert.audits": VALUES,
    "aicert.tlog": VALUES,
    # A log's own side, which no verdict needs: only the command line imports it.
    "aicert.log": (*VALUES, "aicert.files", "aicert.audits", "aicert.tlog"),
    "aicert.appraisal": (*READERS, *BELOW_APPRAISAL),
    "aicert.trust": DECIDING,
    "aicert.verifier": (*DECIDING, "aicert.trust"),
    # It imports only what machines carry, since machines that serve carry it too.
    "aicert.lease": READERS,
    # A connection between a consumer and a machine that serves: both ends import it.
    "aicert.channel": (*GROUND, "aicert.lease"),
    "aicert.leasing": (*DECIDING, "aicert.lease"),
    # No other room imports it: the command line loads it by name.
    "aicert.broker": (*DECIDING, *LEASING),
    "aicert.cache": (*VALUES, "aicert.files"),
    "aicert.sources": (*VALUES, "aicert.files"),
    "aicert.signing": (*READERS, "aicert.model_signature", "aicert.cache"),
    "aicert.exports": VERIFYING,
    # No other room imports it: the command line loads it by name.
    "aicert.guard": (*VERIFYING, "aicert.cache", "aicert.signing", "aicert.exports"),
    # No other room imports it but the command line, on `connect`.
    "aicert.serving": (*VERIFYING, *LEASING, "aicert.channel"),
    "aicert.cli.terminal": GROUND,
    "aicert.cli.progress": VERIFYING,
    "aicert.cli.table": VERIFYING,
    "aicert.cli.show": (*VERIFYING, "aicert.cli.terminal"),
    "aicert.cli.verify": (*VERIFYING, *FACE),
    "aicert.cli.timestamp": (*VERIFYING, *FACE, "aicert.sources"),
    "aicert.cli.log": (*VERIFYING, *FACE, "aicert.log", "aicert.sources", "aicert.cli.timestamp"),
    "aicert.cli.lease": (*VERIFYING, *FACE, "aicert.cli.verify", *LEASING),
    # Commands without a folder of their own, and the module that calls them all.
    "aicert.cli": (
        *VERIFYING,
        *FACE,
        "aicert.cli.show",
        "aicert.cli.verify",
        "aicert.cli.timestamp",
        "aicert.cli.log",
        "aicert.cli.lease",
        "aicert.records",
        "aicert.cache",
        "aicert.sources",
        "aicert.signing",
        "aicert.exports",
        *LEASING,
        "aicert.serving",
    ),
    # `import aicert` gives the errors and `verify`, which imports the rest when it is called.
    "aicert": VERIFYING,
    "aicert.__main__": ("aicert.cli",),
    "enclave_runner.events": VALUES,
    "enclave_runner.machine_facts": VALUES,
    "enclave_runner.options": (*VALUES, "enclave_runner.sandbox"),
    "enclave_runner.sandbox": MACHINE,
    "enclave_runner.inputs": (*MACHINE, "enclave_runner.sandbox"),
    "enclave_runner.axolotl": (*MACHINE, *BELOW_TRAINERS),
    "enclave_runner.audit": (*MACHINE, *BELOW_TRAINERS),
    "enclave_runner.merge": (*MACHINE, *BELOW_TRAINERS, "enclave_runner.axolotl"),  # Axolotl's too
    "enclave_runner.mergekit": (*MACHINE, *BELOW_TRAINERS, *MERGES),
    "enclave_runner.gguf": (*MACHINE, *BELOW_TRAINERS, *MERGES, "enclave_runner.mergekit"),
    "enclave_runner.llmcompressor": (*MACHINE, *BELOW_TRAINERS, *MERGES, "enclave_runner.mergekit"),
    "enclave_runner.evaluate": (*MACHINE, *BELOW_TRAINERS, "enclave_runner.axolotl"),
    "enclave_runner.lm_eval": (*MACHINE, *BELOW_TRAINERS, *EVALUATION),
    "enclave_runner.attester": (*MACHINE, "enclave_runner.inputs"),
    # What every trainer's run has, one of the trainers, and the run from top to bottom.
    "enclave_runner.outputs": (*OF_EVERY_RUN, "enclave_runner.axolotl"),
    "enclave_runner.fine_tune": (*OF_EVERY_RUN, *FINE_TUNE),
    "enclave_runner.trainers": (*OF_EVERY_RUN, *FINE_TUNE, *TRAINERS),
    "enclave_runner.__main__": (*OF_EVERY_RUN, *(f"enclave_runner.{n}" for n in _TOP)),
    # Only the image of serving machines holds it, with the formats of leases.
    "enclave_runner.serving": (
        *READERS,
        "aicert.lease",
        "aicert.channel",
        "enclave_runner.sandbox",
        "enclave_runner.attester",
        "enclave_runner.inputs",
        "enclave_runner.axolotl",
    ),
    "enclave_runner.boot": (*MACHINE, "enclave_runner.events", "enclave_runner.__main__"),
}
# The rooms of the rules, lowest first: each may import those before it, and any of `aicert`. The
# contract of machines lies below the rooms that read aicert.toml; the drivers that it loads lie
# above.
CONTRACT = "rules.machines.machine"
RULES = (
    "rules",
    "rules.host",
    CONTRACT,
    "rules.project",
    "rules.example",
    "rules.dvc",
    "rules.image",
    "rules.machines",
    "rules.review",
    "rules.runs",
    "rules.serving",
    "rules.bench",
    "rules.page",
    "rules.commands",
    "rules.package",
    "rules.tasks",
    "rules.dodo",
    "rules.loader",
    "rules.__main__",
    "rules.start",
)


def dotted(name: str) -> str:
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


EVERY = {dotted(name) for name in modules("aicert", "rules", "enclave_runner")}


def room(module: str) -> str:
    """Return the room of a module.

    That is the module itself or its innermost folder with a row in the table; otherwise its folder
    below the package, or itself if it lies in none.
    """
    parts = module.split(".")
    names = [".".join(parts[:depth]) for depth in range(len(parts), 2, -1)]
    rows = (name for name in names if name == CONTRACT or name in ROOMS)
    return next(rows, ".".join(parts[:2]))


def test_each_room_imports_only_rooms_below_it() -> None:
    wrong = set()
    allowed = ROOMS | {name: (*ROOMS, *RULES[:height]) for height, name in enumerate(RULES)}
    for name in modules("aicert", "rules", "enclave_runner"):
        here = room(dotted(name))
        assert here in allowed, f"{name}: no row in the table of rooms"
        # An import of a module from one of these packages also names the package.
        for module in (imported_modules(name) & EVERY) - {"rules", "enclave_runner", "aicert.cli"}:
            there = room(module)
            if there not in (here, *allowed[here]):
                wrong.add((here, there))
    assert wrong == set()


def test_each_room_says_what_it_is_for() -> None:
    folders = {name.rpartition("/")[0] for name in modules("aicert", "rules", "enclave_runner")}
    # The plugin's files lie on the trainer's path; the measuring program belongs to the trainer.
    folders -= {"rules", "enclave_runner"}
    folders -= {f"enclave_runner/axolotl/{name}" for name in ("plugin", "measuring")}
    for folder in folders:
        purpose = ast.get_docstring(ast.parse((ROOT / folder / "__init__.py").read_bytes()))
        assert purpose, folder


def test_the_browser_takes_the_place_of_cryptography_and_changes_nothing_else() -> None:
    """Only its own bridge imports it; the stand-in knows nothing of the verifier."""
    for name in modules("aicert", "rules", "enclave_runner"):
        assert "browser" not in imports(name), name
    for name in modules("browser"):
        allowed = {"browser", "aicert"} if name.startswith("browser/page/") else {"browser"}
        assert set(imports(name)) <= allowed | sys.stdlib_module_names, name


def test_no_two_modules_import_each_other() -> None:
    """There is no circle of any length, imports inside functions included."""
    imported = {
        dotted(name): (imported_modules(name) & EVERY) - {dotted(name)}
        for name in modules("aicert", "rules", "enclave_runner")
        # The imports of a room's own `__init__` count for it alone: every import of the room runs
        # it.
        if not name.endswith("__init__.py")
    }
    graphlib.TopologicalSorter(imported).prepare()


def listed(module: str, entries: tuple[str, ...]) -> str | None:
    """Return the entry of a machine's code list that covers this module."""
    paths = module.replace(".", "/") + ".py", module.replace(".", "/") + "/__init__.py"
    return next((entry for entry in entries if any(path.startswith(entry) for path in paths)), None)


def reached_from(waiting: set[str]) -> set[str]:
    """Return every module that these may ever import, imports inside functions included."""
    closure: set[str] = set()
    while waiting:
        module = waiting.pop()
        closure.add(module)
        path = module.replace(".", "/") + ".py"
        # A package's own `__init__` runs with each of its modules; what it imports only when called
        # (`aicert.verify`) counts for its callers.
        inner = imported_modules(path) if (ROOT / path).exists() else set()
        parents = {module.rpartition(".")[0]} - {""}
        waiting |= ((inner & EVERY) | parents) - closure
    return closure


SERVES = "enclave_runner.serving"


@pytest.mark.parametrize("serves", [False, True], ids=["trains", "serves"])
def test_a_machine_carries_what_its_runner_imports_and_nothing_else(serves: bool) -> None:
    """Every module that the runner may ever import is on the list, and every entry has such a
    module.

    A machine that trains has no code of one that serves.
    """
    runner = {dotted(name) for name in modules("enclave_runner")}
    serving = {module for module in runner if room(module) == SERVES}
    closure = reached_from(serving if serves else runner - serving)
    assert serves or not closure & serving
    code = SERVING_CODE if serves else MACHINE_CODE
    # The package's own `__init__` is empty.
    entries = {module: listed(module, code) for module in closure - {"enclave_runner"}}
    assert [module for module, entry in sorted(entries.items()) if entry is None] == []
    # A table that a module reads is not a module.
    assert set(entries.values()) == {entry for entry in code if not entry.endswith(".json")}


def test_rows_are_read_without_pyarrow_until_a_file_needs_it() -> None:
    code = "import sys, aicert.records.convert; print('pyarrow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False"


def test_verify_loads_no_export() -> None:
    code = (
        "import sys\nfrom aicert.cli.main import main\ntry:\n main(['verify', 'none'])\nfinally:\n"
    )
    code += " print([name for name in sys.modules if name.startswith('aicert.exports')])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_bootstrap_needs_nothing_but_the_standard_library() -> None:
    host = ("bootstrap", "file_lock", "installer", "os_errors", "places")
    own = {*(f"rules.host.{name}" for name in host), "aicert.errors"}
    for module in own:
        path = f"{module.replace('.', '/')}.py"
        assert imported_modules(path) & EVERY <= own | {"rules", "rules.host"}
        assert set(imports(path)) <= sys.stdlib_module_names | {"rules", "aicert"}
    # Started as by `./doit`: there are no packages, and only the ground of aicert.
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import rules.host.bootstrap"
    code += "; print(*(name for name in sys.modules if name.split('.')[0] == 'aicert'))"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) == {"aicert", "aicert.errors"}


def test_dodo_is_configuration_and_imports() -> None:
    assert len((ROOT / "dodo.py").read_text().splitlines()) < 40


@pytest.mark.parametrize("name", modules("aicert", "browser", "rules", "enclave_runner", "tests"))
def test_no_file_holds_two_ideas(name: str) -> None:
    assert len((ROOT / name).read_text().splitlines()) <= 600


def ours(*endings: str) -> list[str]:
    """Return this project's files: builders keep their runs' data in folders of their own."""
    return [n for n in tracked() if n.partition("/")[0] in TOP_LEVEL and n.endswith(endings)]


def test_top_level_layout() -> None:
    python = {name.partition("/")[0] for name in tracked() if name.endswith(".py")}
    files = {name for name in tracked() if "/" not in name}
    assert python | files <= TOP_LEVEL


@pytest.mark.parametrize("name", ours(".py", ".md", ".toml"))
def test_text_ends_lines_with_lf_only(name: str) -> None:
    assert b"\r" not in (ROOT / name).read_bytes()


def test_nobody_is_sent_to_another_project_of_that_name() -> None:
    # `aicert` on PyPI is not this project.
    for name in ours(".py", ".md", ".toml", ".yml"):
        commands = re.findall(r"pip install [^\n`\"]*", (ROOT / name).read_text())
        assert not [
            line for line in commands if re.search(r"(?<![\w./-])aicert(?![\w/-])", line)
        ], name


@pytest.mark.parametrize("name", modules("aicert", "browser", "rules", "enclave_runner"))
def test_no_assert_outside_tests(name: str) -> None:
    tree = ast.parse((ROOT / name).read_bytes())
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]


def test_direct_dependencies_are_pinned_and_justified() -> None:
    for name in (
        "rules/build-requirements",
        "rules/requirements",
        "rules/dvc-requirements",
        "rules/azure-requirements",
        "rules/broker-requirements",
        "tests/oracles/azure",
        "tests/oracles/croissant",
        "enclave_runner/serving/requirements",
        "tests/requirements",
        "tests/oracles/workflows",
    ):
        lock = (ROOT / f"{name}.lock").read_text()
        assert "--index-url" not in lock
        assert "://" not in lock
        for line in (ROOT / f"{name}.in").read_text().splitlines():
            if line.startswith(("#", "-c ")):
                continue
            pin, gap, reason = line.partition("  # ")
            assert gap, line
            assert len(reason) > 10, line
            assert f"\n{pin} \\\n    --hash=sha256:" in lock, pin


def test_a_command_with_nothing_to_do_loads_no_network_library() -> None:
    code = "import sys, rules.tasks, rules.commands.lock, rules.commands.fetch; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not {"azure", "httpx2", "huggingface_hub", "ssl"} & set(done.stdout.split())


def test_variables_are_named_for_what_they_hold() -> None:
    """A name like `said`, `made`, `told` or `found` says nothing about the value."""
    vague = {"said", "made", "told", "found"}
    named = []
    for folder in ("aicert", "browser", "rules", "enclave_runner", "tests"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = {getattr(node, key, None) for key in ("id", "arg", "name", "attr")}
                named += [f"{path.relative_to(ROOT)}: {name}" for name in names & vague]
    assert named == []
