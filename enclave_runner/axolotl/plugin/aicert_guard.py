"""The audit hook of every Python interpreter in the trainer's sandbox: the second line of defence.

A line in the environment's own packages (`rules/host/hardening.py`) imports it before anything
else, even with `-I` or `-E`, wherever `/aicert/plugin` exists. The hook ends the process
(`_RULES`) if code is compiled, executed or made in a place that is not on the list
(`aicert_places`), if a file is opened for writing outside scratch, a library is loaded from outside
the image, another program is started or a socket opened. The process ends at once, and one line on
AICERT_PROGRESS_FD tells the runner to end all others. A place is a code object that the image's
importer loaded from the image's file of that module: it is compared by identity, never by a name or
file name that a caller gives. Code that came with an input is admitted if REMOTE_CODE lists the
SHA-256 of its file; Transformers copies such files to scratch.

The hook is no boundary. Code that runs in the process can get around it (the sandbox confines it),
so nobody may conclude from the hook's silence that no foreign code ran.
"""

from __future__ import annotations

import _frozen_importlib as bootstrap
import _frozen_importlib_external as external
import _posixsubprocess
import os
import site
import sys

import aicert_places  # type: ignore[import-not-found]  # it lies beside, in the sandbox

# If typing or collections were imported here, before the hook, it could not learn their places.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, FrameType
    from typing import Any, NoReturn

    Rule = Callable[[tuple[Any, ...], FrameType | None], str | None]

EXIT_CODE = 86
SCRATCH = "/aicert/scratch"
PLUGIN = "/aicert/plugin"
# The place where the child that measures the loss sees the runner's code.
CODE = "/aicert/code"
# The place of a trainer's own packages, which come before the environment's.
TOOLS = "/aicert/tools"
# Lists the SHA-256 of each file of code that came with an input and may run; absent if none may.
REMOTE_CODE = "/aicert/remote-code"

_CODE, _FILE, _LIBRARY = "code", "file", "library"
_PROCESS, _SOCKET, _INTERPRETER = "process", "socket", "interpreter"
_LOADER = "loader"

_WRITABLE = ("/dev/null", "/dev/zero")
_WRITABLE_BELOW = (SCRATCH + "/", "/dev/shm/")  # noqa: S108 - the sandbox's own
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_UNIX = 1  # socket.AF_UNIX: importing socket comes too early

_Code = type(os.popen.__code__)

# Transformers puts that code here, in packages that it makes, whose own files are empty.
_COPIED = SCRATCH + "/home/huggingface/modules/"
_admitted: set[str] = set()
if os.path.isfile(REMOTE_CODE):
    # This import comes before the hook, which is fine: the module has no place that makes code.
    import hashlib

    with open(REMOTE_CODE, encoding="ascii") as _file:
        _admitted = {*_file.read().split(), hashlib.sha256(b"").hexdigest()}
# The admitted sources that were compiled, by path.
_taken: dict[str, bytes] = {}


def _image() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return folders of the image, and the folders that modules are imported from."""
    library = os.path.dirname(str(os.__file__))
    packages = f"{sys.prefix}/lib/python3.11/site-packages"
    folders = (sys.prefix, sys.base_prefix, library, PLUGIN, CODE, TOOLS)
    modules = (library, f"{library}/lib-dynload", packages, PLUGIN, CODE, TOOLS)
    return tuple(f"{os.path.normpath(each)}/" for each in folders), tuple(f"{m}/" for m in modules)


_FOLDERS, _MODULES = _image()
# With the folders of the system's shared libraries. All of these are read-only in the sandbox.
_LIBRARIES = (*_FOLDERS, "/usr/", "/lib/", "/lib64/")

# The runner sets this variable if the run has no GPU.
_HAS_GPUS = "CUDA_VISIBLE_DEVICES" not in os.environ
_ASSEMBLERS = [
    f"{sys.prefix}/lib/python3.11/site-packages/{each}" for each in aicert_places.ASSEMBLERS
]

# The pipe to the runner.
_MESSAGES = int(os.environ.get("AICERT_PROGRESS_FD", "-1"))

# Code objects that may compile, execute or make code, by identity (each is kept, so that its id
# stays its own), with a condition that the frame must meet.
_places: dict[int, tuple[CodeType, Callable[[FrameType], bool]]] = {}
# Code objects that open files named by a value, by identity, with the folders that they may open.
_readers: dict[int, tuple[CodeType, tuple[str, ...]]] = {}


def _is_in(path: object, folders: tuple[str, ...]) -> bool:
    return isinstance(path, str) and path.startswith(folders) and "/../" not in path


def _loads_from_image(frame: FrameType) -> bool:
    """Return whether the frame is the importer's loader of source files, at a file of the image."""
    loader = frame.f_locals.get("self")
    return (
        type(loader) is external.SourceFileLoader
        and sys.pycache_prefix is None
        and _is_in(loader.path, _MODULES)
    )


def _imports(frame: FrameType) -> bool:
    """Return whether one of the loaders' own methods called `_call_with_frames_removed`."""
    below = frame.f_back
    if below is None:
        return False
    if below.f_code is _EXEC_LIBRARY:
        loader = below.f_locals.get("self")
        return type(loader) is external.ExtensionFileLoader and _is_in(loader.path, _FOLDERS)
    # `in` would compare code objects by their content, not by identity.
    if below.f_code is not _EXEC_MODULE and below.f_code is not _TO_CODE:
        return False
    return _loads_from_image(below) or _loads_admitted(below, frame.f_locals["args"][0])


