"""``python FOLDER``, where FOLDER is this one: the command line, also for a Python that is embedded in ComfyUI.

Python looks into a folder that it is told to run, even where it looks nowhere else by itself.
"""

import sys

from rivya.cli import main

if __name__ == "__main__":
    sys.exit(main())
