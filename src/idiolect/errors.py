"""Every error that idiolect raises on purpose.

    IdiolectError                 anything a user can mend; the command line prints it as one line and exits with `exit_code`
    ├── InputError                what was given is wrong (exit 2)
    │   ├── ConfigError           settings that cannot be; lists all problems at once
    │   ├── FileFormatError       a file is not what it should be: name, line and field
    │   ├── TaskFieldError        an item lacks a field that the task needs
    │   ├── LabelError            an answer outside the task's labels or scale
    │   └── AnswerTooLongError    an answer that the base's context cannot hold
    ├── NotFoundError             what was named does not exist (exit 3)
    │   ├── PersonNotFound
    │   ├── EmptyHistory
    │   ├── AdapterNotFound
    │   ├── TaskAdapterNotFound
    │   ├── PieceNotFound         a piece that was never in the pool, or was withdrawn
    │   └── BaseNotFound
    ├── MismatchError             two things that do not belong together (exit 4)
    │   ├── BaseMismatch          an adapter made for another base or task adapter
    │   ├── TargetMismatch        target modules that this base does not have
    │   └── ShapeError            tensors whose sizes disagree
    ├── StoreError                the store could not keep what it was given; nothing was half-written (exit 5)
    │   ├── StoreBusy             another run holds the store
    │   └── CorruptBlob           a file whose digest is not its name
    └── DependencyMissing         an optional library is not installed; the message has the command (exit 6)

Messages say what failed, for which value, and what to do next. They never hold a person's text.
"""

from __future__ import annotations


class IdiolectError(Exception):
    """Anything a user can mend."""

    exit_code = 1


class InputError(IdiolectError):
    """What was given is wrong."""

    exit_code = 2


class ConfigError(InputError):
    """Settings that cannot be; lists all problems at once."""


class FileFormatError(InputError):
    """A file is not what it should be: name, line and field."""


class TaskFieldError(InputError):
    """An item lacks a field that the task needs."""


class LabelError(InputError):
    """An answer outside the task's labels or scale."""


class AnswerTooLongError(InputError):
    """An answer that the base's context cannot hold."""


class NotFoundError(IdiolectError):
    """What was named does not exist."""

    exit_code = 3


class PersonNotFound(NotFoundError):
    """No such person in the store."""


class EmptyHistory(NotFoundError):
    """A person without items to learn from."""


class AdapterNotFound(NotFoundError):
    """No such adapter, or none for this person, base and task."""


class TaskAdapterNotFound(NotFoundError):
    """Stage 2 was asked for before stage 1."""


class PieceNotFound(NotFoundError):
    """No such piece in the pool: never there, or withdrawn."""


class BaseNotFound(NotFoundError):
    """No base that can be loaded at this path or id."""


class MismatchError(IdiolectError):
    """Two things that do not belong together."""

    exit_code = 4


class BaseMismatch(MismatchError):
    """An adapter made for another base or task adapter."""


class TargetMismatch(MismatchError):
    """Target modules that this base does not have."""


class ShapeError(MismatchError):
    """Tensors whose sizes disagree."""


class StoreError(IdiolectError):
    """The store could not keep what it was given; nothing was half-written."""

    exit_code = 5


class StoreBusy(StoreError):
    """Another run holds the store."""


class CorruptBlob(StoreError):
    """A file whose digest is not its name."""


class DependencyMissing(IdiolectError):
    """An optional library is not installed; the message has the command."""

    exit_code = 6
