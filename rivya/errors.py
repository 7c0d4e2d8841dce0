"""Everything that can go wrong, as one tree of exceptions.

Each error answers four questions for a person: what happened, did it cost credits, what to do now,
and which identifiers to quote to support. The service's ``error.code`` is the integration contract
(Rivya Public API v1, "Errors and limits"); codes that are not known here fall back on the HTTP status,
because new codes are declared a compatible change.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from enum import Enum
from typing import Any, TypeVar, cast

E = TypeVar("E", bound="RivyaError")
F = TypeVar("F", bound=Callable[..., Any])


class Charged(str, Enum):
    """Whether an order cost credits, as far as it can be proved."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class Sent(str, Enum):
    """What a failed attempt proves about the request: whether it was sent, as far as the service is concerned."""

    NO = "no"
    """It never left, or never reached the service (DNS, connection refused, TLS)."""
    REFUSED = "refused"
    """The service answered, and said no."""
    MAYBE = "maybe"
    """It may have arrived and may have been carried out (reset, read timeout, cut answer)."""


_CHARGE_SENTENCES = {
    Charged.YES: "Credits were charged.",
    Charged.NO: "No credits were charged.",
    Charged.UNKNOWN: "It may have been charged; that is not known.",
}


class RivyaError(Exception):
    """Base of every error of this library. An error does not change: `about` makes another one.

    Attributes:
        message: what happened, one sentence, never holding a key, a prompt or a signed URL.
        hint: what to do, one sentence.
        code: the service's error code, or one of this library's own.
        status: HTTP status, where there was an answer.
        request_id: the service's ``requestId``, to quote to support.
        task_id: the Rivya task, where there is one.
        order_key: the idempotency key of an order whose outcome is unknown; it names the order to
            ``python -m rivya forget`` and to support.
        charged: whether the order that failed cost credits. None: this error does not say, because the code that
            raised it cannot know. It is set once, where it is proved: by the run of an order, or by `costs_nothing`.
        credits: what it cost in this run, or has reserved, where that is known.
        sent: what the failed attempt proves; see `Sent`.
        retry_after_s: the wait that the service asked for, in seconds.
        row: of a bulk job: the row that failed.
    """

    row: Any = None

    default_hint = ""
    default_code = "error"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        code: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
        task_id: str | None = None,
        order_key: str | None = None,
        charged: Charged | None = None,
        credits: int | None = None,
        sent: Sent = Sent.REFUSED,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = self.default_hint if hint is None else hint
        self.code = code or self.default_code
        self.status = status
        self.request_id = request_id
        self.task_id = task_id
        self.order_key = order_key
        self.charged = charged
        self.credits = credits
        self.sent = sent
        self.retry_after_s = retry_after_s

    def about(self: E, **known: Any) -> E:
        """The same error with more known about it: ``known`` are arguments of the constructor, and ``message``."""
        fields = {name: getattr(self, name) for name in _FIELDS} | known
        return type(self)(fields.pop("message"), **fields).with_traceback(self.__traceback__)

    def __str__(self) -> str:
        """The text for a person: sentence, cost, what to do; identifiers on a line below."""
        cost = _CHARGE_SENTENCES[self.charged] if self.charged is not None else ""
        sentences = " ".join(part for part in (self.message, cost, self.hint) if part)
        details = [
            f"{name}: {value}"
            for name, value in (
                ("code", self.code),
                ("HTTP", self.status),
                ("request", self.request_id),
                ("task", self.task_id),
                ("order", self.order_key),
            )
            if value is not None
        ]
        return f"{sentences}\n\n({', '.join(details)})"

    def as_dict(self) -> dict[str, Any]:
        """The same as plain JSON values, for the report and the ledger."""
        return {
            "type": type(self).__name__,
            "message": self.message,
            "hint": self.hint,
            "code": self.code,
            "status": self.status,
            "request_id": self.request_id,
            "task_id": self.task_id,
            "order_key": self.order_key,
            "charged": self.charged.value if self.charged is not None else None,
        }


_FIELDS = (
    "message",
    "hint",
    "code",
    "status",
    "request_id",
    "task_id",
    "order_key",
    "charged",
    "credits",
    "sent",
    "retry_after_s",
)


