"""The cache of compiled programs, for commands that compile some."""

import os
from argparse import ArgumentParser

from eqxesm.files import cache_folder

COMPILED_BYTES = 10**9
"""Most that compiled programs may take up on disk. The oldest go first."""


def add_compilation_cache(parser: ArgumentParser) -> None:
    """Add the flag that turns the cache off."""
    parser.add_argument(
        "--no-compilation-cache",
        dest="compilation_cache",
        action="store_false",
        help="neither keep nor use compiled programs",
    )


def set_compilation_cache(used: bool) -> None:
    """Have JAX keep what it compiles in the user's cache folder, unless its own variables say otherwise."""
    import jax

    if not used:
        jax.config.update("jax_enable_compilation_cache", False)
        return
    folder = cache_folder("compiled")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    settings = {
        "jax_compilation_cache_dir": str(folder),
        "jax_compilation_cache_max_size": COMPILED_BYTES,
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": 0,
    }
    for name, value in settings.items():
        if name.upper() not in os.environ:
            jax.config.update(name, value)
