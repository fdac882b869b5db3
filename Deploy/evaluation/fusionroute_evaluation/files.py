"""Task files and data files: JSON, an object a line."""

import contextlib
import json
import os
import tempfile


class BadInput(Exception):
    """A file or a line that cannot be used; the text says which, and why."""


MAXIMUM_LINE = 16 << 20


def parse(text, source):
    """An object of a line. Raises BadInput."""
    if len(text) > MAXIMUM_LINE:
        raise BadInput(f"{source}: the line is longer than {MAXIMUM_LINE} characters")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{source}: this is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadInput(f"{source}: a line must be an object")
    return value


def read(path):
    """All objects of a file. Raises BadInput that names file, line and fault."""
    try:
        with open(path, encoding="utf-8") as file:
            found = [parse(line, f"{path}:{number}") for number, line in enumerate(file, 1) if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error
    if not found:
        raise BadInput(f"{path} has no lines")
    return found


def write(path, lines):
    """Writes a file of objects, complete or not at all."""
    folder = os.path.dirname(path) or "."
    os.makedirs(folder, exist_ok=True)
    file = tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=folder, delete=False)
    try:
        with file:
            for line in lines:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.chmod(file.name, 0o644)
        os.replace(file.name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(file.name)
        raise
