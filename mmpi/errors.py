"""The exception tree: who is at fault decides the class, and the class decides the exit code.

Invariant: a venue's reject, a risk refusal and a data gap are values or events, never one of these.
"""


class MmpiError(Exception):
    """Base of every error that mmpi raises on purpose; `exit_code` is what the command ends with."""

    exit_code = 1


class LocalError(MmpiError):
    """Our own bug: a caller broke a documented rule."""


class ConfigError(MmpiError):
    """Bad input from a person: a config file, a command line, a data file, a key file."""

    exit_code = 2


class RefusedError(MmpiError):
    """Refused for safety: latched, clock untrusted, another quoter running."""

    exit_code = 3


class RemoteError(MmpiError):
    """The venue or the network failed us."""

    exit_code = 4


class JournalError(MmpiError):
    """A journal that cannot be read, or does not replay; the message names segment and offset."""


class DeviceError(MmpiError):
    """A part of the box that does not do its job: the disk under latch and identity, a pin, a lamp, a power line."""

    exit_code = 3
