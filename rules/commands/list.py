"""`./doit list`: the tasks that `certify` is made of."""

from doit.cmd_list import List as DoitList

from rules.commands.base import _Tidy


class List(_Tidy, DoitList):
    """The tasks of dodo.py, each with the first line of its docstring."""

    name = "list"
    doc_purpose = "list the tasks that certify runs"

    def _execute(
        self,
        subtasks: bool = False,
        quiet: bool = False,
        status: bool = False,
        private: bool = False,
        list_deps: bool = False,
        template: str | None = None,
        sort: str = "name",
        pos_args: list[str] | None = None,
    ) -> int:
        plain = template is None and not quiet and not pos_args
        if plain:
            self.outstream.write("tasks, run by `./doit certify` or by `./doit run NAME`:\n\n")
        result = super()._execute(
            subtasks, quiet, status, private, list_deps, template, sort, pos_args
        )
        if plain:
            self.outstream.write("\ncommands: ./doit help\n")
        return int(result or 0)
