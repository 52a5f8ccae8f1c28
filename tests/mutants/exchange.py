"""A pytest plugin that activates a mutant by giving its function the mutant's code.

mutmut wraps every function that has mutants, so that each call asks which one is active, and tests
take three times as long. This plugin is loaded before the tested modules are imported; it registers
the functions and leaves them unwrapped. Functions with a closure (`super()`) stay with mutmut,
since their mutants may have another closure.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dis import get_instructions
from types import CodeType, FunctionType
from typing import Any

from mutmut.mutation import trampoline

Mutants = Mapping[str, Any]
_functions: dict[str, list[tuple[FunctionType, Mutants]]] = defaultdict(list)
_left: dict[str, list[Mutants]] = defaultdict(list)
# Python accepts each codec, and infinity, in small letters and in capitals.
SPELLINGS = frozenset(("ascii", "utf-8", "utf-16-le", "inf", "-inf"))
_wrapped = trampoline.wrap_in_trampoline


def _register(
    mutants: Mutants, is_classmethod: bool = False
) -> Callable[[FunctionType], FunctionType]:
    def keep(function: FunctionType) -> FunctionType:
        if function.__closure__ is not None:
            _left[function.__module__].append(mutants)
            wrapper: FunctionType = _wrapped(mutants, is_classmethod)(function)
            return wrapper
        _functions[function.__module__].append((function, mutants))
        return function

    return keep


trampoline.wrap_in_trampoline = _register


def is_known(mutant: str) -> bool:
    """Return whether the mutant's function was imported: only then can the mutant be activated."""
    module, _, name = mutant.rpartition(".")
    every = [*_left[module], *(mutants for _, mutants in _functions[module])]
    return any(name in mutants for mutants in every)


def codes(mutant: str) -> tuple[CodeType, CodeType] | None:
    """Return the code of the function and of its mutant; None where mutmut keeps both."""
    module, _, name = mutant.rpartition(".")
    known = ((f, mutants[name]) for f, mutants in _functions[module] if name in mutants)
    return next(((f.__code__, changed.__code__) for f, changed in known), None)


def is_spelling(mutant: str) -> bool:
    """Return whether the mutant only changes the case of some SPELLINGS: no test can kill it."""
    module, _, name = mutant.rpartition(".")
    return any(
        list(_spelt(mutants[name].__code__)) == list(_spelt(function.__code__))
        and mutants[name].__defaults__ == function.__defaults__
        and mutants[name].__kwdefaults__ == function.__kwdefaults__
        for function, mutants in _functions[module]
        if name in mutants
    )


def _spelt(code: CodeType) -> Iterator[object]:
    """Yield the steps of the code, with SPELLINGS in small letters."""
    for step in get_instructions(code):
        given = step.argval
        yield step.opname
        if isinstance(given, CodeType):
            yield from _spelt(given)
        elif isinstance(given, str):
            yield given.lower() if given.lower() in SPELLINGS else given
        else:
            yield type(given), given


def activate(mutant: str) -> None:
    """Activate this mutant in this process; there is no way back."""
    module, _, name = mutant.rpartition(".")
    trampoline.set_mutant_under_test(mutant)
    for function, mutants in _functions[module]:
        if name in mutants:
            changed = mutants[name]
            function.__code__ = changed.__code__
            function.__defaults__ = changed.__defaults__
            function.__kwdefaults__ = changed.__kwdefaults__
