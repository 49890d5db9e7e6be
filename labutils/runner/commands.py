"""How commands of the collection end. Nothing heavy is loaded here: to ask for help costs nothing."""

import os
import select
import sys
from collections.abc import Callable
from typing import TextIO

REFUSED = 2
READER_LEFT = 141  # what a shell reports of a program that ended by SIGPIPE


def finish_command(command: Callable[[], int]) -> int:
    """Carry out a command and return its exit status.

    It is the command's own; 2 for a ValueError or LookupError, and for what the system refuses, such as to write on a
    full disk: the message goes to stderr; and 141, without a word, where nobody reads the output any more, as behind
    `| head`.
    """
    try:
        try:
            return _do_or_refuse(command)
        finally:
            # What is left in the buffer would otherwise fail when Python ends, where nothing can catch it.
            sys.stdout.flush()
    except BrokenPipeError:
        left = [stream for stream in (sys.stdout, sys.stderr) if _has_lost_its_reader(stream)]
        if not left:  # another pipe broke, such as that of a worker process
            raise
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in left:
            os.dup2(nowhere, stream.fileno())
        return READER_LEFT


def _do_or_refuse(command: Callable[[], int]) -> int:
    try:
        return command()
    except (ValueError, LookupError) as error:
        # A KeyError writes its message in quotes; the text alone is wanted.
        print(f"labutils: {error.args[0] if error.args else error}", file=sys.stderr)
        return REFUSED
    except BrokenPipeError:
        raise
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror or error
        print(f"labutils: {what}", file=sys.stderr)
        return REFUSED


def _has_lost_its_reader(stream: TextIO) -> bool:
    """Whether a stream is a pipe whose other end is closed: the system then reports an error of it, asked or not."""
    watched = select.poll()
    watched.register(stream.fileno(), 0)
    return bool(watched.poll(0))
