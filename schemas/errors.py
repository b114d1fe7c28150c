"""The base of every error of this tree, and the one line that people see of a foreign one."""

from __future__ import annotations


class GigawatchError(Exception):
    """Something that cannot be done. The message is for people: what was wrong, where, and what to do.

    Subclasses carry data for code. The command line catches this class once: one line on standard error, exit code 1.
    """


class AddressError(GigawatchError, RuntimeError):
    """A process must not listen at an address, or cannot because it is in use. Names the option and the address."""


def first_line(err: BaseException, limit: int = 300) -> str:
    """Returns the first line of an error's text, at most `limit` characters; the class name of one without text.

    ClickHouse's driver puts the request before the server's answer: only the answer is kept.
    """
    text = str(err).split("server response: ")[-1].strip()
    return (text.split("\n")[0].rstrip() or type(err).__name__)[:limit]
