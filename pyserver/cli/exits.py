"""Exit codes: one for each reason, so that a script can tell what went wrong without reading the message.

The first digit names the family; the one-digit codes are for what has no code of its own. A member carries the name
of the `reason` of the error it stands for, so several names may share a code.

    0 done          3 input           6 address, cluster    9 trust
    1 unexpected    4 model           7 device            130 cancelled
    2 usage         5 server          8 disk, store       141 nobody reads what is printed (128 + SIGPIPE)
"""

from enum import IntEnum


class Exit(IntEnum):
    OK = 0
    UNEXPECTED = 1
    INTERNAL = 1
    USAGE = 2
    BAD_MODEL_NAME = 2

    INPUT = 3
    FILE_NOT_FOUND = 30
    NO_AUDIO_FOUND = 31
    EMPTY_AUDIO = 32
    INPUT_EMPTY = 32
    TRUNCATED_AUDIO = 33
    NON_FINITE_AUDIO = 34
    INPUT_NOT_FINITE = 34
    UNSUPPORTED_AUDIO = 35
    OUTPUT_EXISTS = 36
    OVER_FULL_SCALE = 37
    SAME_OUTPUT = 38
    STEMS_DIFFER = 39

    MODEL = 4
    UNKNOWN_MODEL = 40
    WRONG_CHECKSUM = 41
    DOWNLOAD_CORRUPTED = 41
    MODEL_NOT_DOWNLOADED = 42
    HUB_UNREACHABLE = 43
    DOWNLOAD_INTERRUPTED = 43
    HUB_FILE_NOT_FOUND = 44
    HUB_ACCESS_DENIED = 44
    HUB_ANSWER = 44
    BAD_CHECKPOINT = 45
    TRUNCATED_CHECKPOINT = 45
    LEGACY_CHECKPOINT = 45
    UNKNOWN_NETWORK = 46
    CONFIGURATION_NEEDED = 46
    CONFIGURATION_CONTRADICTED = 46
    KEYS_DO_NOT_FIT = 46
    BAD_CONFIGURATION = 46
    BROKEN_CARD = 47
    MODEL_BROKEN = 47
    UNKNOWN_ARCHITECTURE = 47
    STEM_UNKNOWN = 48
    MODEL_HAS_NO_REFINER = 48
    MODEL_CANNOT = 48
    NO_MODEL_CAN = 48
    ONNX_EXPORT_MISSING = 42
    ONNX_EXPORT_STALE = 41
    ONNX_EXPORT_FAILED = 47
    MODEL_NEEDS_TORCH = 48
    MODEL_IN_USE = 49
    MODEL_EXISTS = 49

    SERVER_UNREACHABLE = 5
    SERVER_LOST = 5
    SERVER_DID_NOT_START = 5
    JOB_FAILED = 50
    JOB_CANCELLED = 50
    JOB_NOT_FOUND = 51
    JOB_WRONG_STATE = 51
    REQUEST_ID_REUSED = 51
    ENGINE_CRASHED = 52
    MODEL_OUTPUT_NOT_FINITE = 52
    MESSAGE_TOO_LARGE = 53
    TOO_MANY_LIVE_SESSIONS = 54
    SHUTTING_DOWN = 55
    INVALID_REQUEST = 56
    JOB_INVALID = 56
    LATENCY_NOT_POSSIBLE = 57
    DEADLINE_MISSED = 57
    UPLOAD_CORRUPTED = 58
    STEM_DAMAGED = 58
    UPLOAD_OUT_OF_ORDER = 58
    JOB_CORRUPTED = 59

    PORT_IN_USE = 6
    SERVER_ALREADY_RUNNING = 60
    STATE_IN_USE = 60
    BAD_ADDRESS = 61
    TLS_REQUIRED = 62
    TLS_FILES = 63
    CLUSTER_UNREACHABLE = 64
    NO_NODE_FITS = 65
    NO_WORKERS_LEFT = 66
    WORKER_LOST = 66
    WORKERS_DIFFER = 67

    GPU = 7
    GPU_NOT_AVAILABLE = 70
    PROVIDER_NOT_ACTIVE = 70
    HALF_PRECISION_NOT_AVAILABLE = 70
    OUT_OF_MEMORY = 71
    NO_SOUND_DEVICE = 72

    DISK_FULL = 8
    NOT_WRITABLE = 80
    STORAGE_UNREACHABLE = 81
    STORAGE_DENIED = 82
    UNKNOWN_PROTOCOL = 83
    PACKAGE_MISSING = 84

    AUTH = 9
    WRONG_TOKEN = 90
    MISSING_TOKEN = 91
    UNTRUSTED_SERVER = 92
    UNSAFE_PATH = 93
    NO_TOKEN_FILE = 94

    CANCELLED = 130
    READER_GONE = 141


def exit_code(reason: str) -> int:
    """The code for an error's `reason`; 1 for one that nobody foresaw."""
    return Exit.__members__.get(reason, Exit.UNEXPECTED)
