"""The audit hook of every Python interpreter in the trainer's sandbox: the second line.

It is imported by a line in the environment's own packages (`rules/host/closed.py`), before
anything else and also with `-I` or `-E`, wherever `/aicert/plugin` is. What it ends (`_RULES`):
code that is compiled, executed or made by a place that is not on the list (`aicert_places`), a file
opened for writing outside scratch, a library loaded from outside the image, another program, a
socket. The process ends at once, and the runner, told by one line on AICERT_PROGRESS_FD, ends all
others. A place is a code object that the image's importer loaded from the image's file of that
module: it is compared by identity, never by a name or file name that a caller gives. Code that came
with an input is admitted by the SHA-256 of its file, where REMOTE_CODE has that: Transformers
copies it to scratch.

It is no boundary. Code that runs in the process can get around it (the sandbox is what holds it),
so nothing may conclude from its silence that no foreign code ran.
"""

from __future__ import annotations

import _frozen_importlib as bootstrap
import _frozen_importlib_external as external
import _posixsubprocess
import os
import site
import sys

import aicert_places  # type: ignore[import-not-found]  # it lies beside, in the sandbox

# Importing typing or collections here would be before the hook: their places could not be learnt.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, FrameType
    from typing import Any, NoReturn

    Rule = Callable[[tuple[Any, ...], FrameType | None], str | None]

EXIT_CODE = 86
SCRATCH = "/aicert/scratch"
PLUGIN = "/aicert/plugin"
# Where the child that measures the loss sees the runner's code for it.
CODE = "/aicert/code"
# SHA-256 of each file of code that came with an input and may run; absent where none may.
REMOTE_CODE = "/aicert/remote-code"

_CODE, _FILE, _LIBRARY = "code", "file", "library"
_PROCESS, _SOCKET, _INTERPRETER = "process", "socket", "interpreter"
_LOADER = "loader"

_WRITABLE = ("/dev/null", "/dev/zero")
_WRITABLE_BELOW = (SCRATCH + "/", "/dev/shm/")  # noqa: S108 - the sandbox's own
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_UNIX = 1  # socket.AF_UNIX: importing socket comes too early

_Code = type(os.popen.__code__)

# Where Transformers puts that code, in packages of its own making, whose files are empty.
_COPIED = SCRATCH + "/home/huggingface/modules/"
_admitted: set[str] = set()
if os.path.isfile(REMOTE_CODE):
    # It is before the hook, and has no place that makes code.
    import hashlib

    with open(REMOTE_CODE, encoding="ascii") as _file:
        _admitted = {*_file.read().split(), hashlib.sha256(b"").hexdigest()}
# What was compiled of it: source by path.
_taken: dict[str, bytes] = {}


def _image() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Folders of the image, and those among them that modules are imported from."""
    library = os.path.dirname(str(os.__file__))
    packages = f"{sys.prefix}/lib/python3.11/site-packages"
    folders = (sys.prefix, sys.base_prefix, library, PLUGIN, CODE)
    modules = (library, f"{library}/lib-dynload", packages, PLUGIN, CODE)
    return tuple(f"{os.path.normpath(each)}/" for each in folders), tuple(f"{m}/" for m in modules)


_FOLDERS, _MODULES = _image()
# Shared libraries of the system: read-only in the sandbox, as all of these are.
_LIBRARIES = (*_FOLDERS, "/usr/", "/lib/", "/lib64/")

# The runner hides GPUs where a run has none.
_HAS_GPUS = "CUDA_VISIBLE_DEVICES" not in os.environ
_ASSEMBLERS = [
    f"{sys.prefix}/lib/python3.11/site-packages/{each}" for each in aicert_places.ASSEMBLERS
]

# The runner's pipe.
_MESSAGES = int(os.environ.get("AICERT_PROGRESS_FD", "-1"))

# Code objects that may compile, execute or make code, by identity (each is kept, so its id is its
# own), with what else must hold of the frame.
_places: dict[int, tuple[CodeType, Callable[[FrameType], bool]]] = {}
# Code objects that open what a value names, in the same way, and the folders that they may open.
_readers: dict[int, tuple[CodeType, tuple[str, ...]]] = {}


def _is_in(path: object, folders: tuple[str, ...]) -> bool:
    return isinstance(path, str) and path.startswith(folders) and "/../" not in path


def _loads_from_image(frame: FrameType) -> bool:
    """Whether a method of the importer's loader of source files works on a file of the image."""
    loader = frame.f_locals.get("self")
    return (
        type(loader) is external.SourceFileLoader
        and sys.pycache_prefix is None
        and _is_in(loader.path, _MODULES)
    )


