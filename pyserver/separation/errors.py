"""Causes for which a job or a live session cannot go on. `service` gives each a gRPC code by its `reason`."""

from pyserver.errors import StemlineError


class DeadlineMissed(StemlineError):
    """A live window's time was over before its computation could begin."""

    reason = "DEADLINE_MISSED"


class LatencyNotPossible(StemlineError):
    """This machine cannot hold the latency asked for; `possible_latency_s` in the metadata is one it can, if any."""

    reason = "LATENCY_NOT_POSSIBLE"


class TooManyLiveSessions(StemlineError):
    """Another live session would make those that are open miss their deadlines."""

    reason = "TOO_MANY_LIVE_SESSIONS"


class JobNotFound(StemlineError):
    """There is no job of this id; it may have been deleted or have expired."""

    reason = "JOB_NOT_FOUND"


class JobConflict(StemlineError):
    """A request id was used again with other settings."""

    reason = "REQUEST_ID_REUSED"


class JobCorrupted(StemlineError):
    """A job's files on disk cannot be read; deleting the job is all that helps."""

    reason = "JOB_CORRUPTED"


class JobInvalid(StemlineError):
    """The settings of a job make no sense; the message says which."""

    reason = "JOB_INVALID"


class JobWrongState(StemlineError):
    """The job is not in the state this call needs (`state` in the metadata)."""

    reason = "JOB_WRONG_STATE"


class StemUnknown(StemlineError):
    """A stem that the model does not give, or that this job was not asked for."""

    reason = "STEM_UNKNOWN"


class InputEmpty(StemlineError):
    """A song without a single sample has no stems."""

    reason = "INPUT_EMPTY"


class InputNotFinite(StemlineError):
    """The input holds NaN or Inf; `frame` and `channel` in the metadata say where the first one is."""

    reason = "INPUT_NOT_FINITE"


class UploadOutOfOrder(StemlineError):
    """A chunk does not begin where the input ends; `committed_bytes` in the metadata says where to go on."""

    reason = "UPLOAD_OUT_OF_ORDER"


class StateInUse(StemlineError):
    """Another server works with the same job store."""

    reason = "STATE_IN_USE"
