"""Exit codes: one for each reason, so that a script can tell what went wrong without reading the message.

The first digit names the family; a reason without a code of its own gets the family's one-digit code.

    0 done          3 input           6 address       9 trust
    1 unexpected    4 model           7 device      130 cancelled
    2 usage         5 server          8 disk
"""

from enum import IntEnum


class Exit(IntEnum):
    OK = 0
    UNEXPECTED = 1
    USAGE = 2

    INPUT = 3
    FILE_NOT_FOUND = 30
    NO_AUDIO_FOUND = 31
    EMPTY_AUDIO = 32
    TRUNCATED_AUDIO = 33
    NON_FINITE_AUDIO = 34
    UNSUPPORTED_AUDIO = 35
    OUTPUT_EXISTS = 36

    MODEL = 4
    UNKNOWN_MODEL = 40
    WRONG_CHECKSUM = 41
    MODEL_NOT_DOWNLOADED = 42
    DOWNLOAD_FAILED = 43
    BAD_CHECKPOINT = 44
    UNKNOWN_STEM = 45

    SERVER_UNREACHABLE = 5
    JOB_FAILED = 50
    JOB_NOT_FOUND = 51
    ENGINE_FAILED = 52
    MESSAGE_TOO_LARGE = 53
    OVERLOADED = 54
    DRAINING = 55

    PORT_IN_USE = 6
    SERVER_ALREADY_RUNNING = 60
    BAD_ADDRESS = 61
    TLS_REQUIRED = 62

    GPU = 7
    GPU_NOT_AVAILABLE = 70
    GPU_OUT_OF_MEMORY = 71
    NO_SOUND_DEVICE = 72

    DISK_FULL = 8
    NOT_WRITABLE = 80

    AUTH = 9
    WRONG_TOKEN = 90
    MISSING_TOKEN = 91
    UNTRUSTED_SERVER = 92
    UNSAFE_PATH = 93

    CANCELLED = 130


# Reasons whose name is not that of their code, several reasons may share one.
_BY_REASON: dict[str, Exit] = {}


def exit_code(reason: str) -> int:
    """The code for an error's `reason`; 1 for one that nobody foresaw."""
    return _BY_REASON.get(reason) or Exit.__members__.get(reason, Exit.UNEXPECTED)
