"""Errors of user code: told in the positions of its source, whatever was raised, and never raised on."""

import os
import sys
import traceback

from .limits import MAX_ERROR_AT, MAX_ERROR_MESSAGE, MAX_ERROR_NAME, MAX_ERROR_STACK

_SHIM_FOLDER = os.path.dirname(os.path.abspath(__file__)) + "/"
_code_folders = ()

# Folders of a bundle that hold packages of others.
PACKAGE_FOLDERS = ("site-packages", "vendor")


class LoadError(Exception):
    """An error of the function, of the shim's own finding: it has no stack that would tell anything."""

    def __init__(self, name, message):
        super().__init__(message)
        self.name = name


def set_code_folder(folder):
    """Positions in files below this folder are told without it."""
    global _code_folders
    _code_folders = tuple(dict.fromkeys(path.rstrip("/") + "/" for path in (folder, os.path.realpath(folder))))


def _in_code(path):
    for folder in _code_folders:
        if path.startswith(folder):
            return path[len(folder) :]
    return None


def _is_internal(path):
    return path.startswith(_SHIM_FOLDER) or path.startswith("<frozen importlib")


def _shorten(text):
    for folder in _code_folders:
        text = text.replace(folder, "")
    return text


def _without_internals(error):
    """A TracebackException without the frames of the shim and of the importer, causes included."""
    told = traceback.TracebackException.from_exception(error, limit=None, compact=True)
    seen = set()
    todo = [told]
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        one.stack = traceback.StackSummary.from_list(
            [frame for frame in one.stack if not _is_internal(frame.filename)]
        )
        todo += [one.__cause__, one.__context__, *(one.exceptions or ())]
    return told


def error_text(error):
    """An error for the log: the stack and its causes."""
    try:
        if isinstance(error, LoadError):
            return f"{error.name}: {error}"
        return _shorten("".join(_without_internals(error).format())).rstrip("\n")
    except BaseException:
        return "an error that cannot be printed"  # a hostile __str__


def error_name(error):
    try:
        return str(error.name if isinstance(error, LoadError) else type(error).__name__)[:MAX_ERROR_NAME]
    except BaseException:
        return "Error"


def describe_error(error):
    """An error for the platform: name, message, at, stack."""
    try:
        return _describe(error)
    except BaseException:
        return {"name": error_name(error), "message": "an error that cannot be printed"}


def _describe(error):
    described = {"name": error_name(error), "message": _shorten(_message(error))[:MAX_ERROR_MESSAGE]}
    if isinstance(error, LoadError):
        return described
    at = _position(error)
    if at is not None:
        described["at"] = at[:MAX_ERROR_AT]
    described["stack"] = error_text(error)[:MAX_ERROR_STACK]
    return described


def _message(error):
    if isinstance(error, SyntaxError):
        return str(error.msg)
    return str(error)


def _position(error):
    """The innermost place in the user's own source; one in a package only where there is none of his."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        name = _in_code(error.filename)
        if name is not None and error.lineno:
            return f"{name}:{error.lineno}" + (f":{error.offset}" if error.offset else "")
    in_package = None
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        name = _in_code(frame.filename)
        if name is None:
            continue
        position = f"{name}:{frame.lineno}"
        if not any(f"{folder}/" in name for folder in PACKAGE_FOLDERS):
            return position
        in_package = in_package or position
    return in_package


def capture_uncaught():
    """What nothing catches on a thread of the function's, or in a finaliser, is logged, and goes no further."""
    import threading

    from .logs import log

    def on_thread(args):
        if args.exc_type is not SystemExit and args.exc_value is not None:
            name = "a thread" if args.thread is None else args.thread.name
            log("error", "err", f"Uncaught exception in {name}: {error_text(args.exc_value)}")

    def on_unraisable(args):
        if args.exc_value is not None:
            log("error", "err", f"{args.err_msg or 'Exception ignored in'} {args.object!r}: {error_text(args.exc_value)}")

    threading.excepthook = on_thread
    sys.unraisablehook = on_unraisable
