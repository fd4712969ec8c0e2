"""`python -m eqxesm` is `eqxesm`."""

from eqxesm.cli.main import start

if __name__ == "__main__":
    start()
