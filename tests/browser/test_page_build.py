"""`verify.html` is one file, the same each time, and can only run its own scripts."""

import base64
import hashlib
import io
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from aicert.errors import ConfigError, ToolError
from aicert.trust.built_in import BUILT_IN
from rules.page import build, parts
from rules.page.parts import Lock, integrity_of, read_lock
from tests.browser.compare import ROOT

TARBALL = b"not Pyodide, but some bytes"
LOCK = Lock(name="pyodide", version="1.2.3", integrity=integrity_of(TARBALL))


def page() -> str:
    return build.assemble(ROOT, LOCK, TARBALL, build.archive(ROOT), "worker").decode()


def embedded(text: str, name: str) -> bytes:
    (part,) = re.findall(f'<script type="application/base64" id="{name}">([^<]*)</script>', text)
    return base64.b64decode(part)


def test_the_same_bytes_each_time(tmp_path: Path) -> None:
    # Independent of the files' dates and modes.
    copy = tmp_path / "copy"
    for name in (*build.carried(ROOT), "pyproject.toml"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes((ROOT / name).read_bytes())
        (copy / name).chmod(0o600)
    assert build.archive(copy) == build.archive(ROOT)
    assert page() == page()


def test_what_it_may_do() -> None:
    text = page()
    (policy,) = re.findall('http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    (script,) = re.findall("<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.split("; ") == [
        "default-src 'none'",
        f"script-src 'sha256-{digest}' 'wasm-unsafe-eval'",
        "worker-src blob:",
        "style-src 'unsafe-inline'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    # The policy precedes everything that it governs, and nothing is loaded from elsewhere.
    assert text.index("Content-Security-Policy") < text.index("<style>") < text.index("<script")
    assert re.findall(r"<[^>]*\s(?:src|href|action)=", text) == []
    for name in ("localStorage", "indexedDB", "sessionStorage", "cookie", "innerHTML", "XMLHttp"):
        assert name not in text.partition("<script type")[0] + script, name


def test_it_offers_every_policy_that_is_built_in() -> None:
    offered = re.findall('<option value="([a-z-]+)">', page())
    assert offered == [*BUILT_IN, "file"]


def test_what_it_carries() -> None:
    text = page()
    assert embedded(text, "pyodide") == TARBALL
    assert LOCK.version in text
    assert LOCK.integrity in text
    with zipfile.ZipFile(io.BytesIO(embedded(text, "app"))) as packed:
        names = packed.namelist()
        for name in names:
            assert packed.read(name) == (ROOT / name).read_bytes()
    assert names == sorted(names)
    assert "aicert/trust/pinned/azure-vtpm-root-2023.pem" in names


def test_it_carries_all_that_it_needs(tmp_path: Path) -> None:
    """The bridge runs with only the content of the page, with the stand-in and no package."""
    with zipfile.ZipFile(io.BytesIO(build.archive(ROOT))) as packed:
        packed.extractall(tmp_path)
    code = (
        "import json, sys; sys.path.insert(0, '.')\n"
        "from browser.crypto.install import install; install()\n"
        "from browser.page import bridge\n"
        "import aicert.appraisal.evidence.confidential, aicert.trust.policy_file\n"
        "import pkgutil, importlib, aicert\n"
        "for room in ('appraisal', 'trust', 'verifier', 'formats', 'crypto'):\n"
        "    package = importlib.import_module(f'aicert.{room}')\n"
        "    for one in pkgutil.walk_packages(package.__path__, f'aicert.{room}.'):\n"
        "        importlib.import_module(one.name)\n"
        "asked = dict.fromkeys(('root', 'lockfile', 'imageLock', 'collateral', 'gpuCollateral',"
        " 'evidence', 'nonce', 'at', 'lineage', 'expected'))\n"
        "print(bridge.answer(json.dumps({**asked, 'certificate': 'none', 'policy': 'default'}),"
        " None))\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import os; os.chdir({str(tmp_path)!r})\n{code}"],
        capture_output=True, text=True, env={},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "cannot read" in done.stdout


def test_a_script_that_would_end_its_element_is_refused() -> None:
    with pytest.raises(ConfigError, match="contains its element's end tag"):
        build.assemble(ROOT, LOCK, TARBALL, b"", "x = '</SCRIPT>'")


def test_elsewhere_there_is_no_page_to_build(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="in aicert's own repository"):
        build.build(tmp_path)


def test_the_lock_names_pyodide() -> None:
    lock = read_lock(ROOT / parts.LOCK)
    assert re.fullmatch("[0-9.]+", lock.version)
    assert len(base64.b64decode(lock.integrity.removeprefix("sha512-"))) == 64


@pytest.mark.parametrize(
    "text",
    ["", "pyodide = 1", '[pyodide]\nversion = "1.2"', '[pyodide]\nversion = "x"\nintegrity = "y"'],
)
def test_a_lock_that_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "lock").write_text(text)
    with pytest.raises(ConfigError, match="has no version and integrity of pyodide"):
        read_lock(tmp_path / "lock")


def program(folder: Path, script: str) -> None:
    folder.mkdir()
    (folder / "npm").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "npm").chmod(0o755)


def test_what_npm_gives_must_be_what_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AICERT_CACHE", str(tmp_path / "cache"))
    program(tmp_path / "bin", f"shift 4; printf '{TARBALL.decode()}' > \"$1/pyodide-1.2.3.tgz\"")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    assert parts.archive(LOCK) == TARBALL
    other = Lock(name="pyodide", version="1.2.3", integrity=integrity_of(b"other"))
    with pytest.raises(ToolError, match=r"pyodide@1\.2\.3 is not the locked one"):
        parts.archive(other)
    # A fetched file is kept, and fetched again if it was changed.
    program_gone = tmp_path / "bin/npm"
    program_gone.write_text("#!/bin/sh\necho no network >&2\nexit 1\n")
    assert parts.archive(LOCK) == TARBALL
    (tmp_path / "cache/pyodide-1.2.3.tgz").write_bytes(b"changed")
    with pytest.raises(ToolError, match="no network"):
        parts.archive(LOCK)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(ToolError, match="npm is not installed"):
        parts.archive(LOCK)
