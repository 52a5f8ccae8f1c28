"""Install the guard: an import finder wraps the libraries' functions when their modules are
imported.

docs/adr/0023-guard.md says which functions, and why. If a library no longer has one of them,
importing it is an error, so that no version is silently guarded only in part.
"""

import functools
import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, Self

from aicert.errors import ConfigError, ToolError
from aicert.files.bounded import StrPath
from aicert.guard.card import write_block
from aicert.guard.copies import VARIABLE as COPY_VARIABLE
from aicert.guard.copies import Copies
from aicert.guard.memory import Guard
from aicert.guard.policy import load_policy
from aicert.guard.saving import BESIDE, sign_folder
from aicert.model_signature.signed_by import SIGNATURE

VARIABLE = "AICERT_GUARD"
FRAMEWORKS = ("transformers", "peft", "huggingface_hub", "safetensors", "datasets", "axolotl")
# Parameters by which the `from_pretrained` of some class takes a path to load from.
_PATHS = (
    "pretrained_model_name_or_path", "pretrained_model_or_path", "model_id", "peft_model_id",
    "path",
)  # fmt: skip
Function = Callable[..., Any]
Wrapper = Callable[[Guard, Function], Function]
# The guard of this process. A second `enable` is refused because of it, or because libraries are
# loaded.
_STATE: dict[str, Guard] = {}


def enable(policy: StrPath, *, copy: bool = False) -> Guard:
    """Guard this process, and its Python children if the `.pth` is installed."""
    if _STATE:
        raise ConfigError("the guard is already enabled")
    loaded = [name for name in FRAMEWORKS if name in sys.modules]
    if loaded:
        raise ConfigError(
            f"{loaded[0]} is already imported, and may have loaded something unverified",
            hint="call aicert.guard.enable before the first import of a framework",
        )
    chosen = load_policy(policy)
    guard = Guard(chosen, copies=Copies() if copy else None)
    _STATE["guard"] = guard
    os.environ[VARIABLE] = chosen.path
    if copy:
        os.environ[COPY_VARIABLE] = "1"
    sys.meta_path.insert(0, Finder(guard))
    return guard


class Finder(MetaPathFinder):
    """A finder that finds nothing itself, but wraps what the frameworks' modules define."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Return the spec that the other finders give, with a loader that wraps the module's
        functions.
        """
        if fullname.partition(".")[0] not in FRAMEWORKS:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                self._wrap(spec)
                return spec
        return None

    def _wrap(self, spec: ModuleSpec) -> None:
        loader: Any = spec.loader
        run = getattr(loader, "exec_module", None)
        if run is None or isinstance(loader, type):
            return

        def exec_module(module: ModuleType) -> None:
            run(module)
            install(self._guard, module)

        # The loader object stays the same, so that callers can still ask it for sources and
        # resources.
        try:
            loader.exec_module = exec_module
        except AttributeError:
            # Nothing in an extension module is wrapped, but the Python module above it is.
            return


def install(guard: Guard, module: ModuleType) -> None:
    """Wrap the module's functions that the table names, and each class's `from_pretrained`."""
    if module.__name__ == "datasets.fingerprint":
        # datasets would read again what `Dataset.map` wrote earlier, and nobody has verified that.
        module.disable_caching()
    for name, wrapper in TABLE.get(module.__name__, {}).items():
        owner: Any = module
        *classes, last = name.split(".")
        for each in classes:
            owner = getattr(owner, each, None)
        original = None if owner is None else owner.__dict__.get(last)
        if original is None:
            raise ToolError(
                f"this version of {module.__name__.partition('.')[0]} has no {module.__name__}."
                f"{name}: it cannot be guarded",
                hint="aicert guard --limits",
            )
        setattr(owner, last, _like(original, functools.partial(wrapper, guard)))
    for value in list(vars(module).values()):
        if isinstance(value, type) and value.__module__ == module.__name__:
            own = value.__dict__.get("from_pretrained")
            if own is not None:
                value.from_pretrained = _like(  # type: ignore[attr-defined]
                    own, functools.partial(_from_pretrained, guard)
                )


def _like(original: Any, wrap: Callable[[Function], Function]) -> Any:
    """Return the wrapped function as the kind of method that the original was."""
    for kind in (classmethod, staticmethod):
        if isinstance(original, kind):
            return kind(wrap(original.__func__))
    return wrap(original)


