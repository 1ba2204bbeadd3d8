"""`python -m pyserver`, the same program as the console script `stemline`."""

import sys

from pyserver.cli import main

if __name__ == "__main__":
    sys.exit(main())
