"""The closed list of file formats that rows are read from, by file name; each may be compressed."""

from typing import Literal

from aicert.frozen import dataclass

Form = Literal["json", "parquet", "csv", "text"]
Packing = Literal["gzip", "zstd"]

_FORMS: dict[str, Form] = {
    ".jsonl": "json",
    ".json": "json",
    ".parquet": "parquet",
    ".csv": "csv",
    ".txt": "text",
}
_PACKINGS: dict[str, Packing] = {".gz": "gzip", ".zst": "zstd"}
SUFFIXES = tuple(_FORMS)
SUPPORTED = f"{', '.join(SUFFIXES)}, each with or without {' or '.join(_PACKINGS)}"


@dataclass(frozen=True, slots=True)
class FileForm:
    """The format and the compression that a file's name implies."""

    form: Form
    packing: Packing | None


def form_of(path: str) -> FileForm | None:
    """Return the format that a file's name implies; None if rows are not read from such files."""
    name = path.lower()
    packing = None
    for suffix, kind in _PACKINGS.items():
        if name.endswith(suffix):
            name, packing = name.removesuffix(suffix), kind
    for suffix, form in _FORMS.items():
        if name.endswith(suffix) and len(name) > len(suffix) and name[-len(suffix) - 1] != "/":
            return FileForm(form, packing)
    return None
