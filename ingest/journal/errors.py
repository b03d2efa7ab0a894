"""What can keep the reader from a page, by what follows from it. No text quotes an address, which is a credential."""

from typing import Final

from spokes.core.errors import SpokesError

FILE_GONE: Final = "file_gone"  # the code of a file that its address does not lead to
FILE_BROKEN: Final = "file_broken"  # of one that ends early, or is not encoded as it says


class JournalError(SpokesError):
    """Base of all. The cursor never moves because of an error; `code` is a constant or a status."""

    reason = "journal"

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class JournalUnavailable(JournalError):
    """HubSpot cannot answer now; `retry_after_s` is the wait that it asks for, 0 without one."""

    reason = "journal_unavailable"

    def __init__(self, code: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(code)
        self.retry_after_s = retry_after_s


class UnreadableLocation(JournalUnavailable):
    """HubSpot's answer does not say where a page is; `offset` is that of the page, empty if the answer has none."""

    def __init__(self, offset: str = "") -> None:
        super().__init__("unreadable_response")
        self.offset = offset


class JournalRefused(JournalError):
    """HubSpot refuses the app: its client id, secret or scopes. Only an operator can help."""

    reason = "journal_refused"


class OffsetUnknown(JournalError):
    """The journal does not know an offset, or calls it so because nothing is behind it."""

    reason = "offset_unknown"
