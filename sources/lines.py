"""Lines of a file, each bounded: a file without line ends, or a small compressed one that unpacks to a single endless
line, must be an error and not fill the memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, AnyStr

from core.errors import BadInput

LINE_MAX = 1 << 20
"""Characters (of text) or bytes of a line, and of a field in it: far more than a payment may have."""


def bounded_lines(file: IO[AnyStr], name: str, first: int = 1) -> Iterator[AnyStr]:
    """The file's lines with their ends, from where it stands. name: of the file, for messages. first: the number of the
    next line. Raises BadInput for a line of more than LINE_MAX.
    """
    for number, line in enumerate(iter(lambda: file.readline(LINE_MAX + 1), file.read(0)), first):
        if len(line) > LINE_MAX:
            raise BadInput(
                f"{name}, line {number:,}: longer than {LINE_MAX:,} characters; is this a file of lines? One"
                " JSON document belongs in a file called .json, and other line ends must be replaced",
                reason="line_too_long",
            )
        yield line