def _loads_admitted(below: FrameType, given: object) -> bool:
    """Return whether the importer compiles an admitted file's bytes, or executes their code."""
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
    """Compile as the importer does; the result is only compared, never executed."""
    code: CodeType = compile(source, path, "exec", dont_inherit=True)
    return code


def _runs_module(frame: FrameType) -> bool:
    spec = frame.f_locals.get("mod_spec")
    return spec is not None and _is_in(spec.origin, _MODULES)


def _reads_settings(frame: FrameType) -> bool:
    return _is_in(frame.f_locals.get("fullname"), _MODULES)


def _is_sandboxed(frame: FrameType) -> bool:
    """Return whether Jinja compiles for an environment whose class is its sandbox or a subclass."""
    environment = frame.f_locals.get("environment", frame.f_locals.get("self"))
    sandbox = sys.modules.get("jinja2.sandbox")
    return sandbox is not None and sandbox.SandboxedEnvironment in type(environment).__mro__


def _was_sent(frame: FrameType) -> bool:
    """Return whether a place that receives from other processes of the run called this one."""
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
    """Remember the listed places of a module that the importer is about to execute."""
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
        # The interpreter itself, at the request of its command line, which has rules of its own.
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
    """Judge a file that is opened for reading: some functions may open only some folders."""
    # Files of the image are free: those functions import modules, too.
    above = None if _is_in(path, _FOLDERS) else frame
    while above is not None:
        reader = _readers.get(id(above.f_code))
        if reader is not None:
            return None if _is_in(path, reader[1]) else _LOADER
        above = above.f_back
    return None


def _of_import(args: tuple[Any, ...], frame: FrameType | None) -> str | None:
    # With a path, a library is about to be loaded; without one, a name is only looked up.
    return None if args[1] is None or _is_in(args[1], _FOLDERS) else _LIBRARY


def _of_dlopen(args: tuple[Any, ...], frame: FrameType | None) -> str | None:
    name = os.fsdecode(args[0]) if isinstance(args[0], bytes) else args[0]
    # A bare name is looked up in the library path with which the process started.
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
    """Return whether the command line is that of a trainer that torchrun starts."""
    return tuple(words) == (sys.executable, *aicert_places.TRAINER)


def _is_assembler(words: list[Any] | tuple[Any, ...]) -> bool:
    """Return whether the command line asks an assembler for its version, or for a kernel.

    The kernel's source must be a file in scratch.
    """
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
    # Processes of a run use Unix sockets: socket pairs, and names in scratch.
    return None if args[1] == _UNIX else _SOCKET


def _of_address(args: tuple[Any, ...], frame: FrameType | None) -> str | None:
    address = args[1] if len(args) > 1 else None
    if isinstance(address, bytes):
        address = os.fsdecode(address)
    return None if _is_in(address, _WRITABLE_BELOW) else _SOCKET


def _of_network(args: tuple[Any, ...], frame: FrameType | None) -> str | None:
    return _SOCKET


def _form(text: str) -> str:
    """Replace each number in a text by `#`."""
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
        # The log comes first, because the runner ends the run when it gets the message.
        os.write(2, f"\naicert: the audit hook stops the training: {detail}\n".encode())
        # The message gets a line of its own, whatever was being written.
        os.write(_MESSAGES, f'\n{{"violation": "{violation}"}}\n'.encode("ascii"))
    except OSError:
        # The message did not arrive. The end of a worker would not end the training, so end the
        # process that started it.
        os.kill(os.getppid(), 9)
    finally:
        os._exit(EXIT_CODE)


def _is_worker(words: list[str], programs: list[str]) -> bool:
    """Return whether a command line starts a worker: an interpreter with a declared text.

    It must be this interpreter, with flags that keep the hook. A trainer that torchrun starts is a
    worker, too.
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
    """Replace functions that start a program to find a library."""


def _start(args: Any, executables: Any, close: Any, kept: Any, *more: Any) -> int:
    """Replace `_posixsubprocess.fork_exec`, which raises no audit event.

    It starts the workers that prepare rows.
    """
    words, programs = [os.fsdecode(each) for each in args], [os.fsdecode(p) for p in executables]
    declared = tuple(words) in aicert_places.PROGRAMS and all(
        program.rpartition("/")[2] == words[0] for program in programs
    )
    declared = declared or (_is_assembler(words) and programs == words[:1])
    worker = _is_worker(words, programs)
    if not declared and not worker:
        _end(_PROCESS, ascii(f"fork_exec {words!r:.300}"))
    # A worker must be able to report why it was ended.
    kept = tuple(sorted({*kept, _MESSAGES})) if worker else kept
    return _fork_exec(args, executables, close, kept, *more)


vars(_posixsubprocess)["fork_exec"] = _start
sys.addaudithook(_hook)
# When CUDA's packages are imported, they look for the C library with programs (ldconfig, gcc, ld),
# and use its name if those find nothing. The import comes after the hook, which learns places.
import ctypes.util  # noqa: E402

for finder in ("_findSoname_ldconfig", "_findLib_gcc", "_findLib_ld"):
    vars(ctypes.util)[finder] = _nothing_found
