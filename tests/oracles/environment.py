"""Environments of independent implementations, each made once from its hashed lock.

They are in the cache directory with the others, under the digest of the lock; the file `complete`,
written last, marks a whole one. Set-up needs the package registry; the tests themselves need no
network.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from rules.host import bootstrap, locked_env
from rules.image import debian

ROOT = Path(__file__).resolve().parents[2]
LOCK = Path(__file__).with_name("requirements.lock")
WORKFLOWS = Path(__file__).with_name("workflows.lock")
AZURE = Path(__file__).with_name("azure.lock")
CROISSANT = Path(__file__).with_name("croissant.lock")
SERVING = ROOT / "enclave_runner" / "serving" / "requirements.lock"
NODE = Path(__file__).with_name("node")


def python(lock: Path = LOCK, name: str = "oracles") -> Path:
    """Return the interpreter of the environment `name`."""
    return locked_env.interpreter(lock, name)


def node_modules() -> Path:
    """Return npm's packages of `node/package-lock.json`, which names each by its digest.

    Their scripts are not run; npm itself chooses registries and mirrors.
    """
    digest = hashlib.sha256((NODE / "package-lock.json").read_bytes()).hexdigest()
    environments = bootstrap.cache_directory() / "envs"
    environment = environments / f"node-{digest[:12]}"
    if (environment / "complete").exists():
        return environment / "node_modules"
    if shutil.which("npm") is None:
        raise AssertionError("npm is missing: apt-get install nodejs npm")
    environments.mkdir(parents=True, exist_ok=True)
    with (environments / "node.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not (environment / "complete").exists():
            shutil.rmtree(environment, ignore_errors=True)
            shutil.copytree(NODE, environment)
            # The provider's peer packages generate terraform; only their types are read.
            words = ["npm", "ci", "--ignore-scripts", "--legacy-peer-deps", "--no-audit"]
            done = subprocess.run(
                [*words, "--no-fund"], cwd=environment, capture_output=True, text=True
            )
            if done.returncode != 0:
                raise AssertionError(f"npm cannot install {environment}:\n{done.stderr[-2000:]}")
            (environment / "complete").touch()
    return environment / "node_modules"


def cosign() -> Path:
    """Return cosign from Debian 13, unpacked but not installed. Raises ToolError without a mirror.

    apt checks it against Debian's signed index, which pins it as the system's packages are pinned.
    """
    return _unpacked("cosign", "cosign", "trixie") / "cosign"


def newest_cosign() -> Path:
    """Return cosign from Debian unstable, the only one that reads the entries of Rekor v2."""
    return _unpacked("newest-cosign", "cosign", "sid") / "cosign"


def torchwood() -> Path:
    """Return the folder with torchwood's programs, independent logs and witnesses.

    They are unpacked from Debian unstable, the only release that has them. Raises ToolError without
    a mirror.
    """
    return _unpacked("torchwood", "torchwood", "sid")


def _unpacked(name: str, package: str, release: str) -> Path:
    """Return the folder with a package's programs."""
    environments = bootstrap.cache_directory() / "envs"
    environment = environments / name
    environments.mkdir(parents=True, exist_ok=True)
    with (environments / f"{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not (environment / "complete").exists():
            shutil.rmtree(environment, ignore_errors=True)
            given = ""
            if release == "sid":
                # Unstable has no updates suite and no security suite.
                plain = debian.sources(release).split("\n\n")[0]
                given = plain.replace("sid sid-updates", "sid") + "\n"
            apt = debian.Apt(environment / "apt", release, given=given)
            apt.update()
            (file,) = apt.download([package])
            debian.run(["dpkg-deb", "--extract", str(file), str(environment)])
            shutil.rmtree(environment / "apt")
            (environment / "complete").touch()
    return environment / "usr" / "bin"


def run(
    code: str, *arguments: object, interpreter: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run Python `code` in the oracles' environment, with no path to this repository."""
    command = [str(interpreter or python()), "-I", "-W", "ignore", "-c", code]
    command += map(str, arguments)
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def aicert(*arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run our own command line with this environment's extras (sigstore, python-pkcs11)."""
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from aicert.cli.main import main; "
    command = [str(python()), "-I", "-c", code + "sys.exit(main())", str(ROOT)]
    return subprocess.run(
        [*command, *map(str, arguments)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=os.environ | environment,
    )


def model_signing(*arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run the reference implementation's command line."""
    command = [str(python()), "-I", "-W", "ignore", "-m", "model_signing", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def workflow_checker(program: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run a checker of GitHub's workflows, without a network."""
    command = [str(python(WORKFLOWS, "workflows").with_name(program)), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