def _library(name: str) -> Any:
    """Return a framework's module by name, since aicert depends on none of them."""
    return importlib.import_module(name)


def _is_local(value: object) -> bool:
    return isinstance(value, str | os.PathLike) and os.path.lexists(value)


def _from_pretrained(guard: Guard, original: Function) -> Function:
    @functools.wraps(original)
    def guarded(*arguments: Any, **named: Any) -> Any:
        with guard.loading():
            words = list(arguments)
            # The first argument is the class; the second, or for an adapter the third, may be a
            # path.
            for index, value in enumerate(words[1:3], 1):
                if _is_local(value):
                    words[index] = guard.check(value)
            for name in _PATHS:
                if _is_local(named.get(name)):
                    named[name] = guard.check(named[name])
            return original(*words, **named)

    return guarded


def _cached(guard: Guard, original: Function) -> Function:
    """Guard `transformers.utils.hub.cached_file(s)`, which returns a path, paths or None."""

    @functools.wraps(original)
    def guarded(path_or_repo_id: Any, *arguments: Any, **named: Any) -> Any:
        is_rows = named.get("repo_type") == "dataset"
        if _is_local(path_or_repo_id):
            path_or_repo_id = guard.check(path_or_repo_id, is_rows=is_rows)
        paths = original(path_or_repo_id, *arguments, **named)
        if isinstance(paths, str):
            return guard.check(paths, is_rows=is_rows)
        return None if paths is None else [guard.check(path, is_rows=is_rows) for path in paths]

    return guarded


# The parameters that choose a snapshot; `hf_hub_download` has further ones.
_SNAPSHOT = (
    "repo_type", "revision", "cache_dir", "local_dir", "library_name", "library_version",
    "user_agent", "etag_timeout", "token", "local_files_only", "headers", "endpoint",
)  # fmt: skip


def _hub_file(guard: Guard, original: Function) -> Function:
    @functools.wraps(original)
    def guarded(repo_id: str, filename: str, **named: Any) -> Any:
        path = original(repo_id, filename, **named)
        if named.get("dry_run"):
            return path
        # The guard refuses if the other signed files cannot be fetched.
        chosen = {name: named[name] for name in _SNAPSHOT if name in named}
        _library("huggingface_hub").snapshot_download(repo_id, **chosen)
        return guard.check(path, is_rows=named.get("repo_type") == "dataset")

    return guarded


def _own_downloads(_: Guard, original: Function) -> Function:
    """Unwrap the download of single files: `snapshot_download` is verified as a whole."""
    inner: Function = original.__wrapped__  # type: ignore[attr-defined]
    return inner


def _snapshot(guard: Guard, original: Function) -> Function:
    @functools.wraps(original)
    def guarded(repo_id: str, **named: Any) -> Any:
        # A signature covers all files, so it cannot be verified for some of them.
        whole = {
            name: value
            for name, value in named.items()
            if name not in ("allow_patterns", "ignore_patterns")
        }
        path = original(repo_id, **whole)
        if named.get("dry_run"):
            return path
        return guard.check(path, is_rows=named.get("repo_type") == "dataset")

    return guarded


def _from_cache(guard: Guard, original: Function) -> Function:
    @functools.wraps(original)
    def guarded(*arguments: Any, **named: Any) -> Any:
        path = original(*arguments, **named)
        repo_type = arguments[4] if len(arguments) > 4 else named.get("repo_type")
        return guard.check(path, is_rows=repo_type == "dataset") if isinstance(path, str) else path

    return guarded


def _hub_open(guard: Guard, original: Function) -> Function:
    @functools.wraps(original)
    def guarded(system: Any, path: Any, mode: str = "rb", *more: Any, **named: Any) -> Any:
        if "r" in mode:
            guard.refuse_unverifiable(f"hf://{path}")
        return original(system, path, mode, *more, **named)

    return guarded


def _hub_get(guard: Guard, original: Function) -> Function:
    @functools.wraps(original)
    def guarded(system: Any, rpath: Any, *arguments: Any, **named: Any) -> Any:
        guard.refuse_unverifiable(f"hf://{rpath}")
        return original(system, rpath, *arguments, **named)

    return guarded


