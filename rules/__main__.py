"""`./doit`: doit with this project's commands (our pyproject.toml registers them)."""

import gc
import shlex
import sys
import warnings

from doit.doit_cmd import DoitConfig, DoitMain

from rules.host.os_errors import closing_streams, explained, open_missing_streams
from rules.host.places import CODE, IS_CHECKOUT
from rules.host.reporter import show_error
from rules.host.signals import keys_end_at_once, keys_raise

DEFAULT = "certify"
HELP = ("-h", "--help")
# Only for work on this project itself: its tests and programs are not installed.
DEVELOPERS = ("test", "bench", "fuzz", "mutants", "azure_calibrate")


class Main(DoitMain):
    """doit's command line, under the name that users call."""

    BIN_NAME = "./doit"

    def __init__(self) -> None:
        """Settings are always ours: another repository's pyproject.toml belongs to that
        repository.
        """
        super().__init__(config_filenames=())
        settings = DoitConfig().load_config_toml(str(CODE / "pyproject.toml"), "tool.doit")
        for section, values in settings.items():
            self.config[section].update(values)
        if not IS_CHECKOUT:
            for name in DEVELOPERS:
                del self.config["COMMAND"][name]

    def process_args(self, cmd_args: list[str]) -> list[str]:
        """Keep arguments with `=`: doit would take `a=b` for a variable of dodo.py."""
        return list(cmd_args)


def meant(arguments: list[str]) -> list[str]:
    """Without arguments, certify; `X --help` means `help X`. What follows `test` is for pytest."""
    if not arguments:
        return [DEFAULT]
    if arguments[0] in HELP:
        return ["help"]
    if arguments[0] != "test" and arguments[-1] in HELP:
        return ["help", arguments[0]]
    return arguments


def main(arguments: list[str]) -> int:
    """Run one command; without any, everything that a certificate needs."""
    try:
        return int(Main().run(meant(arguments)) or 0)
    except OSError as error:
        failure = explained(error)
        show_error(failure)
        return failure.exit_code
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        if meant(arguments)[0] == DEFAULT:
            print(
                "nothing unfinished is certified; the interrupted run will start over",
                file=sys.stderr,
            )
            print(f"hint: ./doit {shlex.join(meant(arguments))}", file=sys.stderr)
        return 130


def run() -> int:
    """Run the whole program. Exit code 1 always means a verdict, whatever happens to the
    streams.
    """
    open_missing_streams()
    keys_raise()
    if not sys.warnoptions:
        # Libraries' warnings are for programmers, not for users.
        warnings.simplefilter("ignore")
    try:
        code = main(sys.argv[1:])
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else 0 if ending.code is None else 2
    keys_end_at_once()
    return closing_streams(code)


if __name__ == "__main__":
    exit_code = run()
    # Skip the final garbage collection over everything that is about to be freed.
    gc.freeze()
    sys.exit(exit_code)
