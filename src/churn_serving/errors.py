"""Every error this package raises on purpose; none of them knows about HTTP.

    ChurnServingError
    ├── SettingsError                 the configuration is impossible or dangerous
    │   └── PolicyError               the file of the retention policy says nothing sensible
    ├── DataError                     a table was refused
    ├── ModelError
    │   ├── ModelNotFoundError        the store has no such model
    │   ├── ModelCorruptedError       the stored files are not the ones that were registered
    │   ├── ModelForeignError         the model was not registered by this package
    │   ├── ModelMismatchError        the model was trained with other columns than the code makes
    │   ├── ModelPickledError         the model can only be unpickled, which is not allowed here
    │   ├── ModelUntrustedError       the model is not signed by whom the operator trusts
    │   ├── UnsupportedEstimatorError the estimator has no portable form
    │   └── ModelStoreError           the store cannot be read
    ├── RequestError                  the caller's fault; ``detail`` says where
    │   ├── MalformedBodyError        not JSON
    │   ├── BodyTooLargeError         over the body limit
    │   ├── BodyTooSlowError          not complete in time
    │   ├── ClientGoneError           closed the connection before the answer
    │   ├── MalformedHeaderError      a header that says nothing sensible
    │   ├── UnauthorizedError         no API key, or a wrong one
    │   ├── UnsupportedMediaTypeError not sent as JSON
    │   └── ValidationFailedError     JSON, but not a valid customer
    ├── NotReadyError                 no model is loaded (yet, or any more)
    │   └── RunnerUnreachableError    the model is another service, which does not answer
    ├── ShedError                     refused at once, to keep what was promised to others
    │   ├── OverloadedError           too much work
    │   │   ├── QueueFullError        the queue is full
    │   │   ├── DeadlineUnreachableError  the queue is too long for this deadline
    │   │   └── TooManyBodiesError    too many bodies are on their way
    │   └── BreakerOpenError          the model has failed too often
    ├── ScoringError                  the model raised or returned no probability
    └── DeadlineExceededError         the answer would have come too late

Status codes are given to these classes in one place, ``churn_serving.http.problems``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, TypedDict

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "BodyTooLargeError",
    "BodyTooSlowError",
    "BreakerOpenError",
    "ChurnServingError",
    "ClientGoneError",
    "DataError",
    "DeadlineExceededError",
    "DeadlineUnreachableError",
    "Failure",
    "MalformedBodyError",
    "MalformedHeaderError",
    "ModelCorruptedError",
    "ModelError",
    "ModelForeignError",
    "ModelMismatchError",
    "ModelNotFoundError",
    "ModelPickledError",
    "ModelStoreError",
    "ModelUntrustedError",
    "NotReadyError",
    "OverloadedError",
    "PolicyError",
    "QueueFullError",
    "RequestError",
    "RunnerUnreachableError",
    "ScoringError",
    "SettingsError",
    "ShedError",
    "TooManyBodiesError",
    "UnauthorizedError",
    "UnsupportedEstimatorError",
    "UnsupportedMediaTypeError",
    "ValidationFailedError",
]


class Failure(TypedDict):
    """One reason why an input was refused. Never holds the submitted value."""

    loc: list[str | int]
    msg: str
    type: str


class ChurnServingError(Exception):
    """The root of every error raised on purpose; its text is one sentence for a person."""


class SettingsError(ChurnServingError):
    """A setting is impossible or dangerous; the message names it."""


class PolicyError(SettingsError):
    """The file of the retention policy cannot be used; the message names the figure."""


class DataError(ChurnServingError):
    """A table was refused; the message names the file, the column or the rows."""


class ModelError(ChurnServingError):
    """The registered model cannot be used."""


class ModelNotFoundError(ModelError):
    """The model store has no model under this tag."""


class ModelCorruptedError(ModelError):
    """The stored files differ from the ones that were registered."""


class ModelForeignError(ModelError):
    """The model was saved by something else, without what serving needs."""


class ModelPickledError(ModelError):
    """The model can only be run by unpickling it, which is not allowed, or not possible, here."""


class ModelUntrustedError(ModelError):
    """The model is not signed, not as it was signed, or signed by somebody else."""


class UnsupportedEstimatorError(ModelError):
    """The estimator has no portable form; the message lists the kinds that have one."""


class ModelStoreError(ModelError):
    """The model store cannot be read by this user."""


class ModelMismatchError(ModelError):
    """The model was trained with other columns than this code makes of a customer."""


class RequestError(ChurnServingError):
    """The caller sent something that cannot be answered; ``detail`` says where it is wrong."""

    def __init__(self, message: str, detail: Sequence[Failure] = ()) -> None:
        super().__init__(message)
        self.detail = list(detail)


class MalformedBodyError(RequestError):
    """The body is not JSON."""


class BodyTooLargeError(RequestError):
    """The body is larger than the limit."""


class BodyTooSlowError(RequestError):
    """The body was not complete in time."""


class ClientGoneError(RequestError):
    """The client closed the connection before it got its answer."""


class MalformedHeaderError(RequestError):
    """A header has a value that makes no sense."""


class UnauthorizedError(RequestError):
    """The request has no API key, or a wrong one."""


class UnsupportedMediaTypeError(RequestError):
    """The body was not sent as JSON."""


class ValidationFailedError(RequestError):
    """The body is JSON but does not describe valid customers."""


class NotReadyError(ChurnServingError):
    """No model is loaded: the service starts or stops."""


class RunnerUnreachableError(NotReadyError):
    """The service that runs the model does not answer."""


class ShedError(ChurnServingError):
    """Work that is refused at once, to keep what was promised to others."""

    reason: ClassVar[str]
    """Why, as a label of ``ml_shed_total``."""

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds after which it is worth another try."""


class OverloadedError(ShedError):
    """There is more work than can be done in time."""


class QueueFullError(OverloadedError):
    """There is more work waiting than the queue may hold."""

    reason = "queue_full"


class DeadlineUnreachableError(OverloadedError):
    """The queue is so long that the answer would come after the deadline."""

    reason = "deadline"


class TooManyBodiesError(OverloadedError):
    """Too many request bodies are arriving piece by piece."""

    reason = "slow_bodies"


class BreakerOpenError(ShedError):
    """The model has failed so often that it is left alone for a while."""

    reason = "breaker_open"


class ScoringError(ChurnServingError):
    """The model raised, or returned something that is not a probability."""


class DeadlineExceededError(ChurnServingError):
    """The answer was not ready before the request's deadline."""
