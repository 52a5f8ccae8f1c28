"""Remove and edit files of the training environment after its packages are installed.

The packages come from a hashed lock and have many ways to run code that a data file or a model's
folder names, or to read what no lockfile names. `harden` takes those away: it removes files, edits
the source of others, and adds one line that installs the audit hook. The same function, with the
same list, makes the machine's training volume (`mkosi.build.chroot` runs this file as a program)
and the local environment (`rules/host/training_env.py`), before either is compiled. Each entry
gives its reason; docs/spec/image.md describes them for readers.

An entry that does not fit an installed package (a file that is not there, a text that is not in it
exactly once) is an error, so that the environment is exactly what the list describes. This module
uses only the standard library, because it runs in the machine's tree while that is being built.
"""

import hashlib
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


class NotAsListedError(Exception):
    """Raised if the packages are not those that the list was written for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Absent:
    """Paths to remove below the packages' folder (`*` as in glob); folders are removed whole."""

    paths: tuple[str, ...]
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Edit:
    """An edit of the file at `path`: `before`, which must occur exactly once, becomes `after`.

    Without `before`, `after` is the whole file.
    """

    path: str
    after: str
    why: str
    before: str = ""


_FILE_SYSTEMS = (
    "arrow", "asyn_wrapper", "cache_mapper", "cache_metadata", "cached", "dask", "data", "dbfs",
    "dirfs", "ftp", "gist", "git", "github", "http", "http_sync", "jupyter", "libarchive", "memory",
    "reference", "sftp", "smb", "tar", "webhdfs", "zip",
)  # fmt: skip
_READERS = ("csv", "parquet", "spark", "sql", "text")
_BUILDERS = (
    "arrow", "audiofolder", "cache", "csv", "eval", "folder_based_builder", "hdf5", "imagefolder",
    "lance", "niftifolder", "pandas", "parquet", "pdffolder", "spark", "sql", "text", "videofolder",
    "webdataset", "xml",
)  # fmt: skip

ABSENT = (
    Absent(
        paths=tuple(f"fsspec/implementations/{name}.py" for name in _FILE_SYSTEMS),
        why="a name in a row or an archive chooses a file system: only local files are left",
    ),
    Absent(
        paths=("fsspec/generic.py", "fsspec/fuse.py", "fsspec/gui.py", "fsspec/archive.py"),
        why="they are made of the file systems that are gone",
    ),
    Absent(
        paths=tuple(
            f"pyarrow/_{name}.cpython-311-x86_64-linux-gnu.so"
            for name in ("azurefs", "flight", "gcsfs", "hdfs", "s3fs")
        ),
        why="pyarrow's own file systems of a network",
    ),
    Absent(
        paths=tuple(f"datasets/packaged_modules/{name}" for name in _BUILDERS),
        why="the trainer reads canonical rows alone, which the builder for JSON does",
    ),
    Absent(
        paths=tuple(f"datasets/io/{name}.py" for name in _READERS),
        why="they call the builders that are gone",
    ),
    Absent(
        paths=("datasets/filesystems/compression.py",),
        why="a compressed file is a file system to them; the runner has unpacked what it accepts",
    ),
    Absent(
        paths=("kernels", "kernels-*.dist-info", "kernels_data", "kernels_data-*.dist-info"),
        why="it loads compiled code from a hub or from its cache, which is a folder in scratch",
    ),
    Absent(
        paths=("mistral_common/data",),
        why="vocabularies that a name chooses, and that no lockfile names",
    ),
)

_NO_CODE = 'raise OSError("the machine runs no code of a model\'s folder or of a hub")\n'
_NO_MEDIA = 'raise NotImplementedError("rows hold no images, sound, video or documents")\n'
# The runner shows this file if the lockfile lets an input's own code run (ADR 24).
_ALLOWED = 'os.path.isfile("/aicert/remote-code")'
_NO_OTHER_CODE = f"if not {_ALLOWED}:\n        {_NO_CODE}"
_WHY_CODE = (
    "code of a model's folder or of a hub is never run, whatever `trust_remote_code` says, unless "
    "the run's lockfile lets that of an input run, and then the audit hook admits it by its digest"
)
_WHY_MEDIA = "it opens the path that a row names; no kind of training needs it yet"
_WHY_JINJA = "a template is text of an input: only Jinja's sandbox makes code of it"

