"""Store errors: what a store refused, told with the machine, the place and the next step.

Errors are told apart by the codes of the S3 API ("Error responses", Amazon S3 API Reference) and
by the standard exceptions that fsspec's file systems raise; no package of a store is imported.
"""

import errno
import re
import socket
from collections.abc import Iterator
from typing import Any

from pipeline.errors import BadInput

_CREDENTIALS = (
    "give this machine credentials (environment variables, a profile, or a role of the machine)"
)
_NEXT_STEPS = {
    "ExpiredToken": "its credentials have expired: renew them on this machine, and run it again",
    "ExpiredTokenException": "its credentials have expired: renew them on this machine, and run "
    "it again",
    "TokenRefreshRequired": "its credentials have expired: renew them on this machine, and run it "
    "again",
    "InvalidToken": f"it does not take the session token: {_CREDENTIALS}",
    "InvalidAccessKeyId": f"it does not know the access key: {_CREDENTIALS}",
    "SignatureDoesNotMatch": f"the secret key is not that of the access key: {_CREDENTIALS}",
    "RequestTimeTooSkewed": "this machine's clock is not the store's: set it by NTP "
    "(`timedatectl set-ntp true`), and run it again",
    "NoSuchBucket": "there is no such bucket: make it, or correct the address",
    "AccessDenied": "access is denied: allow this machine's credentials to list, read, write and "
    "delete there, or name another address",
    "AllAccessDisabled": "access is denied to everybody: name another address",
    "QuotaExceeded": "it takes no more: make room, and run it again",
}
_BUSY = frozenset(
    [
        *("SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "Throttling"),
        *("ThrottlingException", "RequestLimitExceeded", "TooManyRequests", "OperationAborted"),
        *("408", "425", "429", "500", "502", "503", "504"),
    ]
)
_BUSY_KINDS = re.compile(
    "Timeout|Connection|ServerDisconnected|IncompleteRead|IncompleteBody|ResponseStream"
    "|ClientPayload|ClientOSError|HTTPClientError|ProxyError|ChecksumError"
)
_BUSY_NUMBERS = (errno.EBUSY, errno.EAGAIN, errno.ETIMEDOUT, errno.ECONNRESET, errno.EIO)
_HELD = frozenset(("PreconditionFailed", "412", "ConditionalRequestConflict"))


def is_busy(error: BaseException) -> bool:
    """Whether the same request may well be answered in a while."""
    code = code_of(error)
    if code is not None:
        return code in _BUSY
    if isinstance(error, FileNotFoundError | PermissionError | FileExistsError):
        return False
    kinds = (type(each).__name__ for each in _chain(error))
    return any(_BUSY_KINDS.search(kind) for kind in kinds) or (
        isinstance(error, OSError) and error.errno in _BUSY_NUMBERS
    )


def is_held(error: BaseException) -> bool:
    """Whether something lies already where a thing was to be created."""
    return isinstance(error, FileExistsError) or code_of(error) in _HELD


def told(error: BaseException, where: str, tries: int = 1) -> BadInput | None:
    """The word for an error that a person can mend; None for any other."""
    store = where.split("://", 1)[0]
    at = f"{socket.gethostname()}: {where}"
    code = code_of(error)
    if code in _NEXT_STEPS:
        return BadInput(f"{at}: {_NEXT_STEPS[code]}")
    kinds = {type(each).__name__ for each in _chain(error)}
    if kinds & {"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"}:
        return BadInput(f"{at}: no credentials for {store}: {_CREDENTIALS}")
    if kinds & {"UnauthorizedSSOTokenError", "SSOTokenLoadError", "TokenRetrievalError"}:
        return BadInput(f"{at}: {_NEXT_STEPS['ExpiredToken']}")
    if is_busy(error):
        what = code or type(error).__name__
        return BadInput(
            f"{at}: no answer in {tries} tries ({what}): see whether the store is up and this "
            "machine reaches it, and run it again"
        )
    if isinstance(error, PermissionError):
        return BadInput(f"{at}: {_NEXT_STEPS['AccessDenied']}")
    if code is not None:
        return BadInput(f"{at}: the store refuses ({code}): correct the cause, and run it again")
    return None


def code_of(error: BaseException) -> str | None:
    """The store's own code for an error, as S3 and those who speak its protocol give it."""
    codes = []
    for each in _chain(error):
        response: Any = getattr(each, "response", None)
        if isinstance(response, dict) and (code := response.get("Error", {}).get("Code")):
            codes.append(str(code))
    # An answer without a body has a number for a code, and says less than one before it.
    return min(codes, key=str.isdecimal, default=None)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
