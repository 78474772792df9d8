"""The cache of compiled programs: where it is, how large it may be, and that it is used."""

from __future__ import annotations

import os
import subprocess
import sys

import jax

from recjax.cache import _prune, cache_directory, enable_compilation_cache

PROGRAM = """
import sys, recjax
print(recjax.enable_compilation_cache())
import jax, jax.numpy as jnp
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event) if "cache_hits" in event else None)
jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((3, 3)))
print(len(hits) > 0)
"""


def test_a_second_process_compiles_nothing(tmp_path):
    environ = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    said = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True,
            env={**environ, "RECJAX_CACHE": str(tmp_path)},
        ).stdout.split()
        for _ in range(2)
    ]  # fmt: skip
    assert said == [[str(tmp_path / "xla"), "False"], [str(tmp_path / "xla"), "True"]]


def test_the_directory_is_the_argument_then_jaxs_own_then_the_users(tmp_path, monkeypatch):
    before = jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs
    monkeypatch.setenv("RECJAX_CACHE", str(tmp_path / "ours"))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "jax"))
    try:
        assert enable_compilation_cache(tmp_path / "given") == tmp_path / "given"
        assert enable_compilation_cache() == tmp_path / "jax"
        monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
        assert enable_compilation_cache() == tmp_path / "ours" / "xla" == cache_directory() / "xla"
        (tmp_path / "file").touch()
        assert enable_compilation_cache(tmp_path / "file" / "below") is None
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "ours" / "xla")
    finally:
        enable_compilation_cache(before[0])
        jax.config.update("jax_persistent_cache_min_compile_time_secs", before[1])


def test_what_was_not_used_for_longest_goes_first(tmp_path):
    for age, name in enumerate(("newest", "older", "oldest")):
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    _prune(tmp_path, 250)
    assert {path.name for path in tmp_path.iterdir()} == {"newest", "older"}
    _prune(tmp_path, 250)
    assert len(list(tmp_path.iterdir())) == 2
