"""Show the Python of a training environment in a sandbox."""

from pathlib import Path

from aicert.errors import ToolError
from enclave_runner.sandbox.places import ENVIRONMENT

PYTHON = f"{ENVIRONMENT}/bin/python"


def interpreter(training_env: Path) -> dict[str, Path]:
    """Return what a sandbox must show so that the environment's Python starts: place → path."""
    base = _base_python(training_env)
    seen = {ENVIRONMENT: training_env}
    return seen if base.is_relative_to("/usr") else {**seen, str(base): base}


def _base_python(training_env: Path) -> Path:
    """Return the installation that the environment's interpreter belongs to."""
    try:
        text = (training_env / "pyvenv.cfg").read_text(encoding="utf-8")
    except OSError as error:
        raise ToolError(f"no training environment at {training_env}", hint="./doit") from error
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "home":
            return Path(value.strip()).parent
    raise ToolError(f"{training_env}/pyvenv.cfg names no Python (`home`)")
