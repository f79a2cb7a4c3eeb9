"""Every error that the two packages raise on purpose.

LandscapeError
├── ConfigError            a flag, a value or a configuration file is wrong
├── ProblemError           a model, data set or loss cannot be had or does not work
│   └── MissingDataError   the files of a data set are not where they were looked for
├── CheckpointError        a checkpoint cannot be used
│   ├── CorruptFileError       truncated, altered, or not a checkpoint at all
│   ├── UntrustedPickleError   loading it would run code that it brings along
│   └── NonFiniteError         it holds NaN or infinity, or its Hessian does
├── LayoutError            tensors do not fit each other or the model
├── PlaceError             a network is asked to be at two points at once
├── ResultError            a result file cannot be used
│   └── ProvenanceError        it was measured under other settings
├── StorageError           a file cannot be written; what was there before is whole
│   └── BusyError              another process is writing it
├── DivergedError          a training loss became NaN or infinite
└── Interrupted            stopped by a signal; what is done is on disk
"""


class LandscapeError(Exception):
    """Base of all errors; its message says what was got, what was expected and what to do."""


class ConfigError(LandscapeError):
    """A flag, a value or a configuration file is wrong."""


class ProblemError(LandscapeError):
    """A model, a data set or a loss cannot be had or does not work."""


class MissingDataError(ProblemError):
    """The files of a data set are not in the folder where they were looked for."""


class CheckpointError(LandscapeError):
    """A checkpoint cannot be used."""


class CorruptFileError(CheckpointError):
    """A file is truncated, altered, or not a checkpoint at all."""


class UntrustedPickleError(CheckpointError):
    """Loading a file would run code that the file brings along."""


class NonFiniteError(CheckpointError):
    """A checkpoint holds NaN or infinity, or the Hessian of its loss does."""


class LayoutError(LandscapeError):
    """The names or shapes of tensors do not fit each other or the model."""


class PlaceError(LandscapeError):
    """A network is asked to be at two points at once."""


class ResultError(LandscapeError):
    """A result file cannot be used."""


class ProvenanceError(ResultError):
    """A result was measured under other settings than those asked for."""


class StorageError(LandscapeError):
    """A file cannot be written; what was there before is whole."""


class BusyError(StorageError):
    """Another process is writing the same output."""


class DivergedError(LandscapeError):
    """A training loss became NaN or infinite."""


class Interrupted(LandscapeError):
    """Work was stopped by a signal; what was done is on disk and can go on."""
