"""`aicert log`: the options and output of a log's commands; `aicert/log` does the work."""
