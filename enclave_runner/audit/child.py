"""The program that audits, in a sandbox, since anybody may have written the texts that it reads.

It reads a job (`Job`) from stdin, and sees the inputs that the audit's config names and rows that
the strict reader has checked. It writes `results.json`, which the runner compares with its own
counts.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from aicert.audits import config, lists, results
from aicert.audits.run import Audit, GivenList, text_of
from aicert.errors import AicertError
from aicert.formats.digest import Digest
from aicert.formats.lockfile import CONFIG_INPUT
from aicert.text import safe

RESULTS = "results.json"
BLOCK = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class DataRows:
    """One split of an input: files of canonical rows, as paths in the sandbox."""

    name: str
    split: str
    unread_bytes: int
    files: Sequence[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class TextFile:
    """A text beside the rows: its name in the results, and its path in the sandbox."""

    name: str
    path: str
    is_json: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """The job of the child: the rows and texts to audit, and the lists to compare them with.

    `inputs`: the folder with the config, the key and the lists. `digests`: the digests of the
    lists, by name. `data`: the rows to audit. `texts`: the rows of lists of texts. `beside`: texts
    to audit that come from no row.
    """

    inputs: str
    digests: dict[str, str]
    data: Sequence[DataRows]
    texts: Sequence[DataRows]
    beside: Sequence[TextFile] = ()

    def emit(self) -> bytes:
        """Return the job as the JSON that the child reads."""
        return json.dumps(asdict(self)).encode()


def read_job(data: bytes) -> Job:
    """Read a job that `emit` wrote. It comes from the runner, so it is not checked."""
    document = json.loads(data)
    for key in ("data", "texts"):
        document[key] = [DataRows(**each) for each in document[key]]
    document["beside"] = [TextFile(**each) for each in document["beside"]]
    return Job(**document)


def audit(job: Job) -> bytes:
    """Audit, and return the results in canonical form."""
    inputs = Path(job.inputs)
    settings = config.parse((inputs / CONFIG_INPUT).read_bytes())
    given = {
        check.list: GivenList(
            digest=Digest.parse(job.digests[check.list]),
            entries=_entries(check.kind, check.list, job),
        )
        for check in settings.checks
        if check.list is not None
    }
    whole = Audit(settings, (inputs / settings.key).read_bytes(), given)
    for rows in job.data:
        reading = whole.reading(rows.name, rows.split)
        for path in rows.files:
            with open(path, "rb") as file:
                while block := file.read(BLOCK):
                    reading.feed(block)
        reading.fact(rows.unread_bytes)
    for text in job.beside:
        if not whole.look_at_text(text.name, Path(text.path).read_bytes(), is_json=text.is_json):
            print(f"not a text: {safe(text.name)}", file=sys.stderr)
    return results.emit(whole.results())


def _entries(kind: str, name: str, job: Job) -> lists.AnyList:
    if kind == config.PASSAGES:
        return lists.texts(_texts(name, job))
    data = (Path(job.inputs) / name).read_bytes()
    return lists.domains(data) if kind == config.DOMAINS else lists.exact(data)


def _texts(name: str, job: Job) -> Iterator[str]:
    for rows in job.texts:
        if rows.name == name:
            for path in rows.files:
                with open(path, "rb") as file:
                    for line in file:
                        yield text_of(json.loads(line))


def main(folder: Path, job: bytes) -> int:
    """Audit, write the results into `folder`, and return the exit code."""
    try:
        data = audit(read_job(job))
    except AicertError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return error.exit_code
    (folder / RESULTS).write_bytes(data)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.stdin.buffer.read()))
