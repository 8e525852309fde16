"""Runs a module of the bundle that this file stands in: `python -I boot.py MODULE [ARGUMENT …]`.

Isolated mode keeps what the host's Python has been told (PYTHONPATH, the user's site) away from the robot; it keeps
this folder from the path of modules too, so that is said here.
"""

import os
import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    os.environ["KUBERPA_BOOT"] = __file__
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
