"""The shim of the python runtime; what it is made of is in the folder fnshim beside it."""

import os
import sys

if sys.version_info < (3, 11):
    sys.exit("fn shim: Python 3.11 or later is needed, this is " + sys.version.split()[0])

# Isolated, Python does not look beside the script.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from fnshim.main import main  # noqa: E402

# The function's own modules come first, and it has no need of ours.
sys.path.pop(0)
main()
