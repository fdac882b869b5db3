"""What commands take."""

import argparse
import json

USAGE = 64


class Parser(argparse.ArgumentParser):
    """Ends with sysexits.h's code for wrong usage, as all commands here do; argparse's own is 2."""

    def error(self, message):
        self.exit(USAGE, f"{self.format_usage()}{self.prog}: {message}\n")


def counts(text):
    """What is written as a JSON object of names and whole numbers."""
    try:
        value = json.loads(text)
    except ValueError as fault:
        raise argparse.ArgumentTypeError(f"it is no JSON: {fault}") from fault
    if not isinstance(value, dict) or any(type(number) is not int or number < 0 for number in value.values()):
        raise argparse.ArgumentTypeError(f"{text} is no JSON object of names and whole numbers from 0")
    return value


def parser_of(prog):
    """Of the commands that write data: FOLDER, a seed, the short form, the report alone, and other sizes."""
    parser = Parser(prog=prog)
    parser.add_argument("folder")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--sizes", type=counts, default={}, metavar="JSON")
    return parser


def parsed(parser, arguments, sizes):
    """The options; ends the program with a message if sizes are named that are none of `sizes`."""
    options = parser.parse_args(arguments)
    unknown = set(options.sizes) - set(sizes)
    if unknown:
        parser.error(f"unknown sizes {', '.join(sorted(unknown))}; there are {', '.join(sizes)}")
    return options
