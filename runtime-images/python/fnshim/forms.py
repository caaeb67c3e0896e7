"""What a module offers, and which way of handling requests that is.

The order: an object that was named; `handler` or `lambda_handler` of two parameters (lambda); `app`,
`application` (asgi, wsgi); `main`, `handle`, `handler`, or a function named as the function is (function). Where there
is none of them, but a handler for events, that is all (events).
"""

import inspect

from .errors import LoadError

LAMBDA_NAMES = ("handler", "lambda_handler")
APP_NAMES = ("app", "application", "asgi", "wsgi")
FUNCTION_NAMES = ("main", "handle", "handler")
EVENT_NAMES = ("queue", "scheduled", "event")

# Slots where the deployment says nothing (DEFAULT_CONCURRENCY of the contract).
DEFAULT_SLOTS = {"lambda": 1, "function": 50, "wsgi": 10, "asgi": 50, "events": 50}


def detect(module, named, function_name):
    """(form, callable). Raises LoadError with what was looked for."""
    if named is not None:
        return _named(module, named)
    for name in LAMBDA_NAMES:
        found = _callable(module, name)
        if found is not None and _takes(found, 2):
            return "lambda", found
    for name in APP_NAMES:
        found = _callable(module, name)
        if found is not None:
            form = app_form(found)
            if form is not None:
                return form, found
    own = function_name.replace("-", "_")
    for name in (*FUNCTION_NAMES, own):
        found = _callable(module, name)
        if found is not None and not inspect.isclass(found):
            return "function", found
    if event_handlers(module):
        return "events", None
    raise LoadError("NoHandler", _no_handler(module, own))


def event_handlers(module):
    """Those functions of the module that are called for events, by name."""
    found = {name: _callable(module, name) for name in EVENT_NAMES}
    return {name: call for name, call in found.items() if call is not None and not inspect.isclass(call) and _takes(call, 1, 2)}


def _named(module, named):
    found = module
    for part in named.split("."):
        if not hasattr(found, part):
            raise LoadError("NoHandler", f"the module has no {named}: {_offered(module)}")
        found = getattr(found, part)
    if not callable(found):
        raise LoadError("NoHandler", f"{named} is a {type(found).__name__}, which cannot be called")
    last = named.rpartition(".")[2]
    form = app_form(found)
    if form is not None and (last in APP_NAMES or not inspect.isfunction(found) or form == "asgi" or _wsgi_names(found)):
        return form, found
    if last in LAMBDA_NAMES and _takes(found, 2):
        return "lambda", found
    names = _parameters(found) or []
    if len(names) == 2 and names[0] == "event":
        return "lambda", found
    return "function", found


def _callable(module, name):
    found = getattr(module, name, None)
    return found if callable(found) else None


def _call_of(found):
    """The function that calling it runs: of an object its class's __call__."""
    if inspect.isfunction(found) or inspect.ismethod(found) or inspect.isclass(found):
        return found
    return getattr(found, "__call__", found)


def is_async(found):
    call = _call_of(found)
    return inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call)


def _parameters(found):
    """Names of those that can be given by position, or None where that cannot be told."""
    try:
        parameters = inspect.signature(found).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return None
    return [
        parameter.name
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]


def parameter_count(found):
    """How many arguments it takes by position; None where any number does."""
    names = _parameters(found)
    return None if names is None else len(names)


def _takes(found, *counts):
    """Whether it can be called with one of so many arguments by position."""
    try:
        signature = inspect.signature(found)
    except ValueError:
        return True  # written in C: nobody can tell
    except TypeError:
        return False
    for count in counts:
        try:
            signature.bind(*[None] * count)
            return True
        except TypeError:
            continue
    return False


def _wsgi_names(found):
    names = _parameters(found) or []
    return names[:2] == ["environ", "start_response"] or names[:1] == ["environ"]


def app_form(found):
    """`asgi` for what takes (scope, receive, send), `wsgi` for (environ, start_response), or None."""
    if inspect.isclass(found):
        return None
    if is_async(found):
        return "asgi" if _takes(found, 3) else None
    names = _parameters(found)
    if names == ["scope", "receive", "send"]:
        return "asgi"  # a plain function that returns an awaitable
    return "wsgi" if _takes(found, 2) else None


def _offered(module):
    names = [name for name, value in vars(module).items() if not name.startswith("_") and not inspect.ismodule(value)]
    return f"it has {', '.join(names[:10])}" if names else "it has no names of its own"


def _no_handler(module, own):
    for name in (*LAMBDA_NAMES, *APP_NAMES, *FUNCTION_NAMES):
        found = getattr(module, name, None)
        if inspect.isclass(found):
            return f"{name} is a class, which is no handler; make an instance of it: {name} = {found.__name__}()"
    also = "" if own in FUNCTION_NAMES else f" or def {own}(request)"
    return (
        f"the module has no handler: {_offered(module)}; expected one of: def handler(event, context); "
        f"app = Flask(…) or another WSGI or ASGI app; def main(request){also}; "
        "or, for events alone, def queue(batch), def scheduled(event) or def event(event)"
    )