def _imports(frame: FrameType) -> bool:
    """`_call_with_frames_removed`: below one of the loaders' own methods."""
    below = frame.f_back
    if below is None:
        return False
    if below.f_code is _EXEC_LIBRARY:
        loader = below.f_locals.get("self")
        return type(loader) is external.ExtensionFileLoader and _is_in(loader.path, _FOLDERS)
    # `in` would compare code objects by what they hold.
    if below.f_code is not _EXEC_MODULE and below.f_code is not _TO_CODE:
        return False
    return _loads_from_image(below) or _loads_admitted(below, frame.f_locals["args"][0])


def _loads_admitted(below: FrameType, given: object) -> bool:
    """Whether the importer compiles an admitted file's bytes, or executes what they compile to."""
    loader = below.f_locals.get("self")
    if not _admitted or type(loader) is not external.SourceFileLoader:
        return False
    path = loader.path
    if not _is_in(path, (_COPIED,)):
        return False
    if isinstance(given, bytes) and hashlib.sha256(given).hexdigest() in _admitted:
        _taken[path] = given
        return True
    source = _taken.get(path)
    return source is not None and isinstance(given, _Code) and given == _compiled(source, path)


def _compiled(source: bytes, path: str) -> CodeType:
    """As the importer compiles it; what this gives is only compared."""
    code: CodeType = compile(source, path, "exec", dont_inherit=True)
    return code


def _runs_module(frame: FrameType) -> bool:
    spec = frame.f_locals.get("mod_spec")
    return spec is not None and _is_in(spec.origin, _MODULES)


def _reads_settings(frame: FrameType) -> bool:
    return _is_in(frame.f_locals.get("fullname"), _MODULES)


def _is_sandboxed(frame: FrameType) -> bool:
    """Jinja's compiling: only of environments whose class is the sandbox or is derived from it."""
    environment = frame.f_locals.get("environment", frame.f_locals.get("self"))
    sandbox = sys.modules.get("jinja2.sandbox")
    return sandbox is not None and sandbox.SandboxedEnvironment in type(environment).__mro__


def _was_sent(frame: FrameType) -> bool:
    """Whether it is read from another process of the run, by a place that reads from those."""
    above = frame.f_back
    while above is not None:
        place = _places.get(id(above.f_code))
        if place is not None and place[1] is _receives:
            return True
        above = above.f_back
    return False


def _receives(frame: FrameType) -> bool:
    del frame
    return False


def _always(frame: FrameType) -> bool:
    del frame
    return True


_CONDITIONS: dict[str, Callable[[FrameType], bool]] = {
    "always": _always,
    "sandboxed": _is_sandboxed,
    "module": _runs_module,
    "sent": _was_sent,
    "receives": _receives,
}


def _add(code: CodeType, condition: Callable[[FrameType], bool] = _always) -> None:
    _places[id(code)] = (code, condition)


_EXEC_MODULE = external._LoaderBasics.exec_module.__code__  # noqa: SLF001  # the place itself
_EXEC_LIBRARY = external.ExtensionFileLoader.exec_module.__code__
_TO_CODE = external.SourceLoader.source_to_code.__code__
_FROZEN = bootstrap.FrozenImporter.exec_module.__code__
_CALL: CodeType = vars(bootstrap)["_call_with_frames_removed"].__code__
_add(_CALL, _imports)
_add(_FROZEN)
_add(_compiled.__code__)
_add(vars(external)["_compile_bytecode"].__code__)
_add(site.addpackage.__code__, _reads_settings)


def _learn(code: CodeType, frame: FrameType) -> None:
    """Take the listed places of a module that the importer is about to execute."""
    below = frame.f_back
    if frame.f_code is _CALL and below is not None and below.f_code is _EXEC_MODULE:
        loader = below.f_locals["self"]
        name, path = loader.name, loader.path
        inside = name.replace(".", "/")
        names = (f"{inside}.py", f"{inside}/__init__.py")
        if path not in [folder + each for folder in _MODULES for each in names]:
            return
    elif frame.f_code is _FROZEN:
        name = frame.f_locals["spec"].name
    else:
        return
    wanted = aicert_places.PLACES.get(name, {})
    readers = aicert_places.READERS.get(name, {})
    if not wanted and not readers:
        return
    for place in (code, *_below(code)):
        condition = wanted.get(place.co_qualname)
        if condition is not None:
            _add(place, _CONDITIONS[condition])
        if place.co_qualname in readers:
            folders = tuple(f"{folder}/" for folder in readers[place.co_qualname])
            _readers[id(place)] = (place, folders)