class costs_nothing:  # noqa: N801 - used as a block and as a decorator, like those of contextlib
    """A block or a function, also an asynchronous one, that cannot cost credits: its errors say so.

    For work that sends no order: local checks, uploads, questions about the account. An error that says already what
    was charged stays as it is.
    """

    def __call__(self, function: F) -> F:
        """Run ``function`` in such a block each time."""

        def run(*args: Any, **options: Any) -> Any:
            with self:
                return function(*args, **options)

        async def run_async(*args: Any, **options: Any) -> Any:
            with self:
                return await function(*args, **options)

        chosen = run_async if inspect.iscoroutinefunction(function) else run
        return cast(F, functools.wraps(function)(chosen))

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Raise the error as one that says that nothing was charged."""
        if isinstance(error, RivyaError) and error.charged is None:
            raise error.about(charged=Charged.NO) from None


def detached(error: BaseException) -> BaseException:
    """A `RivyaError` without the frames that it came through; any other exception, which is a bug, as it is.

    The locals of those frames hold signed URLs and prompts, which a traceback that shows locals would print.
    """
    if isinstance(error, RivyaError):
        error.__cause__ = error.__context__ = error.__traceback__ = None
    return error


class ConfigurationError(RivyaError):
    """The key, the base URL or another setting is missing or cannot be used."""

    default_code = "configuration"


class LedgerError(RivyaError):
    """The ledger cannot be written, so nothing may be spent."""

    default_code = "ledger_unusable"


class SavingError(RivyaError):
    """A picture cannot be saved where the user wants it: refused before an order, or kept in the result store."""

    default_code = "not_saved"


class RivyaConnectionError(RivyaError):
    """The service could not be reached, or the connection broke."""

    default_code = "connection_failed"
    default_hint = "Check the network and proxy settings, then run again."


class RivyaTimeoutError(RivyaError):
    """Something took longer than it was given."""

    default_code = "timeout"
    default_hint = "Run again: it resumes where it stands and costs nothing more."


class ApiError(RivyaError):
    """The service answered with an error."""

    default_code = "api_error"
    default_hint = "Try again later; if it stays, quote the request id to Rivya support."


class AuthenticationError(ApiError):
    """401: the key is missing, invalid, revoked or expired."""

    default_code = "api_key_invalid"
    default_hint = "Check RIVYA_API_KEY, or set a new key under Settings > Rivya."


class PermissionDeniedError(ApiError):
    """403: the key lacks a scope."""

    default_code = "api_scope_denied"
    default_hint = "Create a key with the scopes files, generations and credits at rivya.ai, and set it here."


class InsufficientCreditsError(ApiError):
    """402: the account does not have enough credits."""

    default_code = "insufficient_credits"
    default_hint = "Top up at rivya.ai, then run again."


class ValidationError(ApiError):
    """A prompt, parameter, reference or request is not what the service takes (local check or 400)."""

    default_code = "validation_failed"
    default_hint = "Correct the value that the message names and run again."


class RateLimitError(ApiError):
    """429, and still so after waiting."""

    default_code = "rate_limited"
    default_hint = "Wait a minute and run again, or lower RIVYA_MAX_CONCURRENCY."


class ConflictError(ApiError):
    """409: the service has this idempotency key already, with another body or still in flight."""

    default_code = "idempotency_conflict"


class NotFoundError(ApiError):
    """404: no such task or file in this account."""

    default_code = "not_found"
    default_hint = "Check that the task belongs to the account of this key."


class ServiceUnavailableError(ApiError):
    """408 or 5xx, and still so after trying again."""

    default_code = "service_unavailable"
    default_hint = "The service has trouble; run again in a few minutes."


class TaskFailedError(RivyaError):
    """The service accepted the order, and the task failed there."""

    default_code = "generation_failed"
    default_hint = "Change the prompt or the picture, or run again for a new attempt."


class UnknownOutcomeError(ConflictError):
    """The order may have been accepted, but the service does not tell its task id."""

    default_code = "unknown_outcome"


class GivenUpError(RivyaError):
    """Nobody waited for the order any more, so its run ended. Known by its class: codes come from the service."""

    default_code = "cancelled"


class UnusableAnswerError(RivyaError):
    """The service, or the host of a result, answered with something that cannot be used."""

    default_code = "unusable_answer"
    default_hint = "Run again; if it stays, report it to Rivya support."


class ImageError(UnusableAnswerError):
    """Bytes that are not a picture this pack takes, or a picture beyond its limits."""

    default_code = "unusable_image"


_BY_CODE: dict[str, type[ApiError]] = {
    "public_api_disabled": ServiceUnavailableError,
    "api_key_missing": AuthenticationError,
    "api_key_invalid": AuthenticationError,
    "api_key_revoked": AuthenticationError,
    "api_key_expired": AuthenticationError,
    "api_scope_denied": PermissionDeniedError,
    "rate_limited": RateLimitError,
    "validation_failed": ValidationError,
    "not_found": NotFoundError,
    "idempotency_conflict": ConflictError,
    "insufficient_credits": InsufficientCreditsError,
}

HINTS = {
    "public_api_disabled": "Rivya has switched its public API off for now; run again later, or use Rivya Studio.",
    "api_key_revoked": "This key was revoked at rivya.ai; create a new one and set it as RIVYA_API_KEY or in Settings.",
    "api_key_expired": "This key has expired; create a new one at rivya.ai and set it as RIVYA_API_KEY or in Settings.",
}
"""What to do, where a code tells more than its class."""

_BY_STATUS: dict[int, type[ApiError]] = {
    400: ValidationError,
    401: AuthenticationError,
    402: InsufficientCreditsError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: ServiceUnavailableError,
    409: ConflictError,
    413: ValidationError,
    415: ValidationError,
    422: ValidationError,
    425: ConflictError,
    429: RateLimitError,
}


def error_class(code: str | None, status: int) -> type[ApiError]:
    """The class for a service error: by its code, else by its HTTP status, else `ApiError`."""
    known = _BY_CODE.get(code or "")
    if known is not None:
        return known
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return ServiceUnavailableError if status >= 500 else ApiError
