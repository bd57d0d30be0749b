"""Text from strangers on a terminal: names of files and classes, and what a decoder says of them."""


def shown(text: str) -> str:
    """`text` fit for one line: what could break the line or command the terminal is escaped."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
