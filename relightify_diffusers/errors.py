"""The errors a user can cause, each with the exit code that the command line returns for it."""


class RelightifyError(Exception):
    """Base of every error that is explained to the user in one line; `exit_code` is the process exit status."""

    exit_code = 1


class UsageError(RelightifyError):
    """The command or call was asked for something that cannot be done as written."""

    exit_code = 2


class NoFaceError(RelightifyError):
    """No usable face was found in the photo."""

    exit_code = 3


class UnsuitableImageError(RelightifyError):
    """The image is unreadable, truncated or not fit for reconstruction."""

    exit_code = 4


class AssetError(RelightifyError):
    """A model, a head asset or a weight file could not be loaded."""

    exit_code = 5