def _below(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, _Code):
            yield constant
            yield from _below(constant)


def _of_code(args: tuple[Any, ...], frame: FrameType | None) -> str | None:
    if frame is None:
        # The interpreter itself, told to by its command line, which has rules of its own.
        return None
    place = _places.get(id(frame.f_code))
    if place is None or not place[1](frame):
        return _CODE
    if args and isinstance(args[0], _Code):
        _learn(args[0], frame)
    return None


def _of_open(args: tuple[Any, ...], frame: FrameType | None) -> str | None:
    path, mode, flags = args
    writes = isinstance(flags, int) and bool(flags & _WRITING)
    if isinstance(mode, str):
        writes = writes or not set(mode).isdisjoint("wax+")
    if isinstance(path, int):
        return None
    if not writes:
        return _of_reading(os.fsdecode(path), frame)
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    whole = os.path.realpath(path)
    allowed = whole in _WRITABLE or f"{whole}/".startswith(_WRITABLE_BELOW)
    return None if allowed else _FILE


def _of_reading(path: str, frame: FrameType | None) -> str | None:
    """What is opened below a place that opens what a value names."""
    # Modules that it imports, too.
    above = None if _is_in(path, _FOLDERS) else frame
    while above is not None:
        reader = _readers.get(id(above.f_code))
        if reader is not None:
            return None if _is_in(path, reader[1]) else _LOADER
        above = above.f_back
    return None


def _of_import(args: tuple[Any, ...], frame: FrameType | None) -> str | None:
    # With a path it is a library that is about to be loaded; else a name that is looked for.
    return None if args[1] is None or _is_in(args[1], _FOLDERS) else _LIBRARY


def _of_dlopen(args: tuple[Any, ...], frame: FrameType | None) -> str | None:
    name = os.fsdecode(args[0]) if isinstance(args[0], bytes) else args[0]
    # A bare name is looked for where the process was told to when it started.
    if name is None or "/" not in name or _is_in(os.path.realpath(name), _LIBRARIES):
        return None
    return _LIBRARY


def _of_process(args: tuple[Any, ...], frame: FrameType | None) -> str | None:
    program, words = args[0], args[1]
    declared = isinstance(words, (list, tuple)) and (
        tuple(words) in aicert_places.PROGRAMS or _is_trainer(words) or _is_assembler(words)
    )
    return None if declared and program == words[0] else _PROCESS


def _is_trainer(words: list[Any] | tuple[Any, ...]) -> bool:
    """Whether it is one of the trainers that torchrun starts, by this interpreter."""
    return tuple(words) == (sys.executable, *aicert_places.TRAINER)


def _is_assembler(words: list[Any] | tuple[Any, ...]) -> bool:
    """Whether it is asked for its version, or to make a kernel of a file of this run's."""
    if not _HAS_GPUS or words[0] not in _ASSEMBLERS:
        return False
    if tuple(words[1:]) == ("--version",):
        return True
    *flags, kind, source, output, target = words[1:]
    return (
        tuple(flags) in aicert_places.ASSEMBLING
        and _form(kind) in aicert_places.KINDS
        and output == "-o"
        and target == f"{source}.o"
        and os.path.realpath(source).startswith(f"{SCRATCH}/")
    )


def _of_system(args: tuple[Any, ...], frame: FrameType | None) -> str | None:
    return _PROCESS


def _of_socket(args: tuple[Any, ...], frame: FrameType | None) -> str | None:
    # Between processes of a run: pipes of two ends, and names in scratch.
    return None if args[1] == _UNIX else _SOCKET


def _of_address(args: tuple[Any, ...], frame: FrameType | None) -> str | None:
    address = args[1] if len(args) > 1 else None
    if isinstance(address, bytes):
        address = os.fsdecode(address)
    return None if _is_in(address, _WRITABLE_BELOW) else _SOCKET


def _of_network(args: tuple[Any, ...], frame: FrameType | None) -> str | None:
    return _SOCKET


def _form(text: str) -> str:
    """With `#` for each number."""
    form = ""
    for letter in text.strip():
        digit = letter in "0123456789"
        form += "" if digit and form.endswith("#") else "#" if digit else letter
    return form


def _is_command(text: str) -> bool:
    return _form(text) in aicert_places.COMMANDS


def _of_command(args: tuple[Any, ...], frame: FrameType | None) -> str | None:
    return None if isinstance(args[0], str) and _is_command(args[0]) else _INTERPRETER


