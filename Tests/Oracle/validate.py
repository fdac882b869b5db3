"""Validates texts against JSON schemas with the `jsonschema` package.

Reads lines of JSON, {"schema": text, "text": text}, and prints for each one line of JSON: null, or why the text is not
valid. Formats are checked, NaN and half surrogate pairs are no JSON.
"""

import datetime
import json
import re
import sys

import jsonschema

formats = jsonschema.FormatChecker()


@formats.checks("date", raises=ValueError)
def is_date(value):
    return not isinstance(value, str) or bool(datetime.date.fromisoformat(value))


# jsonschema checks these two only if another package is installed.
@formats.checks("date-time", raises=ValueError)
def is_date_time(value):
    if not isinstance(value, str):
        return True
    return bool(re.fullmatch(r"[^T]+T.+(Z|[+-]\d\d:\d\d)", value) and datetime.datetime.fromisoformat(value))


@formats.checks("time", raises=ValueError)
def is_time(value):
    return is_date_time(f"2000-01-01T{value}") if isinstance(value, str) else True


def refuse(name):
    raise ValueError(f"{name} is no JSON")


def fault(schema, text):
    """None, or why `text` is not valid for `schema`, both as JSON text."""
    schema = json.loads(schema)
    validator = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    validator.check_schema(schema)
    try:
        value = json.loads(text, parse_constant=refuse)
        json.dumps(value, ensure_ascii=False).encode()
    except ValueError as error:
        return f"not JSON: {error}"
    error = next(iter(validator(schema, format_checker=formats).iter_errors(value)), None)
    return error and f"{error.json_path}: {error.message}"


if __name__ == "__main__":
    for line in sys.stdin:
        case = json.loads(line)
        print(json.dumps(fault(case["schema"], case["text"])))
