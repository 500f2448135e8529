"""Starts AWS's runtime client in an interpreter that runs without its own site-packages (-S).

What a machine has installed beside its Python is nothing that a function may see, or that may slow its start; of what the
site module does, only the builtins that scripts use are wanted.
"""

import site
import sys

from awslambdaric.__main__ import main

if __name__ == "__main__":
    site.setquit()
    site.setcopyright()
    site.sethelper()
    main(sys.argv)