class _Opened:
    """An open safetensors file, which is compared once more when it is closed."""

    def __init__(self, guard: Guard, opened: Any, path: StrPath) -> None:
        self._guard, self._opened, self._path = guard, opened, path
        self._load: AbstractContextManager[None] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._opened, name)

    def __enter__(self) -> Self:
        self._load = self._guard.loading()
        self._load.__enter__()
        self._guard.check(self._path)
        self._opened.__enter__()
        return self

    def __exit__(self, *error: object) -> Any:
        closed = self._opened.__exit__(*error)
        load, self._load = self._load, None
        if load is None:
            # transformers closes files that it never entered; the load around them compares.
            self._guard.check(self._path)
        else:
            load.__exit__(None, None, None)
        return closed


def _safe_open(guard: Guard, original: Function) -> Function:
    @functools.wraps(original, updated=())
    def guarded(filename: StrPath, *arguments: Any, **named: Any) -> Any:
        filename = guard.check(filename)
        return _Opened(guard, original(filename, *arguments, **named), filename)

    return guarded


def _each(value: object) -> list[Any]:
    """Return the names in `data_files`, which may hold one, many, or many for each split."""
    if isinstance(value, Mapping):
        return [name for part in value.values() for name in _each(part)]
    if isinstance(value, list | tuple | set):
        return [name for part in value for name in _each(part)]
    return [] if value is None else [value]


def _check_rows(guard: Guard, names: object, folder: str = "") -> None:
    for name in _each(names):
        text = os.fspath(name)
        place = os.path.join(folder, text)
        if "::" in text or ("://" in text and not text.startswith("file://")):
            guard.refuse_unverifiable(text)
            continue
        place = place.removeprefix("file://")
        # For a pattern, take the folder that it begins in.
        while not os.path.lexists(place):
            above = os.path.dirname(place)
            if above == place:
                break
            place = above or "."
        guard.check(place, is_rows=True)


def _load_dataset(guard: Guard, original: Function) -> Function:
    @functools.wraps(original)
    def guarded(path: Any, *arguments: Any, **named: Any) -> Any:
        with guard.loading():
            text = os.fspath(path)
            names = ("name", "data_dir", "data_files")
            given = named | dict(zip(names, arguments, strict=False))
            if os.path.lexists(text):
                guard.check(text, is_rows=True)
            elif not _is_packaged(text):
                text = _fetched(text, given)
                guard.check(text, is_rows=True)
                # The snapshot has one revision already; the hub is not asked what it is now.
                named.pop("revision", None)
            folder = text if os.path.isdir(text) else ""
            _check_rows(guard, given.get("data_dir"), folder)
            # A relative path is relative to both, as in datasets.
            inner = os.path.join(folder, given.get("data_dir") or "")
            _check_rows(guard, given.get("data_files"), inner)
            return original(text, *arguments, **named)

    return guarded


def _is_packaged(name: str) -> bool:
    """Return whether `load_dataset(name)` means a reader of a format, like `json`, and not a data
    set.
    """
    return name in vars(_library("datasets.packaged_modules"))["_PACKAGED_DATASETS_MODULES"]


def _fetched(name: str, given: Mapping[str, Any]) -> str:
    """Fetch a complete snapshot of a data set from the hub, and return its folder."""
    chosen = {key: given[key] for key in ("revision", "token") if given.get(key) is not None}
    return str(_library("huggingface_hub").snapshot_download(name, repo_type="dataset", **chosen))


def _rows_first(guard: Guard, original: Function) -> Function:
    """Guard a function whose first argument names what is loaded."""

    @functools.wraps(original)
    def guarded(*arguments: Any, **named: Any) -> Any:
        names = [arguments[0]] if arguments else list(named.values())[:1]
        with guard.loading():
            _check_rows(guard, names)
            return original(*arguments, **named)

    return guarded


def _rows_second(guard: Guard, original: Function) -> Function:
    """Guard a method or class method whose argument after the first names what is loaded."""

    @functools.wraps(original)
    def guarded(owner: Any, *arguments: Any, **named: Any) -> Any:
        names = [arguments[0]] if arguments else list(named.values())[:1]
        with guard.loading():
            _check_rows(guard, names)
            return original(owner, *arguments, **named)

    return guarded


