"""The errors this project raises on purpose, each with its HTTP status and the exit code of a command."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:  # pydantic takes longer to import than `tsal --help` may take
    from pydantic import ValidationError


class BackendError(Exception):
    """Something a user can mend; the message says what to change."""

    http_status = 500
    exit_code = 1
    retry: ClassVar[Literal["never", "limited", "always"]] = "never"
    """How often a job that fails by it is tried again before it is parked: ``always`` if a service is away."""


class SettingsError(BackendError):
    """A setting is missing or has a value that cannot be used."""

    exit_code = 2


class InvalidRequest(BackendError):
    """A request or a command line that is not of the expected form."""

    http_status = 400
    exit_code = 2

    @classmethod
    def of(cls, error: ValidationError, within: str = "") -> InvalidRequest:
        """Name the first field that is wrong, ``within`` another one, and what it should be."""
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in (within, *problem["loc"]) if part != "")
        return cls(f"field {where}: {problem['msg']}")


class Unauthorized(BackendError):
    """A request without the right password or secret."""

    http_status = 401


class TooManyAttempts(BackendError):
    """A request from where too many wrong passwords came."""

    http_status = 429


class ConfigurationUnusable(BackendError):
    """A labelling configuration that this backend cannot work with."""

    http_status = 400
    exit_code = 2


class UnknownLabel(BackendError):
    """An annotation that names a symptom outside the label set."""

    http_status = 400


class NetworkNeeded(BackendError):
    """A process that holds no network would have to compute something."""


class FrameUnreadable(BackendError):
    """A frame that cannot be fetched or decoded; costs only itself."""

    http_status = 422
    retry = "limited"


class ExtraMissing(BackendError):
    """A library that only an extra of this package brings is not installed."""

    exit_code = 3


class NotWritten(BackendError):
    """A folder that cannot be written, for example because the disk is full."""


class WeightsUnavailable(BackendError):
    """Pre-trained weights that cannot be had on this machine."""

    exit_code = 3
    retry = "always"


class StudioUnavailable(BackendError):
    """Label Studio does not answer."""

    http_status = 503
    exit_code = 4
    retry = "always"


class BackendUnavailable(BackendError):
    """The backend does not answer, or refuses a request of ours."""

    http_status = 503


class StudioRefused(BackendError):
    """Label Studio answered, and refused: unknown project, wrong token, invalid values."""

    http_status = 502
    exit_code = 5
    retry = "limited"


class BucketUnusable(BackendError):
    """A bucket that does not answer, is not there, or may not be listed or written to."""

    exit_code = 10


class RedisUnavailable(BackendError):
    """Redis does not answer."""

    http_status = 503
    exit_code = 6
    retry = "always"


class PacsUnavailable(BackendError):
    """A PACS does not answer."""

    exit_code = 8


class PacsRefused(BackendError):
    """A PACS answered, and refused: wrong credentials, no right to read, or it does not speak DICOMweb."""

    exit_code = 9


class NotEnoughLabels(BackendError):
    """A training set the network cannot learn from; more annotations will mend it."""

    http_status = 409


class VersionSuperseded(BackendError):
    """A version whose place in the line was taken while it was trained."""

    http_status = 409


class ActiveVersionChanged(BackendError):
    """Another version is active than the one that was to be replaced."""

    http_status = 409


class FinishStands(BackendError):
    """A finish stands, and what was asked would make it void."""

    http_status = 409


class VersionUnknown(BackendError):
    """A model version that is not in the store, is damaged, or does not fit the project as it is now."""

    http_status = 404


class DataTooNew(BackendError):
    """A data folder or a version that a newer release wrote, in a format that this one cannot read."""

    http_status = 503
    exit_code = 7


class BackupUnusable(BackendError):
    """A file that is no backup, is damaged, or holds what no backup holds."""


class ExportFailed(BackendError):
    """A network that cannot be exported, or whose exported file does not say what the network says."""


class Busy(BackendError):
    """Too many requests at once."""

    http_status = 503


def printable(text: str) -> str:
    """Replace what a terminal would obey instead of show, such as an escape sequence in the name of a file."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
