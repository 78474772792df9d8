"""Checkpoints: whatever is saved comes back, whenever the process dies."""

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax.fit import Checkpoints


class Pair(NamedTuple):
    left: jax.Array
    right: jax.Array | None


@struct.dataclass
class Everything:
    pair: Pair
    keys: jax.Array
    key: jax.Array
    half: jax.Array
    mask: jax.Array
    scalar: jax.Array
    empty: jax.Array
    nothing: None
    host: np.ndarray
    number: float
    count: int
    flag: bool
    by_name: dict


def everything(seed: int) -> Everything:
    key = jax.random.key(seed)
    return Everything(
        pair=Pair(jax.random.normal(key, (3, 4)), None),
        keys=jax.random.split(key, 3),
        key=jax.random.key(seed, impl="rbg"),
        half=jax.random.normal(key, (5,)).astype(jnp.bfloat16),
        mask=jax.random.bernoulli(key, shape=(4,)),
        scalar=jnp.int32(seed),
        empty=jnp.zeros((0, 2)),
        nothing=None,
        host=np.arange(3) * seed,
        number=0.1 * seed,
        count=seed,
        flag=seed % 2 == 1,
        by_name={"a/b": jnp.full(2, seed), "['c']": [jnp.zeros(()), jnp.float32(seed)]},
    )


def comparable(leaf):
    if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return str(jax.random.key_impl(leaf)), jax.random.key_data(leaf).tolist()
    array = np.asarray(leaf)
    return type(leaf), array.dtype, array.tolist()


def assert_identical(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for one, other in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert comparable(one) == comparable(other)


def test_everything_comes_back_bit_for_bit(tmp_path):
    saved = everything(7)
    Checkpoints(tmp_path).save(3, saved, {"a": [1, None, "x"], "b": {"c": 0.1}})
    tree, metadata = Checkpoints(tmp_path).restore(everything(0))
    assert_identical(tree, saved)
    assert metadata == {"a": [1, None, "x"], "b": {"c": 0.1}}
    assert Checkpoints(tmp_path).metadata() == metadata


def test_restores_into_shapes_alone(tmp_path):
    saved = {"key": jax.random.key(3), "w": jnp.arange(4.0)}
    Checkpoints(tmp_path).save(0, saved)
    tree, metadata = Checkpoints(tmp_path).restore(jax.eval_shape(lambda: saved))
    assert_identical(tree, saved)
    assert metadata == {}


@settings(max_examples=10, deadline=None)
@given(
    dtype=st.sampled_from([np.float32, np.float16, np.int8, np.int32, np.uint32, np.bool_, jnp.bfloat16]),
    shape=st.lists(st.integers(0, 3), max_size=3).map(tuple),
)
def test_any_shape_and_dtype_comes_back(tmp_path_factory, dtype, shape):
    saved = {"x": jnp.asarray(np.arange(np.prod(shape, dtype=int)).reshape(shape), dtype)}
    checkpoints = Checkpoints(tmp_path_factory.mktemp("any"))
    checkpoints.save(1, saved)
    assert_identical(checkpoints.restore(saved)[0], saved)


def test_restored_arrays_can_be_donated_and_keys_used(tmp_path):
    saved = {"x": jnp.arange(1024.0), "key": jax.random.key(1)}
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, saved)
    tree, _ = checkpoints.restore(saved)
    step = jax.jit(lambda t: {"x": t["x"] + 1, "key": jax.random.split(t["key"])[0]}, donate_argnums=0)
    result = step(tree)
    assert tree["x"].is_deleted()  # an undonatable buffer would also warn, which is an error here
    np.testing.assert_array_equal(result["x"], np.arange(1024.0) + 1)
    assert_identical(checkpoints.restore(saved)[0], saved)


def test_arrays_return_to_the_devices_of_like(tmp_path):
    mesh = jax.make_mesh((2,), ("seeds",), (jax.sharding.AxisType.Auto,))
    sharding = jax.NamedSharding(mesh, jax.P("seeds"))
    saved = {
        "x": jax.device_put(jnp.arange(4.0), sharding),
        "key": jax.device_put(jax.random.split(jax.random.key(0)), sharding),
    }
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, saved)
    tree, _ = checkpoints.restore(saved)
    assert tree["x"].sharding == sharding
    assert_identical(tree, saved)


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ({"w": jnp.zeros((2, 4)), "n": None}, r"leaf \['w'\] is float32\[2,3\] there but float32\[2,4\] here"),
        ({"w": jnp.zeros((2, 3), jnp.int32), "n": None}, r"leaf \['w'\] is float32\[2,3\] there but int32\[2,3\] here"),
        ({"w": jnp.zeros((2, 3)), "n": jnp.zeros(())}, r"leaf \['n'\] is missing there but float32\[\] here"),
        ({"n": None}, r"leaf \['w'\] is float32\[2,3\] there but missing here"),
        (jnp.zeros((2, 3)), "leaf .* missing"),
    ],
)
def test_a_tree_that_does_not_fit_is_refused_by_leaf(tmp_path, like, message):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"w": jnp.zeros((2, 3)), "n": None})
    with pytest.raises(ValueError, match=message):
        checkpoints.restore(like)


