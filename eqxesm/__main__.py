"""`python -m eqxesm` is `eqxesm`."""

import sys

from eqxesm.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
