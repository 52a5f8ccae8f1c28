"""Build Debian trees with mkosi: the tools, and the machine's system.

mkosi itself is a Debian package that is unpacked, not installed. It uses either this machine's
mirrors, to find current versions, or a repository of exactly the locked packages.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aicert.errors import ToolError
from rules.host.work import remove
from rules.image import progress
from rules.image.debian import run

CACHE_DEBS = Path("cache/apt/archives")
_LIBRARY = Path("usr/lib/python3/dist-packages")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mkosi:
    """An unpacked mkosi and its work folder."""

    program: Path
    work: Path

    def build(
        self,
        directory: Path,
        target: Path,
        *,
        sources: str = "",
        repository: Path | None = None,
        tools: Path | None = None,
    ) -> Path:
        """Build the tree of `directory`/mkosi.conf at `target`; return mkosi's package cache.

        Packages come from `repository` if it is given, otherwise from the deb822 `sources`.
        """
        remove(self.work)
        sandbox = self.work / "sandbox" / "etc" / "apt" / "sources.list.d"
        for folder in (sandbox, self.work / "packages", self.work / "tmp", self.work / "out"):
            folder.mkdir(parents=True)
        words = [f"--directory={directory}", f"--output-directory={self.work / 'out'}"]
        words += ["--output=tree", f"--package-cache-dir={self.work / 'packages'}"]
        words += [f"--workspace-directory={self.work / 'tmp'}", f"--build-sources={directory}:"]
        if repository is not None:
            words.append(f"--local-mirror=file://{repository}")
        else:
            (sandbox / "mkosi.sources").write_text(sources, encoding="ascii")
            words.append(f"--sandbox-tree={self.work / 'sandbox'}")
        if tools is not None:
            words.append(f"--tools-tree={tools}")
        self._run([*words, "--force", "build"])
        remove(target)
        (self.work / "out" / "tree").rename(target)
        return self.work / "packages"

    def _run(self, words: Sequence[str]) -> None:
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "PYTHONPATH": str(self.program / _LIBRARY),
            "PYTHONDONTWRITEBYTECODE": "1",
            "LC_ALL": "C.UTF-8",
        }
        command = ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-m", "mkosi", *words]
        last: list[str] = []
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", cwd=self.work, env=environment,
        ) as child:  # fmt: skip
            for line in child.stdout or ():
                last = [*last[-30:], line.rstrip()[:300]]
                if line.startswith("‣"):
                    progress.step(f"mkosi: {line.lstrip('‣').strip()[:120]}")
        if child.returncode != 0:
            output = "\n".join(last)
            raise ToolError(f"mkosi failed with exit code {child.returncode}\n{output}")


def unpack(package: Path, target: Path) -> Path:
    """Unpack the files of a Debian package to `target`, without running its scripts."""
    if not target.is_dir():
        fresh = target.with_suffix(".new")
        remove(fresh)
        run(["dpkg-deb", "--extract", str(package), str(fresh)])
        fresh.rename(target)
    return target