def test_keeps_the_last(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=3)
    assert checkpoints.latest_step() is None
    for step in (5, 9, 10, 100):
        checkpoints.save(step, {"x": jnp.full(2, step)})
    assert checkpoints.steps() == [9, 10, 100]
    assert checkpoints.latest_step() == 100
    assert sorted(path.name for path in tmp_path.iterdir()) == ["10", "100", "9"]
    tree, _ = checkpoints.restore({"x": jnp.zeros(2, jnp.int32)}, step=9)
    assert tree["x"].tolist() == [9, 9]


def test_clear_makes_room_for_a_new_run(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(5, {"x": jnp.zeros(2)})
    with pytest.raises(ValueError, match=r"Cannot save step 5: .* already holds step 5"):
        checkpoints.save(5, {"x": jnp.zeros(2)})
    (tmp_path / "5.removing" / "arrays").mkdir(parents=True)  # a removal that was cut short
    checkpoints.clear()
    checkpoints.save(1, {"x": jnp.ones(2)})
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_what_is_missing_is_said(tmp_path):
    checkpoints = Checkpoints(tmp_path / "new")
    with pytest.raises(FileNotFoundError, match=r"no checkpoint in .*new; steps there: none"):
        checkpoints.restore({})
    checkpoints.save(1, {"x": jnp.zeros(1)})
    with pytest.raises(FileNotFoundError, match=r"no checkpoint of step 2 .* steps there: \[1\]"):
        checkpoints.metadata(2)
    with pytest.raises(ValueError, match="Metadata must be JSON"):
        checkpoints.save(2, {"x": jnp.zeros(1)}, {"bad": object()})
    assert checkpoints.steps() == [1]
    with pytest.raises(ValueError, match="keep=0"):
        Checkpoints(tmp_path, keep=0)


def test_half_written_directories_are_passed_over_and_written_over(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"x": jnp.ones(2)})
    for name in ("2.orbax-checkpoint-tmp", "3"):
        (tmp_path / name / "arrays").mkdir(parents=True)
        (tmp_path / name / "arrays" / "part").write_bytes(b"half")
    assert checkpoints.latest_step() == 1
    assert checkpoints.restore({"x": jnp.zeros(2)})[0]["x"].tolist() == [1, 1]
    for step in (2, 3):
        checkpoints.save(step, {"x": jnp.full(2, float(step))})
    assert checkpoints.restore({"x": jnp.zeros(2)})[0]["x"].tolist() == [3, 3]


def test_logs_nothing_and_leaves_logging_alone(tmp_path):
    program = textwrap.dedent(f"""
        import logging
        import recjax.fit
        assert not logging.root.handlers
        logging.getLogger("absl").setLevel(17)
        import numpy as np
        checkpoints = recjax.fit.Checkpoints({str(tmp_path)!r})
        (checkpoints.directory / "1.orbax-checkpoint-tmp").mkdir()
        checkpoints.save(1, {{"x": np.ones(3)}})
        checkpoints.restore({{"x": np.ones(3)}})
        assert not logging.root.handlers and logging.getLogger("absl").level == 17
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_ctrl_c_while_saving_waits_for_the_checkpoint(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    monkeypatch.setattr("recjax.fit.checkpoints._check_space", lambda *_: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(1, {"x": jnp.ones(3)})
    tree, _ = checkpoints.restore({"x": jnp.zeros(3)})
    assert tree["x"].tolist() == [1.0, 1.0, 1.0]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_process_killed_while_saving_leaves_a_readable_checkpoint(tmp_path):
    program = textwrap.dedent(f"""
        import itertools, numpy as np
        from recjax.fit import Checkpoints
        checkpoints = Checkpoints({str(tmp_path)!r}, keep=1)
        for step in itertools.count(1):
            checkpoints.save(step, {{"x": np.full(50_000, step), "y": np.full(50_000, -step)}}, {{"step": step}})
            print(step, flush=True)
    """)
    like = {"x": np.zeros(50_000, int), "y": np.zeros(50_000, int)}
    checkpoints = Checkpoints(tmp_path, keep=1)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        said = [int(process.stdout.readline()) for _ in range(3)]
        # Kill it inside a save: while a temporary directory is there.
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not list(Path(tmp_path).glob("*tmp*")):
            pass
        process.kill()
        said += [int(line) for line in process.stdout]
    tree, metadata = checkpoints.restore(like)
    step = metadata["step"]
    assert step >= said[-1]
    assert (tree["x"] == step).all()
    assert (tree["y"] == -step).all()
    checkpoints.save(step + 1, tree)
    assert checkpoints.steps() == [step + 1]
    assert [path.name for path in tmp_path.iterdir() if "removing" in path.name] == []