_BUILDERS_LEFT = """import inspect
import re

from huggingface_hub.utils import insecure_hashlib

from .json import json


def _hash_python_lines(lines: list[str]) -> str:
    filtered_lines = []
    for line in lines:
        line = re.sub(r"#.*", "", line)  # remove comments
        if line:
            filtered_lines.append(line)
    full_str = "\\n".join(filtered_lines)
    return insecure_hashlib.sha256(full_str.encode("utf-8")).hexdigest()


_PACKAGED_DATASETS_MODULES = {
    "json": (json.__name__, _hash_python_lines(inspect.getsource(json).splitlines())),
}
_PACKAGED_DATASETS_MODULES_2_15_HASHES = {}
_EXTENSION_TO_MODULE = {".json": ("json", {}), ".jsonl": ("json", {})}
_MODULE_TO_EXTENSIONS = {"json": [".json", ".jsonl"]}
_MODULE_TO_METADATA_FILE_NAMES = {"json": []}
_MODULE_TO_METADATA_EXTENSIONS = {"json": []}
_ALL_EXTENSIONS = [".json", ".jsonl"]
_ALL_METADATA_EXTENSIONS = []
_ALL_ALLOWED_EXTENSIONS = [".json", ".jsonl"]
"""

_FILE_SYSTEMS_LEFT = """import shutil

import fsspec
from fsspec.implementations.local import LocalFileSystem


COMPRESSION_FILESYSTEMS = []


def is_remote_filesystem(fs: fsspec.AbstractFileSystem) -> bool:
    return not isinstance(fs, LocalFileSystem)


def rename(fs: fsspec.AbstractFileSystem, src: str, dst: str):
    if not is_remote_filesystem(fs):
        shutil.move(fs._strip_protocol(src), fs._strip_protocol(dst))
    else:
        fs.mv(src, dst, recursive=True)
"""


def _decoding(name: str, signature: str) -> Edit:
    return Edit(
        path=f"datasets/features/{name}.py",
        before=signature,
        after=f"{signature}        {_NO_MEDIA}",
        why=_WHY_MEDIA,
    )


