"""Rows, which a training learns from, in one canonical form (docs/spec/records.md).

Machine, `aicert records` and `./doit add` share this room. It imports errors, digests and strict
JSON; `parquet` imports pyarrow when a file needs it. In `aicert`, only the command line imports
this room.

How whoever runs a trainer gives it rows:

1. `select.choose(paths, data_files)` -> `{split: [path, …]}`.
2. For each split a child, `python -m aicert.records.convert OUT`, gets
   `convert.Request(root=…, files=…, scratch=…).emit()` on its standard input, and leaves in OUT
   `schema.json`, `facts.json` and, unless the files are canonical already, `rows.jsonl`.
3. `outcome.read(OUT, files)` -> `Outcome(schema, in_place, rows, unread_bytes, files)`; it raises
   `errors.RowsRefused` (file, row, reason, hint) where the child refused.
4. `checker = reader.Checker(outcome.schema)`; every byte that the trainer is given, of `rows.jsonl`
   or of the files in their order, goes through `checker.feed(block)`, with `checker.end_of_file()`
   after each file. `checker.fact()` -> `RowsFact(rows, bytes, digest)`; `rows` must be
   `outcome.rows`. `reader.NotCanonical` otherwise.
5. The trainer gets those files and `schema.json`: `schema.Schema.parse(bytes).columns` is
   `((name, type), …)`, a type "string", "int" (64 bits), "float" (double), "bool", "null",
   `ListOf(item)` or `StructOf(fields)`. It infers nothing.

A canonical row is what `json.dumps(row, ensure_ascii=False, separators=(",", ":"),
allow_nan=False)` gives, and a line feed; each has all columns in the schema's order.
"""
