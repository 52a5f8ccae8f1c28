"""Read files safely: trees without links, and never more bytes than allowed."""
