"""What every `./doit` command shares: options in any position, typed errors, the caller's paths.

A command subclasses Command and returns its exit code from `execute(options, args)`. A command that
runs tasks subclasses RunTasks. The exit codes are in aicert.errors.
"""

import getopt
import os
import shlex
import signal
import sys
import textwrap
from pathlib import Path
from typing import Any

from doit.cmd_base import Command as DoitCommand
from doit.cmd_run import Run as DoitRun
from doit.exceptions import InvalidCommand, InvalidDodoFile, InvalidTask

from aicert.errors import AicertError, ConfigError
from rules.host.names import UnknownNameError, nearest
from rules.host.os_errors import explained
from rules.host.reporter import Reporter, show_error
from rules.host.terminal import WIDTH
from rules.host.work import using

# For commands that take runs.
ALL: dict[str, Any] = {
    "name": "all",
    "short": "",
    "long": "all",
    "type": bool,
    "default": False,
    "help": "every run, including those with default = false in aicert.toml",
}


def sorted_out(arguments: list[str], parser: Any) -> list[str]:
    """Options first, then positional arguments: doit stops parsing at the first non-option."""
    try:
        options, rest = getopt.gnu_getopt(arguments, parser.get_short(), parser.get_long())
    except getopt.GetoptError as error:
        raise ConfigError(str(error)) from None
    if "" in rest:
        raise ConfigError("an argument is empty")
    flat: list[str] = []
    for name, value in options:
        takes_value = parser.get_option(name)[0].type is not bool
        if name.startswith("--"):
            flat.append(f"{name}={value}" if takes_value else name)
        else:
            flat += [name, value] if takes_value else [name]
    return [*flat, "--", *rest]


def _help_lines(paragraph: str) -> list[str]:
    """Wrap a paragraph to WIDTH. Indented lines, which are examples, stay as they are."""
    lines = paragraph.splitlines()
    if any(line.startswith(" ") for line in lines):
        return lines
    return textwrap.wrap(paragraph, WIDTH, break_on_hyphens=False)


class _Tidy:
    """Options may follow arguments, and user errors are shown without a traceback."""

    def parse_execute(self: Any, in_args: list[str]) -> int:
        try:
            arguments = sorted_out(in_args, self.cmdparser)
            return int(super().parse_execute(arguments) or 0)  # type: ignore[misc]  # a mixin
        except AicertError as error:
            if isinstance(error, ConfigError) and error.hint is None:
                error.hint = self._corrected(error, in_args) or f"./doit help {self.name}"
            show_error(error)
            return error.exit_code
        except BrokenPipeError:
            # The reader of our output closed it, as in `./doit list | head`. Python would complain
            # at exit about buffered output that it cannot write.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + signal.SIGPIPE
        except OSError as error:
            failure = explained(error)
            show_error(failure)
            return failure.exit_code
        except (InvalidCommand, InvalidDodoFile, InvalidTask) as error:
            if isinstance(error, InvalidCommand) and error.not_found is not None:
                show_error(self._unknown(error.not_found))
            else:
                show_error(ConfigError(str(error), hint="./doit help"))
            return ConfigError.exit_code

    def _corrected(self: Any, error: ConfigError, words: list[str]) -> str | None:
        """Return the command line with the misspelt words corrected."""
        if not isinstance(error, UnknownNameError) or error.near is None or error.name not in words:
            return None
        meant = [error.near if word == error.name else word for word in words]
        return f"./doit {self.name} {shlex.join(meant)}"

    def _unknown(self: Any, name: str) -> ConfigError:
        tasks = [task.name for task in getattr(self, "task_list", ())]
        known = {word: word for word in (*self.loader.cmd_names, *tasks)}
        if ":" not in name:
            # A bare run name usually means certify, never lock.
            runs = [word.partition(":")[2] for word in tasks if word.startswith("certify:")]
            known = {run: f"certify {run}" for run in runs} | {
                word: word for word in known if ":" not in word
            }
        near = nearest(name, known)
        return ConfigError(
            f"there is no command, task or target named {name!r}",
            hint=f"./doit {known[near]}" if near else "./doit help",
        )

    def help(self: Any) -> str:
        """Usage, purpose, options and description. Examples keep their layout."""
        lines = [
            f"usage: {self.bin_name} {self.name} {self.doc_usage}".rstrip(),
            "",
            self.doc_purpose,
        ]
        options = [o for o in self.cmdparser.options if not o.section and (o.short or o.long)]
        inherited = set()
        if isinstance(self, DoitRun) and self.name != "run":
            inherited = {option["name"] for option in DoitRun.cmd_options}
            options = [option for option in options if option.name not in inherited]
        width = max((len(option.help_param()) for option in options), default=0)
        if options:
            lines.append("")
        for option in options:
            text = " ".join((option.help % {"default": option.default}).split())
            lines += textwrap.wrap(
                text,
                WIDTH,
                initial_indent=f"  {option.help_param():<{width}}  ",
                subsequent_indent=" " * (width + 4),
            )
        if inherited:
            lines.append("  and the options of `./doit help run`")
        for paragraph in (self.doc_description or "").rstrip("\n").split("\n\n"):
            lines += ["", *_help_lines(paragraph)]
        return "\n".join(lines)


class Command(_Tidy, DoitCommand):
    """Base of the commands that run no tasks; subclasses define `execute(options, args) -> int`."""


def _check_place(path: str) -> None:
    """Raise ConfigError for a path that databases, git or DVC could not store."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        raise ConfigError(
            f"the path of this checkout is not UTF-8: {path!a}",
            hint="rename the folder, then run the command there",
        ) from None


class RunTasks(_Tidy, DoitRun):
    """Base of the commands that run tasks, named in `args`; also the `run` command itself."""

    name = "run"
    doc_purpose = "run tasks by name (see `./doit list`)"

    def execute(self, params: Any, args: list[str]) -> int:
        """Run the tasks `args`. The exit code is that of the first task that failed."""
        _check_place(str(Path.cwd()))
        self.reporter = reporter = Reporter(sys.stderr, {})
        # "console" is doit's default; `-r` chooses another reporter.
        if params["reporter"] == "console":
            params["reporter"] = reporter
        with using(Path.cwd()):
            result = super().execute(params, args)
        return reporter.exit_code or int(result)
