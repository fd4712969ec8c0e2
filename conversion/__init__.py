"""Between ESM-C as the world publishes it and ESM-C as eqxesm stores it.

The only place where torch and foreign tensor names live.
"""
