"""What the commands that write data take."""

import argparse
import json


def parser_of(prog):
    """FOLDER, a seed, the short form, the report alone, and other sizes."""
    parser = argparse.ArgumentParser(prog=prog)
    parser.add_argument("folder")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--sizes", type=json.loads, default={}, metavar="JSON")
    return parser


def parsed(parser, arguments, sizes):
    """The options; ends the program with a message if sizes are named that are none of `sizes`."""
    options = parser.parse_args(arguments)
    unknown = set(options.sizes) - set(sizes)
    if unknown:
        parser.error(f"unknown sizes {', '.join(sorted(unknown))}; there are {', '.join(sizes)}")
    return options