def _of_file(args: tuple[Any, ...], frame: FrameType | None) -> str | None:
    return None if _is_in(args[0], _MODULES) else _INTERPRETER


def _of_interpreter(args: tuple[Any, ...], frame: FrameType | None) -> str | None:
    return _INTERPRETER


_RULES: dict[str, Rule] = {
    "compile": _of_code,
    "exec": _of_code,
    "marshal.loads": _of_code,
    "marshal.load": _of_code,
    "code.__new__": _of_code,
    "open": _of_open,
    "import": _of_import,
    "ctypes.dlopen": _of_dlopen,
    "subprocess.Popen": _of_process,
    "os.exec": _of_process,
    "os.posix_spawn": _of_process,
    "os.spawn": _of_process,
    "os.system": _of_system,
    "os.forkpty": _of_system,
    "pty.spawn": _of_system,
    "socket.__new__": _of_socket,
    "socket.bind": _of_address,
    "socket.connect": _of_address,
    "socket.sendto": _of_network,
    "socket.getaddrinfo": _of_network,
    "socket.gethostbyname": _of_network,
    "cpython.run_command": _of_command,
    "cpython.run_file": _of_file,
    "cpython.run_stdin": _of_interpreter,
    "cpython.run_startup": _of_interpreter,
    "cpython.run_interactivehook": _of_interpreter,
    "cpython.PyInterpreterState_New": _of_interpreter,
}


def _hook(event: str, args: tuple[Any, ...]) -> None:
    rule = _RULES.get(event)
    if rule is None:
        return
    try:
        frame = sys._getframe(1)  # noqa: SLF001  # who calls
    except ValueError:
        frame = None
    try:
        violation = rule(args, frame)
    except BaseException as error:  # noqa: BLE001  # whatever it is, nothing was judged
        _end("hook", ascii(f"{event}: {error!r}"))
    if violation is not None:
        _end(violation, ascii(f"{event} {args!r:.300}"))


def _end(violation: str, detail: str) -> NoReturn:
    try:
        # First the log: at the message the runner ends the run.
        os.write(2, f"\naicert: the audit hook stops the training: {detail}\n".encode())
        # A line of its own, whatever was being written.
        os.write(_MESSAGES, f'\n{{"violation": "{violation}"}}\n'.encode("ascii"))
    except OSError:
        # Nobody was told: a worker's end is not that of the training, so its starter's must be.
        os.kill(os.getppid(), 9)
    finally:
        os._exit(EXIT_CODE)


def _is_worker(words: list[str], programs: list[str]) -> bool:
    """Whether it is this interpreter, with flags that leave the hook in and a declared text, or one
    of the trainers that torchrun starts.
    """
    if programs != [sys.executable] or words[0] != sys.executable:
        return False
    if _is_trainer(words):
        return True
    if "-c" not in words:
        return False
    at = words.index("-c")
    flags, text, rest = words[1:at], words[at + 1 : at + 2], words[at + 2 :]
    return (
        all(flag in aicert_places.FLAGS or flag.startswith("-W") for flag in flags)
        and all(map(_is_command, text))
        and rest in ([], ["--multiprocessing-fork"])
    )


_fork_exec = _posixsubprocess.fork_exec


def _nothing_found(name: str) -> None:
    """In the place of what starts a program to find a library."""


def _start(args: Any, executables: Any, close: Any, kept: Any, *more: Any) -> int:
    """`_posixsubprocess.fork_exec`, which has no event and starts the workers that prepare rows."""
    words, programs = [os.fsdecode(each) for each in args], [os.fsdecode(p) for p in executables]
    declared = tuple(words) in aicert_places.PROGRAMS and all(
        program.rpartition("/")[2] == words[0] for program in programs
    )
    declared = declared or (_is_assembler(words) and programs == words[:1])
    worker = _is_worker(words, programs)
    if not declared and not worker:
        _end(_PROCESS, ascii(f"fork_exec {words!r:.300}"))
    # A worker must be able to say what it was ended for.
    kept = tuple(sorted({*kept, _MESSAGES})) if worker else kept
    return _fork_exec(args, executables, close, kept, *more)


vars(_posixsubprocess)["fork_exec"] = _start
sys.addaudithook(_hook)
# CUDA's packages look for the C library by programs (ldconfig, gcc, ld) when they are imported, and
# take its name where nothing is found. Imported after the hook, which learns what modules make.
import ctypes.util  # noqa: E402

for finder in ("_findSoname_ldconfig", "_findLib_gcc", "_findLib_ld"):
    vars(ctypes.util)[finder] = _nothing_found
