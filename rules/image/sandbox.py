"""Run programs from the tools tree, which build the machine's image and boot it.

Programs see the tree as their whole system, so that nothing of the host takes part except its
kernel and the paths that are named. The sandbox dies with its parent.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aicert.errors import ToolError

# 2025-01-01: all files in an image have this time. The day itself has no meaning.
EPOCH = 1_735_689_600


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """A sandbox whose system is `tree`.

    `writable` and `readable`: paths that appear at their own place. `mounts`: places inside → paths
    outside, read-only. `network`: whether to share the host's network.
    """

    tree: Path
    writable: Sequence[Path] = ()
    readable: Sequence[Path] = ()
    devices: Sequence[Path] = ()
    mounts: Mapping[Path, Path] = field(default_factory=dict)
    directory: Path = Path("/")
    system_writable: bool = False
    network: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)

    def command(self, words: Sequence[str]) -> list[str]:
        """Return the command line that runs `words` in this sandbox."""
        if shutil.which("bwrap") is None:
            raise ToolError("bubblewrap is not installed", hint="sudo apt-get install bubblewrap")
        command = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv"]
        command += ["--share-net"] if self.network else []
        bind = "--bind" if self.system_writable else "--ro-bind"
        for name in ("usr", "opt"):
            if (self.tree / name).is_dir():
                command += [bind, str(self.tree / name), f"/{name}"]
        for name in ("bin", "sbin", "lib", "lib64"):
            command += ["--symlink", f"usr/{name}", f"/{name}"]
        if (self.tree / "etc").is_dir():
            command += ["--ro-bind", str(self.tree / "etc"), "/etc"]
        command += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/run"]
        for name in ("tmp", "var/tmp"):
            command += ["--tmpfs", f"/{name}"]
        for path in self.readable:
            command += ["--ro-bind", str(path), str(path)]
        for path in self.writable:
            command += ["--bind", str(path), str(path)]
        for inside, outside in self.mounts.items():
            command += ["--ro-bind", str(outside), str(inside)]
        for path in self.devices:
            command += ["--dev-bind", str(path), str(path)]
        environment = {
            "PATH": "/usr/bin:/usr/sbin",
            "LC_ALL": "C.UTF-8",
            "SOURCE_DATE_EPOCH": str(EPOCH),
            **self.environment,
        }
        for name, value in environment.items():
            command += ["--setenv", name, value]
        return [*command, "--chdir", str(self.directory), "--", *words]

    def run(self, words: Sequence[str]) -> str:
        """Run `words` to the end, and return standard output.

        Raises ToolError with the program's message if it fails.
        """
        done = subprocess.run(
            self.command(words), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", cwd="/", check=False,
            env={"PATH": os.environ.get("PATH", os.defpath)},
        )  # fmt: skip
        if done.returncode != 0:
            output = (done.stderr or done.stdout).strip()[-2000:]
            raise ToolError(f"{words[0]} failed with exit code {done.returncode}\n{output}")
        return done.stdout
