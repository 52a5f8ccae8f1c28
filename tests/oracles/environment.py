"""Environments of implementations that we did not write, each made once from its hashed lock.

They lie in the cache directory beside the others, under the digest of the lock; `complete`, written
last, marks one whole. Set-up needs the package registry; the tests themselves need no network.
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
    """The interpreter of the environment `name`."""
    return locked_env.interpreter(lock, name)


def node_modules() -> Path:
    """npm's packages of `node/package-lock.json`, which names each by its digest.

    Their scripts are not run; registries and mirrors are npm's own business.
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
            # The provider's peers are programs to generate terraform with; only its types are read.
            words = ["npm", "ci", "--ignore-scripts", "--legacy-peer-deps", "--no-audit"]
            done = subprocess.run(
                [*words, "--no-fund"], cwd=environment, capture_output=True, text=True
            )
            if done.returncode != 0:
                raise AssertionError(f"npm cannot install {environment}:\n{done.stderr[-2000:]}")
            (environment / "complete").touch()
    return environment / "node_modules"


def cosign() -> Path:
    """cosign as Debian 13 packages it, unpacked, not installed. Raises ToolError without a mirror.

    apt checks it against Debian's signed index, which pins it as the system's packages are pinned.
    """
    return _unpacked("cosign", "cosign", "trixie") / "cosign"


def newest_cosign() -> Path:
    """cosign of Debian's unstable release, which alone has one that reads Rekor v2's entries."""
    return _unpacked("newest-cosign", "cosign", "sid") / "cosign"


def torchwood() -> Path:
    """The folder with torchwood's programs, logs and witnesses by others, unpacked from Debian's
    unstable release, which alone has them. Raises ToolError without a mirror.
    """
    return _unpacked("torchwood", "torchwood", "sid")


def _unpacked(name: str, package: str, release: str) -> Path:
    """The folder with a package's programs."""
    environments = bootstrap.cache_directory() / "envs"
    environment = environments / name
    environments.mkdir(parents=True, exist_ok=True)
    with (environments / f"{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not (environment / "complete").exists():
            shutil.rmtree(environment, ignore_errors=True)
            given = ""
            if release == "sid":
                # It has no updates of its own, and no security suite.
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
    """Run Python `code` among the oracles, with no path to this repository."""
    command = [str(interpreter or python()), "-I", "-W", "ignore", "-c", code]
    command += map(str, arguments)
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def aicert(*arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Our own command line with the extras that this environment has (sigstore, python-pkcs11)."""
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
    """The reference implementation's command line."""
    command = [str(python()), "-I", "-W", "ignore", "-m", "model_signing", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def workflow_checker(program: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """A checker of GitHub's workflows, asking no network."""
    command = [str(python(WORKFLOWS, "workflows").with_name(program)), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
