"""Which version of a model is the champion: what is served unless another one is named.

BentoML's store knows only ``latest``, the version that was saved last. To be served is a person's
decision, so it stands in a file of its own, ``aliases.json`` in the name's folder of the store,
with its history. It is replaced by a rename, so a reader sees the old one or the new one.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from churn_serving.errors import ModelCorruptedError, ModelNotFoundError
from churn_serving.model.portable import read_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = [
    "ALIASES",
    "CHAMPION",
    "LATEST",
    "Aliases",
    "Change",
    "locked",
    "promote",
    "read_aliases",
    "replace_file",
    "roll_back",
]

ALIASES: Final = "aliases.json"
CHAMPION: Final = "champion"
LATEST: Final = "latest"

MAX_REASON: Final = 500
_MAX_CHANGES: Final = 1000
"""Older ones are forgotten."""
_MAX_BYTES: Final = 4 * 1024**2
_LOCK: Final = ".lock"


def _printable(text: str) -> str:
    """Refuse what a terminal would obey."""
    if not text.isprintable():
        raise ValueError("it holds control characters")
    return text


Version: TypeAlias = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9_.-]{0,61}[a-z0-9])?$")]
Text: TypeAlias = Annotated[str, Field(max_length=MAX_REASON), AfterValidator(_printable)]
Time: TypeAlias = Annotated[str, Field(pattern=r"^[0-9T:.+-]{10,40}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Change(_Part):
    """One change of an alias.

    Attributes:
        alias: Which one.
        version: What it means from then on.
        previous: What it meant before; None: nothing.
        at: When, in UTC.
        by: The user who ran the command, or ''.
        reason: What that user said of it.
        rolled_back: It took the change before it back.
    """

    alias: Literal["champion"] = "champion"
    version: Version
    previous: Version | None
    at: Time
    by: Text = ""
    reason: Text = ""
    rolled_back: bool = False


class Aliases(_Part):
    """What the aliases of one name mean, and how that came about.

    Attributes:
        champion: The version that is served unless another one is named; None: the latest.
        history: The changes, the oldest first.
    """

    champion: Version | None = None
    history: tuple[Change, ...] = ()

    @property
    def before(self) -> str | None:
        """The champion before this one, those that were rolled back left out."""
        standing: list[str | None] = []
        for change in self.history:
            if not change.rolled_back:
                standing = [*(standing or [change.previous]), change.version]
            elif standing:
                standing.pop()
        return standing[-2] if len(standing) > 1 else None


def read_aliases(folder: Path) -> Aliases:
    """Return the aliases that stand in the folder of a name.

    Raises:
        ModelCorruptedError: The file says nothing sensible.
        OSError: It cannot be read.
    """
    try:
        if not os.path.lexists(folder / ALIASES):
            return Aliases()
        return Aliases.model_validate_json(read_file(folder / ALIASES, _MAX_BYTES))
    except (FileNotFoundError, NotADirectoryError):
        reason = "is no file"
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part)[:40] for part in first["loc"][:4])
        reason = f"says nothing sensible{f' at {where!r}' if where else ''}: {first['msg'][:200]}"
    except ValueError as error:
        reason = f"cannot be right: {error}"
    raise ModelCorruptedError(
        f"{folder / ALIASES}, which says what version of '{folder.name}' is the champion, "
        f"{reason}; remove it, and promote a version anew, or name the version to serve"
    )


def promote(folder: Path, version: str, *, by: str, reason: str) -> Change | None:
    """Make a version the champion; None: it is that already.

    Args:
        folder: That of the name in the model store.
        version: One that can be served.
        by: The user.
        reason: Why, for those who read the history.

    Raises:
        ModelCorruptedError: The file of the aliases says nothing sensible; it stays as it is.
        OSError: The store cannot be written.
    """
    with locked(folder):
        aliases = read_aliases(folder)
        if aliases.champion == version:
            return None
        change = _change(version, aliases.champion, by=by, reason=reason)
        _write(folder, aliases, change)
    return change


def roll_back(folder: Path, expected: str, *, by: str, reason: str) -> Change:
    """Make the champion before this one the champion again.

    Args:
        folder: That of the name in the model store.
        expected: The version that was looked at, and can be served.
        by: The user.
        reason: Why, for those who read the history.

    Raises:
        ModelNotFoundError: Somebody else has changed the champion meanwhile.
        ModelCorruptedError: The file of the aliases says nothing sensible; it stays as it is.
        OSError: The store cannot be written.
    """
    with locked(folder):
        aliases = read_aliases(folder)
        if aliases.before != expected:
            raise ModelNotFoundError(
                f"The champion of '{folder.name}' was changed meanwhile; look at it with: "
                f"churn model history {folder.name}"
            )
        change = _change(expected, aliases.champion, by=by, reason=reason, rolled_back=True)
        _write(folder, aliases, change)
    return change


def _change(version: str, previous: str | None, **rest: Any) -> Change:  # noqa: ANN401 - as Change has them
    return Change(
        version=version,
        previous=previous,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        **rest,
    )


def _write(folder: Path, aliases: Aliases, change: Change) -> None:
    new = Aliases(
        champion=change.version, history=(*aliases.history[-(_MAX_CHANGES - 1) :], change)
    )
    replace_file(folder / ALIASES, new.model_dump_json(indent=1).encode() + b"\n")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep others from changing what a name's folder says of its versions meanwhile.

    Whoever reads need not wait: what is read is replaced as a whole.
    """
    import fcntl  # noqa: PLC0415 - who only reads needs it not

    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new one, and never a part."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with scratch.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