def _own_rows(guard: Guard, original: Function) -> Function:
    """Guard `Dataset.from_file`, with which a `Dataset` also reads what it wrote itself."""
    judged = _rows_second(guard, original)

    @functools.wraps(original)
    def guarded(owner: Any, filename: StrPath, *arguments: Any, **named: Any) -> Any:
        # Created by this process, or by the one that it was forked from, and closed to others.
        own = _library("datasets.fingerprint").get_temporary_cache_files_directory()
        is_own = os.path.dirname(os.path.realpath(filename)) == os.path.realpath(own)
        return (original if is_own else judged)(owner, filename, *arguments, **named)

    return guarded


def _checkpoint_saved(guard: Guard, original: Function) -> Function:
    """Sign after `CallbackHandler.on_save`, when the whole checkpoint is written."""

    @functools.wraps(original)
    def guarded(handler: Any, args: Any, state: Any, control: Any) -> Any:
        given_back = original(handler, args, state, control)
        if guard.signer is not None and args.should_save:
            sign_folder(f"{args.output_dir}/checkpoint-{state.global_step}", guard.signer)
        return given_back

    return guarded


def _model_saved(guard: Guard, original: Function) -> Function:
    """Sign after `Trainer.save_model` if a person called it: inside other methods, more files
    follow.
    """

    @functools.wraps(original)
    def guarded(trainer: Any, output_dir: Any = None, _internal_call: bool = False) -> Any:
        given_back = original(trainer, output_dir, _internal_call)
        if guard.signer is not None and trainer.args.should_save and not _internal_call:
            sign_folder(output_dir or trainer.args.output_dir, guard.signer, ignore=BESIDE)
        return given_back

    return guarded


def _trained(guard: Guard, original: Function) -> Function:
    """Sign after `axolotl.train.train`, which saves in several ways and is done when it returns."""

    @functools.wraps(original)
    def guarded(cfg: Any, *arguments: Any, **named: Any) -> Any:
        given_back = original(cfg, *arguments, **named)
        # torchrun's variable for the number of a process: only one of many writes.
        if guard.signer is not None and os.environ.get("RANK", "0") == "0":
            sign_folder(cfg.output_dir, guard.signer, ignore=BESIDE)
        return given_back

    return guarded


def _upload(guard: Guard, original: Function) -> Function:
    """Sign before `upload_folder`, in which `Trainer.push_to_hub` ends: the card is written by
    then.
    """

    @functools.wraps(original)
    def guarded(*arguments: Any, folder_path: StrPath, **named: Any) -> Any:
        # For a subfolder of a repository, a signature would cover only a part.
        if guard.signer is not None and not named.get("path_in_repo"):
            ignore, allow = named.get("ignore_patterns"), named.get("allow_patterns")
            write_block(Path(folder_path), guard.signer)
            sign_folder(folder_path, guard.signer, ignore=ignore, allow=allow)
            if allow is not None:
                named["allow_patterns"] = [
                    *([allow] if isinstance(allow, str) else allow),
                    SIGNATURE,
                ]
        return original(*arguments, folder_path=folder_path, **named)

    return guarded


TABLE: dict[str, dict[str, Wrapper]] = {
    "huggingface_hub.file_download": {
        "hf_hub_download": _hub_file,
        "try_to_load_from_cache": _from_cache,
    },
    "huggingface_hub._snapshot_download": {
        "snapshot_download": _snapshot,
        "hf_hub_download": _own_downloads,
    },
    "huggingface_hub.hf_file_system": {
        "HfFileSystem._open": _hub_open,
        "HfFileSystem.get_file": _hub_get,
    },
    "huggingface_hub.hf_api": {"HfApi.upload_folder": _upload, "upload_folder": _upload},
    "transformers.trainer": {"Trainer.save_model": _model_saved},
    "transformers.trainer_callback": {"CallbackHandler.on_save": _checkpoint_saved},
    "transformers.utils.hub": {"cached_file": _cached, "cached_files": _cached},
    "safetensors": {"safe_open": _safe_open},
    "axolotl.train": {"train": _trained},
    "datasets.load": {
        "load_dataset": _load_dataset,
        "load_dataset_builder": _load_dataset,
        "load_from_disk": _rows_first,
    },
    "datasets.arrow_dataset": {
        "Dataset.load_from_disk": _rows_first,
        "Dataset.from_file": _own_rows,
    },
    "datasets.dataset_dict": {"DatasetDict.load_from_disk": _rows_first},
    "datasets.io.abc": {"AbstractDatasetReader.__init__": _rows_second},
}
