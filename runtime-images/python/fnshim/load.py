"""Loading the user's module: once, with every way in which it can go wrong told as the function's own error."""

import builtins
import importlib.machinery
import importlib.util
import json
import os
import sys

from .errors import PACKAGE_FOLDERS, LoadError, set_code_folder
from .forms import detect, event_handlers

# Which object of the entry is meant, where the deployment named one: {"object": "app"}.
OBJECT_FILE = "fn.json"


def set_environment(init):
    """The environment becomes the function's; nothing of the platform's is left in it."""
    before = os.environ
    kept = {name: before[name] for name in ("TZ", "LANG") if name in before}
    tmp = before.get("TMPDIR", "/tmp")
    os.environ.clear()
    os.environ.update(
        {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            # /tmp in a container; a plain process has a folder of its own.
            "HOME": tmp,
            "TMPDIR": tmp,
            "PORT": "8080",
            **kept,
            **init["env"],
            "FN_NAMESPACE": init["namespace"],
            "FN_FUNCTION": init["name"],
            "FN_REVISION": str(init["number"]),
            "FN_MEMORY_MIB": str(init["memoryMib"]),
        }
    )
    if "TZ" in os.environ:
        import time

        time.tzset()


def load(init):
    """(form, callable, handlers of events). On the main thread; raises whatever the module raises, LoadError, or SystemExit as LoadError."""
    set_environment(init)
    code = init["code"]
    set_code_folder(code)
    path = os.path.join(code, init["entry"])
    os.chdir(code)
    sys.argv = [path]
    folder = os.path.dirname(path)
    # As `python FILE` has it, then the bundle's top, then packages that were vendored.
    places = [folder, code, *(os.path.join(code, name) for name in PACKAGE_FOLDERS)]
    sys.path[:0] = [place for place in dict.fromkeys(places) if os.path.isdir(place)]
    sys.path_importer_cache.clear()
    _exit = os._exit

    def refuse(status=0):
        raise LoadError("ProcessExit", f"os._exit({status}) was called while the module was loading")

    os._exit = refuse
    try:
        module = _import(path, folder, code)
    except SystemExit as error:
        status = "" if error.code is None else repr(error.code)
        raise LoadError("ProcessExit", f"sys.exit({status}) was called while the module was loading") from None
    except KeyboardInterrupt as error:
        raise LoadError("KeyboardInterrupt", "the module raised KeyboardInterrupt") from error
    finally:
        os._exit = _exit
    return (*detect(module, _named_object(code), init["name"]), event_handlers(module))


def _import(path, folder, code):
    if not os.path.isfile(path):
        raise LoadError("ModuleNotFound", f"there is no file {os.path.relpath(path, code)} in the bundle")
    name = _module_name(path, code)
    # By its name where it is one, so that a module which imports the entry gets the same one; packages too.
    if name is not None:
        if folder != code:
            sys.path.remove(folder) if folder in sys.path else None
            sys.path.append(folder)
        return importlib.import_module(name)
    loader = importlib.machinery.SourceFileLoader("fn_entry", path)
    spec = importlib.util.spec_from_file_location("fn_entry", path, loader=loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules["fn_entry"] = module
    spec.loader.exec_module(module)
    return module


def _module_name(path, code):
    """`a/b.py` → a.b where these are names, and no module of the standard library has the first of them."""
    relative = os.path.relpath(path, code)
    if not relative.endswith(".py"):
        return None
    parts = relative[:-3].split(os.sep)
    if parts[-1] == "__init__":
        parts.pop()
    if not parts or not all(part.isidentifier() for part in parts) or parts[0] in sys.stdlib_module_names or parts[0] in sys.modules:
        return None
    return ".".join(parts)


def _named_object(code):
    try:
        with open(os.path.join(code, OBJECT_FILE), encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return None  # no such file, or one of the function's own
    named = found.get("object") if isinstance(found, dict) else None
    return named if isinstance(named, str) and all(part.isidentifier() for part in named.split(".")) else None


def add_site_builtins():
    """`exit` and `quit`, which the module site brings where it is not left out."""

    def leave(code=None):
        raise SystemExit(code)

    builtins.exit = builtins.quit = leave
