"""A folder with an aicert.toml of one run, for the tests of what each trainer's runs are."""

from collections.abc import Mapping
from pathlib import Path

from rules.project import config
from rules.project.config_check import check_config
from rules.project.lock import resolve
from tests.adversarial.attacks_disk import safetensors, tensor


def matrices(**shapes: tuple[int, int]) -> bytes:
    """Return a file of weights with matrices of zeros."""
    header, at = {}, 0
    for name, (rows, columns) in shapes.items():
        size = 2 * rows * columns
        header[name] = tensor(at, at + size, (rows, columns), "BF16")
        at += size
    return safetensors(header, at)


def lay_out(root: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write the files of a project."""
    for name, data in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(data.encode() if isinstance(data, str) else data)
    (root / ".aicert").mkdir()
    return root


def the_run(root: Path) -> config.Run:
    """Return the one run of aicert.toml."""
    (run,) = config.load(root).runs.values()
    return run


def checked(root: Path) -> str | None:
    """Check the run's config as `./doit lock` does."""
    return check_config(root, resolve(root, the_run(root)))