EDITS = (
    # File systems.
    Edit(
        path="fsspec/registry.py",
        before="assert list(known_implementations) == sorted(known_implementations), (\n",
        after="known_implementations = {\n"
        '    name: known_implementations[name] for name in ("file", "local")\n'
        "}\n\n"
        "assert list(known_implementations) == sorted(known_implementations), (\n",
        why="the names of the file systems that are gone, and of those in packages of their own",
    ),
    Edit(
        path="fsspec/__init__.py",
        before="\n\nprocess_entries()\n",
        after="\n",
        why="packages add file systems by their metadata: `hf` is one",
    ),
    Edit(
        path="datasets/filesystems/__init__.py",
        after=_FILE_SYSTEMS_LEFT,
        why="compressed files as file systems",
    ),
    *(
        Edit(
            path=f"datasets/{name}.py",
            before="from fsspec.implementations.dirfs import DirFileSystem\n",
            after="DirFileSystem = None\n",
            why="of a hub's folders alone, and gone",
        )
        for name in ("arrow_dataset", "dataset_dict")
    ),
    # Builders, archives, caches.
    Edit(
        path="datasets/packaged_modules/__init__.py",
        after=_BUILDERS_LEFT,
        why="the builders that are gone, and the file names that chose them",
    ),
    Edit(
        path="datasets/load.py",
        before="from .packaged_modules.folder_based_builder.folder_based_builder "
        "import FolderBasedBuilder\n",
        after="class FolderBasedBuilder:\n    METADATA_FILENAMES = []\n",
        why="the builder is gone; its name is asked for here",
    ),
    Edit(
        path="datasets/utils/extract.py",
        before="class Extractor:\n",
        after="class Extractor:\n"
        "    @classmethod\n"
        "    def _no(cls, *args, **kwargs):\n"
        '        raise OSError("the machine unpacks nothing")\n\n',
        why="see the next",
    ),
    Edit(
        path="datasets/utils/extract.py",
        before="            extractor = cls.extractors[extractor_format]\n"
        "            return extractor.extract(input_path, output_path)",
        after="            return cls._no()",
        why="members of an archive are written where their names say",
    ),
    Edit(
        path="datasets/fingerprint.py",
        before="\n_CACHING_ENABLED = True\n",
        after="\n_CACHING_ENABLED = False\n",
        why="a file with the right name would be taken for a result that was already computed",
    ),
    # Media.
    Edit(
        path="datasets/features/features.py",
        before="    Audio.__name__: Audio,\n    Image.__name__: Image,\n"
        "    Video.__name__: Video,\n    Pdf.__name__: Pdf,\n    Nifti.__name__: Nifti,\n",
        after="",
        why="a schema's metadata names the type of a column: these open paths",
    ),
    Edit(
        path="datasets/features/features.py",
        before="_FEATURE_TYPES.get(_type, None) or globals().get(_type, None)",
        after='_FEATURE_TYPES.get(_type, None) or {"Sequence": Sequence}.get(_type, None)',
        why="any name of the module was a type, too",
    ),
    _decoding("audio", '    ) -> "AudioDecoder":\n'),
    _decoding(
        "image",
        '    def decode_example(self, value: dict, token_per_repo_id=None) -> "PIL.Image.Image":\n',
    ),
    _decoding(
        "nifti",
        "    def decode_example(self, value: dict, token_per_repo_id=None) "
        '-> "Nifti1ImageWrapper":\n',
    ),
    _decoding(
        "pdf",
        "    def decode_example(self, value: dict, token_per_repo_id=None) "
        '-> "pdfplumber.pdf.PDF":\n',
    ),
    Edit(
        path="mistral_common/tokens/tokenizers/image.py",
        before="    if isinstance(chunk, ImageChunk):\n        return chunk.image\n",
        after=f"    {_NO_MEDIA}",
        why=_WHY_MEDIA,
    ),
    Edit(
        path="mistral_common/tokens/tokenizers/audio.py",
        before="        assert_soundfile_installed()\n\n        if isinstance(file, str) and ",
        after=f"        {_NO_MEDIA}        if isinstance(file, str) and ",
        why=_WHY_MEDIA,
    ),
    # Code of others.
    Edit(
        path="transformers/dynamic_module_utils.py",
        before="    name = os.path.normpath(module_path)\n    name = name.removesuffix",
        after=f"    {_NO_OTHER_CODE}    name = os.path.normpath(module_path)\n"
        "    name = name.removesuffix",
        why=_WHY_CODE,
    ),
    Edit(
        path="transformers/dynamic_module_utils.py",
        before="    # Download and cache module_file from the repo",
        after=f"    {_NO_OTHER_CODE}    # Download and cache module_file from the repo",
        why=_WHY_CODE,
    ),
    Edit(
        path="transformers/dynamic_module_utils.py",
        before="    # Catch the name of the repo if it's specified in `class_reference`\n",
        after=f"    {_NO_OTHER_CODE}",
        why=_WHY_CODE,
    ),
    Edit(
        path="transformers/dynamic_module_utils.py",
        before="    if error_message is None:\n        if upstream_repo is not None:\n",
        after=f"    trust_remote_code = bool(trust_remote_code) and {_ALLOWED}\n"
        "    if error_message is None:\n        if upstream_repo is not None:\n",
        why=_WHY_CODE,
    ),
    Edit(
        path="evaluate/loading.py",
        before=') -> EvaluationModule:\n    """Load a [`~evaluate.EvaluationModule`].\n',
        after=f") -> EvaluationModule:\n    {_NO_CODE}"
        '    """Load a [`~evaluate.EvaluationModule`].\n',
        why="a metric is a script",
    ),
    # Templates.
    Edit(
        path="jinja2/environment.py",
        before='        return compile(source, filename, "exec")\n',
        after="        from .sandbox import SandboxedEnvironment\n\n"
        "        if not isinstance(self, SandboxedEnvironment):\n"
        '            raise RuntimeError("only a sandboxed environment compiles templates")\n'
        '        return compile(source, filename, "exec")\n',
        why=_WHY_JINJA,
    ),
    Edit(
        path="jinja2/environment.py",
        before="        env = get_spontaneous_environment(\n"
        "            cls.environment_class,  # type: ignore\n",
        after="        from .sandbox import SandboxedEnvironment\n\n"
        "        env = get_spontaneous_environment(\n"
        "            SandboxedEnvironment,\n",
        why="a template without an environment (model cards) gets the sandbox",
    ),
    *(
        Edit(
            path=f"torch/_inductor/{path}",
            before="        import jinja2\n\n        return jinja2.Environment(\n",
            after="        import jinja2\n        import jinja2.sandbox\n\n"
            "        return jinja2.sandbox.SandboxedEnvironment(\n",
            why="templates of kernels are compiled when it is imported",
        )
        for path in ("codegen/common.py", "select_algorithm.py")
    ),
    # The network.
    Edit(
        path="urllib3/util/connection.py",
        before='HAS_IPV6 = _has_ipv6("::1")\n',
        after="HAS_IPV6 = False\n",
        why="it opens a socket when it is imported",
    ),
    # The audit hook. Python reads this file before other .pth files, even with `-I` and `-E`.
    # Outside the sandbox there is no such folder, and nothing happens.
    Edit(
        path="0-aicert.pth",
        after='import os, sys; os.path.isdir("/aicert/plugin") and '
        '(sys.path.insert(0, "/aicert/plugin"), __import__("aicert_guard"), sys.path.pop(0))\n',
        why="it installs the audit hook",
    ),
)


