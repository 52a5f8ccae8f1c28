"""The rows that a training learns from, in one canonical form (docs/spec/records.md).

The machine, `aicert records` and `./doit add` share this room. It imports errors, digests and
strict JSON; `parquet` imports pyarrow when a file needs it. In `aicert`, only the command line
imports this room.

A program that runs a trainer passes rows to it in these steps:

1. `select.choose(paths, data_files)` -> `{split: [path, …]}`.
2. For each split a child, `python -m aicert.records.convert OUT`, gets
   `convert.Request(root=…, files=…, scratch=…).emit()` on its standard input, and leaves in OUT
   `schema.json`, `facts.json` and, unless the files are canonical already, `rows.jsonl`.
3. `outcome.read(OUT, files)` -> `Outcome(schema, in_place, rows, unread_bytes, files)`; it raises
   `errors.RowsRefused` (file, row, reason, hint) if the child refused the rows.
4. `checker = reader.Checker(outcome.schema)`; every byte that the trainer is given, from
   `rows.jsonl` or from the files in their order, is passed to `checker.feed(block)`, with
   `checker.end_of_file()` after each file. `checker.fact()` -> `RowsFact(rows, bytes, digest)`;
   `rows` must equal `outcome.rows`. A row that is not canonical raises `reader.NotCanonical`.
5. The trainer gets those files and `schema.json`: `schema.Schema.parse(bytes).columns` is
   `((name, type), …)`, a type "string", "int" (64 bits), "float" (double), "bool", "null",
   `ListOf(item)` or `StructOf(fields)`. The trainer infers nothing.

A canonical row is the output of `json.dumps(row, ensure_ascii=False, separators=(",", ":"),
allow_nan=False)` and a line feed; each row has all columns in the schema's order.
"""
