"""Make the training environment with real pip and venv, from packages made on the spot."""

from __future__ import annotations

import base64
import hashlib
import os
import sys
import zipfile
from pathlib import Path

import pytest

from aicert.errors import ToolError
from rules.dvc import environment as dvc_env
from rules.host import training_env


def make_wheel(folder: Path, name: str, version: str) -> str:
    """Write a wheel with one module. Returns its SHA-256."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
        record += f"{path},sha256={digest.decode().rstrip('=')},{len(text)}\n"
    place = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(place, "w") as archive:
        for path, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(path, text)
    return hashlib.sha256(place.read_bytes()).hexdigest()


class Shop:
    """A folder of wheels, their locks, and the checkout that they are for."""

    def __init__(self, tmp_path: Path) -> None:
        self.root = tmp_path / "checkout"
        self.wheels = tmp_path / "wheels"
        self.wheels.mkdir()
        self.lock = tmp_path / "requirements.lock"
        self.cuda = tmp_path / "requirements-cuda.lock"
        self.cpu = make_wheel(self.wheels, "torch", "1.0+cpu")
        self.digests = {
            "setuptools": make_wheel(self.wheels, "setuptools", "1.0"),
            "torch": make_wheel(self.wheels, "torch", "1.0"),
            "small": make_wheel(self.wheels, "small", "1.0"),
        }
        self.write()
        driver = make_wheel(self.wheels, "driver", "1.0")
        self.cuda.write_text(f"driver==1.0 \\\n    --hash=sha256:{driver}\n")

    def write(self) -> None:
        text = "# a lock\n"
        for name, digest in self.digests.items():
            cpu = f"    --hash=sha256:{self.cpu} \\\n" if name == "torch" else ""
            text += f"{name}==1.0 \\\n{cpu}    --hash=sha256:{digest}\n"
        self.lock.write_text(text)

    def packages(self) -> set[str]:
        place = training_env.location(self.root) / "lib" / "python3.11" / "site-packages"
        return {path.name.removesuffix(".dist-info") for path in place.glob("*.dist-info")}


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    new_shop = Shop(tmp_path)
    monkeypatch.setattr(training_env, "LOCK", new_shop.lock)
    monkeypatch.setattr(training_env, "CUDA_LOCK", new_shop.cuda)
    for name in [name for name in os.environ if name.startswith(("PIP_", "AICERT_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(new_shop.wheels))
    return new_shop


def test_it_is_made_once_and_prefers_torch_for_cpu(shop: Shop) -> None:
    lines: list[str] = []
    progress: list[tuple[int, int]] = []
    environment = training_env.ensure(
        shop.root,
        on_line=lines.append,
        on_progress=lambda done, total: progress.append((done, total)),
    )
    assert {"torch-1.0+cpu", "setuptools-1.0", "small-1.0"} <= shop.packages()
    assert "driver-1.0" not in shop.packages()
    assert training_env.is_complete(environment)
    assert training_env.python(environment).exists()
    assert progress[-1] == (6, 6)
    assert lines
    lines.clear()
    assert training_env.ensure(shop.root, on_line=lines.append) == environment
    assert lines == []


def test_dvcs_byte_code_is_made_once_also_where_pythons_own_is_not_wanted(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("AICERT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(dvc_env, "LOCK", shop.lock)
    dvc_env.program()
    code = dvc_env.location().glob("lib/python3*/site-packages/__pycache__/small.*.pyc")
    assert len(list(code)) == 1


def test_the_other_build_of_torch_brings_its_libraries(shop: Shop) -> None:
    (shop.wheels / "torch-1.0+cpu-py3-none-any.whl").unlink()
    training_env.ensure(shop.root)
    assert {"torch-1.0", "driver-1.0"} <= shop.packages()


def test_an_interrupted_one_is_made_again(shop: Shop) -> None:
    def interrupt(line: str) -> None:
        if "Installing collected" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training_env.ensure(shop.root, on_line=interrupt)
    environment = training_env.location(shop.root)
    assert not training_env.is_complete(environment)
    (environment / "half").write_text("x")
    training_env.ensure(shop.root)
    assert training_env.is_complete(environment)
    assert not (environment / "half").exists()


def test_one_whose_python_is_gone_is_made_again(shop: Shop) -> None:
    environment = training_env.ensure(shop.root)
    for link in (environment / "bin").glob("python*"):
        link.unlink()
    assert not training_env.is_complete(environment)
    training_env.ensure(shop.root)
    assert training_env.is_complete(environment)
    training_env.require_usable(environment)


def test_one_of_a_python_that_may_not_be_run_is_named(tmp_path: Path) -> None:
    environment = tmp_path / "training"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin/python").write_text("not to be executed by anybody")
    with pytest.raises(ToolError, match="may not run") as caught:
        training_env.require_usable(environment)
    assert "AICERT_CACHE" in (caught.value.hint or "")


def test_another_file_under_a_locked_name_is_refused(shop: Shop) -> None:
    shop.digests["small"] = "0" * 64
    shop.write()
    with pytest.raises(ToolError) as caught:
        training_env.ensure(shop.root)
    assert caught.value.hint is not None
    assert not training_env.is_complete(training_env.location(shop.root))


def test_another_lock_is_another_environment(shop: Shop) -> None:
    before = training_env.location(shop.root)
    shop.lock.write_text(shop.lock.read_text() + "# changed\n")
    assert training_env.location(shop.root) != before


def test_the_cache_can_be_elsewhere(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AICERT_CACHE", str(tmp_path / "cache"))
    assert training_env.location(shop.root).parent == (tmp_path / "cache").resolve() / "envs"


def test_without_python_3_11_it_says_so(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    with pytest.raises(ToolError, match=r"3\.11") as caught:
        training_env.find_python()
    assert "python" in (caught.value.hint or "")
    # uv puts Python here, which is on few people's PATH before they log in again.
    (tmp_path / ".local/bin").mkdir(parents=True)
    (tmp_path / ".local/bin/python3.11").symlink_to(Path(sys.base_prefix, "bin/python3.11"))
    assert training_env.find_python() == tmp_path / ".local/bin/python3.11"


@pytest.mark.parametrize(
    ("release", "words"),
    [
        ({"ID": "debian", "VERSION_ID": "12"}, "apt-get install python3.11 python3.11-venv"),
        # This system has no python3.11, only 3.13.
        ({"ID": "debian", "VERSION_ID": "13"}, "uv python install 3.11"),
        ({"ID": "ubuntu", "VERSION_ID": "24.04", "ID_LIKE": "debian"}, "uv python install 3.11"),
        ({"ID": "linuxmint", "VERSION_ID": "22", "ID_LIKE": "ubuntu debian"}, "pipx install uv"),
        ({"ID": "fedora", "VERSION_ID": "43"}, "dnf install python3.11"),
        ({}, "uv python install 3.11"),
    ],
)
def test_the_hint_for_python_is_one_that_works_there(release: dict[str, str], words: str) -> None:
    hint = training_env.python_hint(release)
    assert words in hint
    assert ("apt-get install python3.11" in hint) == (release.get("VERSION_ID") == "12")


def test_the_committed_locks_name_each_package_once_with_a_hash() -> None:
    root = Path(__file__).resolve().parents[3] / "enclave_runner"
    for name in ("requirements.lock", "requirements-cuda.lock"):
        text = (root / name).read_text(encoding="ascii")
        blocks = [part for part in text.split("\n") if part and not part.startswith("#")]
        names = [line.partition("==")[0] for line in blocks if not line.startswith(" ")]
        assert names == sorted(set(names))
        assert sum("--hash=sha256:" in line for line in blocks) >= len(names)
