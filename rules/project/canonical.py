"""Convert the user's own rows to canonical form once (docs/spec/records.md).

Otherwise each run converts what it reads, which takes scratch space: memory, in the machine. A
canonical file is used in place.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from aicert.errors import ConfigError, ToolError
from aicert.records import convert, outcome
from aicert.records.errors import RowsRefused
from aicert.records.forms import SUPPORTED, FileForm, form_of
from rules.host import training_env
from rules.project import sources

PATH = "path:"
# Configs, vocabularies and texts of all sorts have these names too.
_MAY_BE_ELSE = (".json", ".txt")


def advice(root: Path, run: str, name: str, source: str) -> str | None:
    """Return a hint about an added input, if each run would copy its rows."""
    form = form_of(source)
    if not source.startswith(PATH) or form is None or source.endswith(_MAY_BE_ELSE):
        return None
    path = sources.locate(root, source)
    if not path.is_file():
        return None
    try:
        if form == FileForm("json", None) and convert.learn(path.parent, [path.name]).in_place:
            return None
    except RowsRefused as error:
        return f"rows  {name}: a run would refuse this file: {error.message}"
    return (
        f"rows  {name}: each run copies them into canonical form; to do it once:\n"
        f"hint: ./doit add {run} {name} {source} --canonical"
    )


def write(root: Path, source: str) -> str:
    """Write the canonical form of a file next to it. Returns the source that names it."""
    root = root.resolve()
    path = sources.locate(root, source) if source.startswith(PATH) else None
    form = form_of(source)
    if path is None or form is None or not path.is_file():
        raise ConfigError(
            "--canonical needs one file of rows in this project",
            hint=f"./doit add RUN NAME path:FILE --canonical, FILE in {SUPPORTED}",
        )
    target = path.with_name(f"{path.name.partition('.')[0]}.canonical.jsonl")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".canonical-") as folder:
        conversion = _converted(path, form, Path(folder))
        if conversion.in_place:
            return source
        rows = Path(folder, convert.ROWS)
        if target.exists() and target.read_bytes() != rows.read_bytes():
            raise ConfigError(
                f"{os.fspath(target.relative_to(root))!a} already exists with other rows",
                hint=f"mv {target.relative_to(root)} {target.relative_to(root)}.old",
            )
        rows.replace(target)
    return PATH + target.relative_to(root).as_posix()


def _converted(path: Path, form: FileForm, folder: Path) -> outcome.Outcome:
    """Convert a file of rows as a run does, in a separate program."""
    needs_pyarrow = form.form == "parquet" or form.packing == "zstd"
    python = Path(sys.executable)
    if needs_pyarrow:
        python = training_env.python(training_env.ensure(Path.cwd()))
    request = convert.Request(
        root=os.fspath(path.parent),
        files=(path.name,),
        scratch=shutil.disk_usage(folder).free,
    )
    code = Path(convert.__file__).parents[2]
    done = subprocess.run(
        [python, "-P", "-m", convert.__name__, folder],
        input=request.emit(),
        env={**os.environ, "PYTHONPATH": os.fspath(code)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    if not (folder / convert.FACTS).is_file():
        reason = done.stderr.decode(errors="replace")[-1000:]
        raise ToolError(f"cannot convert {path.name!a}\n{reason}")
    return outcome.read(folder, request.files)
