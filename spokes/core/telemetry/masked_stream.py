"""Standard output and standard error of a process that runs handlers: what handlers print is masked, line by line."""

import atexit
import io
import sys
import threading
from typing import Final, TextIO

from spokes.core.masking import Mask

_MAX_LINE: Final = 65_536  # characters held back until a line ends


class MaskedStream(io.TextIOBase):
    """Writes each complete line masked.

    An unfinished line is held back, also by `flush`: a value could be cut in two, and neither half would be recognised.
    It is written when it ends, when it is too long, or when the process ends.
    """

    def __init__(self, stream: TextIO, mask: Mask) -> None:
        self._stream = stream
        self._mask = mask
        self._unfinished = ""
        self._lock = threading.Lock()
        atexit.register(self.write_unfinished)

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a plain attribute in the base class
        """The encoding of the stream below."""
        return self._stream.encoding

    def write(self, text: str, /) -> int:
        """Write the lines that `text` completes; return the length of `text`."""
        with self._lock:
            lines, newline, rest = text.rpartition("\n")
            if newline:
                self._stream.write(self._mask.text(f"{self._unfinished}{lines}") + newline)
                self._unfinished = ""
            self._unfinished += rest
            is_long = len(self._unfinished) > _MAX_LINE
        if is_long:
            self.write_unfinished()
        return len(text)

    def write_unfinished(self) -> None:
        """Write the unfinished line, masked."""
        with self._lock:
            text, self._unfinished = self._unfinished, ""
            if text and not self._stream.closed:
                self._stream.write(self._mask.text(text))
                self._stream.flush()

    def flush(self) -> None:
        """Flush the complete lines."""
        self._stream.flush()

    def writable(self) -> bool:
        """Return True."""
        return True

    def isatty(self) -> bool:
        """Return whether the stream below is a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """Return the file descriptor of the stream below."""
        return self._stream.fileno()


def mask_standard_streams(mask: Mask) -> None:
    """Mask what anything in this process prints from now on."""
    sys.stdout = MaskedStream(sys.stdout, mask)
    sys.stderr = MaskedStream(sys.stderr, mask)
