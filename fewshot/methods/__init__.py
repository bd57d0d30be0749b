"""Methods: the few-shot heads, one paper a file."""
