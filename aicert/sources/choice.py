"""Choose which files of a source become an input: `only`, `except`, and pickles only if allowed.

Only names count here, before a byte is fetched; the machine looks at the content as well, and
decides (docs/spec/lockfile.md, "Files").
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from aicert.errors import AicertError, LockError
from aicert.formats.paths import check_paths

# Names that loaders unpickle. Not `.npy`: only its content tells whether it holds objects.
PICKLES = frozenset(
    (".bin", ".ckpt", ".joblib", ".mar", ".pickle", ".pkl", ".pt", ".pt2", ".pth", ".t7")
)
# Further copies of the same weights, for loaders that no trainer here uses.
OTHER_WEIGHTS = frozenset((".gguf", ".h5", ".msgpack", ".onnx", ".onnx_data", ".ot", ".tflite"))
SAFE = ".safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which files a run wants from a source. In patterns, `*` matches any text, `/` included."""

    only: tuple[str, ...] = ()
    except_: tuple[str, ...] = ()
    allow_pickle: bool = False

    @property
    def is_everything(self) -> bool:
        """Whether the run gave no pattern."""
        return not self.only and not self.except_


def choose(paths: Iterable[str], choice: Choice, *, weights: bool = False) -> list[str]:
    """Return the chosen paths, sorted. `weights`: the source is a model, so one format is enough.

    Raises LockError for a pickle that was not allowed, a pattern that matches nothing, an empty
    choice, and paths that a directory cannot hold safely (traversal, case twins, control
    characters).
    """
    everything = sorted(paths)
    chosen = everything
    if choice.only:
        for pattern in choice.only:
            if not any(fnmatchcase(path, pattern) for path in everything):
                raise LockError(f"only: no file matches {pattern!a}", hint=_some(everything))
        chosen = [p for p in everything if any(fnmatchcase(p, pattern) for pattern in choice.only)]
    chosen = [p for p in chosen if not any(fnmatchcase(p, pattern) for pattern in choice.except_)]
    if weights and not choice.only and any(suffix(path) == SAFE for path in chosen):
        chosen = [path for path in chosen if suffix(path) not in PICKLES | OTHER_WEIGHTS]
    if not chosen:
        raise LockError("no file of the source is left", hint=_some(everything))
    try:
        check_paths(chosen)
    except AicertError as error:
        raise LockError(
            f"the source cannot be a directory here: {error.message}",
            hint="leave the file out with `except`",
        ) from None
    if not choice.allow_pickle:
        refuse_pickles(chosen)
    return chosen


def refuse_pickles(paths: Iterable[str]) -> None:
    """Raise LockError for the first pickle among the paths, and name it."""
    for path in paths:
        if suffix(path) in PICKLES:
            raise LockError(
                f"{path!a} is a pickle by its name, and loading a pickle runs the code "
                "that it names",
                hint="choose safetensors, leave it out with `except`, or set `allow-pickle = true`",
            )


def suffix(path: str) -> str:
    """Return a file name's suffix in lower case, as pathlib does, but ten times as fast."""
    name = path[path.rfind("/") + 1 :]
    dot = name.rfind(".")
    return name[dot:].lower() if 0 < dot < len(name) - 1 else ""


def _some(paths: list[str]) -> str:
    shown = ", ".join(ascii(path[:80]) for path in paths[:5])
    return f"there is: {shown}{', …' if len(paths) > 5 else ''}" if paths else "it has no files"
