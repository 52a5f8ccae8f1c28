"""Which way imports go, and what the repository's shape promises (design, section 2)."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TRUSTED = {"aicert", "cryptography"}
# The entry points may draw a table with rich, imported when it is drawn.
# Outside the trust core, with an extra of its own; only the command line reaches it, when asked to.
SOURCES = "aicert/sources/"
MAY_REACH_SOURCES = {"aicert/cli.py"}
MAY_USE_RICH = {"aicert/progress.py", "aicert/render.py"}
# Each with an extra of its own: `aicert.export.commands` loads them by name, when asked to.
EXTRAS = {
    "aicert/export/keyless.py": "sigstore",
    "aicert/export/pkcs11_signer.py": "pkcs11",
    "aicert/export/tpm_signer.py": "tpm2_pytss",
}
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
    """Top-level names that a module imports; the value says whether at the top of the module."""
    found: dict[str, bool] = {}
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
            found[base] = found.get(base, False) or node in top
    return found


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
        if base == EXTRAS.get(name):
            continue
        assert base in TRUSTED or base in sys.stdlib_module_names, base


@pytest.mark.parametrize("name", core())
def test_the_trust_core_does_not_know_sources(name: str) -> None:
    tree = ast.parse((ROOT / name).read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("aicert.sources"):
            assert name in MAY_REACH_SOURCES
            assert node not in tree.body


@pytest.mark.parametrize("name", [n for n in modules("aicert") if n.startswith(SOURCES)])
def test_sources_add_only_the_extra(name: str) -> None:
    extra = {"httpx2", "huggingface_hub"}
    assert set(imports(name)) <= extra | TRUSTED | sys.stdlib_module_names


@pytest.mark.parametrize("name", core())
def test_the_trust_core_starts_nothing_and_opens_no_connection(name: str) -> None:
    # Taking a URI apart opens nothing.
    found = {module for module in imported_modules(name) if not module.startswith("urllib.parse")}
    bases = {module.partition(".")[0] for module in found}
    assert not {"subprocess", "socket", "http", "urllib", "ctypes", "pickle"} & bases


@pytest.mark.parametrize("name", core())
def test_modules_that_need_an_extra_are_imported_by_none(name: str) -> None:
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
    """Dotted names that a module imports, and those that it imports from."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / name).read_bytes())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


@pytest.mark.parametrize("name", modules("aicert", "enclave_runner"))
def test_neither_the_core_nor_the_runner_imports_the_exports(name: str) -> None:
    # The command line alone knows that there are more commands, and only when one is asked for.
    if name.startswith("aicert/export/") or name == "aicert/cli.py":
        return
    assert not {m for m in imported_modules(name) if m.startswith("aicert.export")}


RECORDS = "aicert/records/"
# What the room of rows stands on.
BELOW_RECORDS = {"bounded", "digest", "errors", "frozen", "records", "strict_json"}


@pytest.mark.parametrize("name", [n for n in modules("aicert") if n.startswith(RECORDS)])
def test_rows_stand_on_the_ground(name: str) -> None:
    above = {"cli", "render"} if name == f"{RECORDS}commands.py" else set()
    found = {module.split(".")[1] for module in imported_modules(name) if "aicert." in module}
    assert found <= BELOW_RECORDS | above


@pytest.mark.parametrize("name", [n for n in modules("aicert") if not n.startswith(RECORDS)])
def test_only_the_command_line_knows_rows(name: str) -> None:
    found = {module for module in imported_modules(name) if module.startswith("aicert.records")}
    assert not found or name == "aicert/cli.py"


def test_rows_are_read_without_pyarrow_until_a_file_needs_it() -> None:
    code = "import sys, aicert.records.convert; print('pyarrow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False"


def test_verify_loads_no_export() -> None:
    code = "import sys\nfrom aicert.cli import main\ntry:\n main(['verify', 'none'])\nfinally:\n"
    code += " print([name for name in sys.modules if name.startswith('aicert.export')])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_bootstrap_needs_nothing_but_the_standard_library() -> None:
    assert set(imports("rules/installer.py")) <= sys.stdlib_module_names
    own = {"rules", "rules.installer"}
    assert {name for name in imported_modules("rules/bootstrap.py") if "rules" in name} == own
    assert set(imports("rules/bootstrap.py")) <= sys.stdlib_module_names | {"rules"}


def test_dodo_is_configuration_and_imports() -> None:
    assert len((ROOT / "dodo.py").read_text().splitlines()) < 40


@pytest.mark.parametrize("name", modules("aicert", "rules", "enclave_runner", "tests"))
def test_no_file_holds_two_ideas(name: str) -> None:
    assert len((ROOT / name).read_text().splitlines()) <= 600


def ours(*endings: str) -> list[str]:
    """Files of this project: whoever certifies a run keeps its data in folders of their own."""
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
        told = re.findall(r"pip install [^\n`\"]*", (ROOT / name).read_text())
        assert not [line for line in told if re.search(r"(?<![\w./-])aicert(?![\w/-])", line)], name


@pytest.mark.parametrize("name", modules("aicert", "rules", "enclave_runner"))
def test_no_assert_outside_tests(name: str) -> None:
    tree = ast.parse((ROOT / name).read_bytes())
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]


def test_direct_dependencies_are_pinned_and_justified() -> None:
    for name in (
        "rules/build-requirements",
        "rules/requirements",
        "rules/dvc-requirements",
        "rules/azure-requirements",
        "tests/oracles/azure",
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
    code = "import sys, rules.tasks, rules.lock_command, rules.fetch_command; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not {"azure", "httpx2", "huggingface_hub", "ssl"} & set(done.stdout.split())
