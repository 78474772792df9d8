"""Where recjax keeps what it need not fetch or compile twice: a folder of the user's, bounded in size."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

CACHE_VARIABLE = "RECJAX_CACHE"

COMPILED_BYTES = 2 * 2**30
"""Size of the compiled programs that are kept; beyond it those that were not used for longest go."""


def cache_directory(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Where fetched files are kept: the argument, else ``RECJAX_CACHE``, else the user's cache directory."""
    chosen = cache_dir or os.environ.get(CACHE_VARIABLE)
    if not chosen:
        from platformdirs import user_cache_dir

        chosen = user_cache_dir("recjax", appauthor=False)
    return Path(chosen).expanduser()


def enable_compilation_cache(
    directory: str | os.PathLike[str] | None = None, max_bytes: int = COMPILED_BYTES
) -> Path | None:
    """Keeps compiled programs between processes, so that the second run of a program starts in seconds.

    The command line does this by itself. In a script or a notebook, one line before anything is compiled:
    ``recjax.enable_compilation_cache()``.

    Args:
      directory: where; by default ``JAX_COMPILATION_CACHE_DIR``, else ``xla`` in :func:`cache_directory`.
      max_bytes: size of what is kept from the processes before; programs that were not used for longest are removed
        beyond it, unless you chose the directory.

    Returns:
      The directory; None where it cannot be written, and then nothing is kept.
    """
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    given = directory or os.environ.get("JAX_COMPILATION_CACHE_DIR")
    path = Path(given).expanduser() if given else cache_directory() / "xla"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    if not os.access(path, os.W_OK):
        return None
    if not given:
        _prune(path, max_bytes)
    jax.config.update("jax_compilation_cache_dir", str(path))
    # Most programs of a loop compile in less than JAX's own threshold of a second, and there are dozens.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    compilation_cache.reset_cache()  # What JAX has decided before, it decides anew.
    return path


def _prune(path: Path, max_bytes: int) -> None:
    """Removes the files that were not used for longest.

    JAX can bound its cache, too, but then writes nothing more once a process was killed between the two files of an
    entry.
    """
    files = []
    for file in path.iterdir():
        with contextlib.suppress(OSError):  # Another process removed it.
            known = file.stat()
            files.append((max(known.st_atime, known.st_mtime), known.st_size, file))
    total = sum(size for _, size, _ in files)
    for _, size, file in sorted(files, key=lambda entry: entry[0]):
        if total <= max_bytes:
            return
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)
        total -= size
