"""The errors that are told to the user as one message, with exit code 1."""

from pvt_spec.words import presentable


class PvtError(Exception):
    """Bad input, told in full: what was got, what was expected, what to do next.

    Whatever a file or a library has put into the message, it is fit for a terminal.
    """

    def __init__(self, message: object):
        super().__init__(presentable(str(message)))


class ConfigError(PvtError):
    """A model configuration or model description that cannot be."""


class ArgumentError(ConfigError, TypeError):
    """An argument of a function, or a field of a record, that is of another type."""


class ImageError(PvtError):
    """An image, or a folder of images, that cannot be used."""


class FileExists(PvtError):
    """A target that exists and may not be overwritten without ``--force``."""


class ConvertError(PvtError):
    """A weight file that cannot be read or written as asked: what is wrong, where, what to do."""


class RuntimeUnusable(PvtError):
    """A runtime that cannot run a model as it is asked to, or not on this machine."""
