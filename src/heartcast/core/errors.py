"""Everything heartcast refuses to do, as one tree.

    HeartcastError                   code, retryable, and data as attributes
    ├── InvalidInput                 the caller's data is wrong; ``pointer`` says where
    │   ├── MalformedBody            not JSON at all, or not UTF-8
    │   └── BodyTooLarge             more bytes than the limit
    ├── NotFound                     there is no such thing
    ├── Gone                         it was there and will not come back
    ├── Forbidden                    the caller may not do this
    │   └── Unauthenticated          the caller did not say who it is, or the proof is bad
    ├── Conflict                     the state does not allow it
    ├── Unavailable                  not now; the same call may be repeated
    │   ├── StoreUnavailable         a store could not take or answer
    │   │   └── StoreBusy            it works, and too much waits for it already
    │   └── Overloaded               a bound was reached; ``retry_after_s`` says when
    └── SettingsError                the configuration contradicts itself; ``path`` says where

Codes are stable: clients may switch on them. ``docs/reference/errors.md`` lists
them, and a test compares the list with this module. HTTP statuses and close codes
are not known here: ``api.problems`` and ``wire.envelopes`` map them.
"""

from __future__ import annotations


class HeartcastError(Exception):
    """Base of every error that heartcast raises on purpose."""

    code = "internal"
    retryable = False

    def __init__(self, detail: str, *, code: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        if code is not None:
            self.code = code


class InvalidInput(HeartcastError):
    """The caller's data is wrong.

    Attributes:
        pointer: JSON pointer (RFC 6901) to the field at fault, "" for the whole document.
    """

    code = "invalid_input"

    def __init__(self, detail: str, *, pointer: str = "", code: str | None = None) -> None:
        super().__init__(detail, code=code)
        self.pointer = pointer


class MalformedBody(InvalidInput):
    code = "malformed_body"


class BodyTooLarge(InvalidInput):
    code = "body_too_large"


class NotFound(HeartcastError):
    code = "not_found"


class Gone(HeartcastError):
    """It was there and will not come back."""

    code = "gone"


class Forbidden(HeartcastError):
    code = "forbidden"


class Unauthenticated(Forbidden):
    code = "unauthenticated"


class Conflict(HeartcastError):
    code = "conflict"


class Unavailable(HeartcastError):
    """Not now. The same call may be repeated.

    Attributes:
        retry_after_s: Whole seconds to wait before repeating, >= 1.
    """

    code = "unavailable"
    retryable = True

    def __init__(self, detail: str, *, retry_after_s: int = 1, code: str | None = None) -> None:
        super().__init__(detail, code=code)
        self.retry_after_s = retry_after_s


class StoreUnavailable(Unavailable):
    code = "store_unavailable"


class StoreBusy(StoreUnavailable):
    code = "store_busy"


class Overloaded(Unavailable):
    code = "overloaded"


class SettingsError(HeartcastError):
    """The configuration is wrong.

    Attributes:
        path: Dotted path of the setting at fault, "" when there is none.
    """

    code = "settings"

    def __init__(self, detail: str, *, path: str = "") -> None:
        super().__init__(f"{path}: {detail}" if path else detail)
        self.path = path