def digest() -> str:
    """Return the SHA-256 of what the list does; it is part of the names of environments."""
    text = repr(
        [
            [entry.paths for entry in ABSENT],
            [(edit.path, edit.before, edit.after) for edit in EDITS],
        ]
    )
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def harden(packages: Path) -> None:
    """Apply the list to the folder of installed packages, once. Raises NotAsListedError."""
    for path in _absent(packages):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    for edit in EDITS:
        if "/" not in edit.path or _is_installed(packages, edit.path):
            _edit(packages / edit.path, edit)


def _absent(packages: Path) -> Iterator[Path]:
    for entry in ABSENT:
        for pattern in entry.paths:
            there = sorted(packages.glob(pattern))
            if not there and _is_installed(packages, pattern):
                raise NotAsListedError(f"{pattern} is not there to be removed")
            yield from there


def _is_installed(packages: Path, path: str) -> bool:
    package, inside, _ = path.partition("/")
    return bool(inside) and (packages / package).is_dir()


def _edit(path: Path, edit: Edit) -> None:
    if not edit.before:
        if path.suffix != ".pth" and not path.is_file():
            raise NotAsListedError(f"{edit.path} is not there to be replaced")
        text = edit.after
    else:
        old = path.read_text(encoding="utf-8") if path.is_file() else ""
        if old.count(edit.before) != 1:
            raise NotAsListedError(
                f"{edit.path} holds {old.count(edit.before)} times what is to be edited once:\n"
                f"{edit.before}"
            )
        text = old.replace(edit.before, edit.after)
    # Write a new file, since the old one may be a link to a cache of packages.
    fresh = path.with_name(path.name + ".aicert-new")
    fresh.write_text(text, encoding="utf-8")
    fresh.chmod(0o644)
    fresh.replace(path)


if __name__ == "__main__":
    harden(Path(sys.argv[1]))
