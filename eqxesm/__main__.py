"""`python -m eqxesm` is `eqxesm`."""

import sys

from eqxesm.cli import main

if __name__ == "__main__":
    sys.exit(main())
