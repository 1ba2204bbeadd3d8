"""Log lines as JSON (or text), to stderr and to a rotating file in the state directory."""

import json
import logging
import sys
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Literal

LogFormat = Literal["json", "text"]

MAX_FILE_BYTES, OLD_FILES = 4 * 1024 * 1024, 3
_STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, logger, message, and whatever was passed as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD_FIELDS}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure(form: LogFormat, level: str, file: Path) -> None:
    """Sends the log of this process to stderr in `form` and, always as JSON, to `file`."""
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    to_stderr = logging.StreamHandler(sys.stderr)
    to_stderr.setFormatter(JsonFormatter() if form == "json" else text)
    to_file = RotatingFileHandler(file, maxBytes=MAX_FILE_BYTES, backupCount=OLD_FILES, encoding="utf-8", delay=True)
    to_file.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[to_stderr, to_file], force=True)
