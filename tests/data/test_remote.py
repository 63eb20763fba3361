"""Data at a URL is fetched once, again if it has changed, by every command; no credential is shown, and no checkpoint fetches."""

import contextlib
import http.server
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Tiedae
from log_capture import captured_log

from tiedae_cli.config.shareable import public_url
from tiedae_cli.data.sources import remote
from tiedae_cli.data.sources.remote import local_copy
from tiedae_cli.errors import DataError, InputError

pytest.importorskip("aiohttp", reason="needs the extra remote")
pytest.importorskip("fsspec", reason="needs the extra remote")

ROWS = np.random.default_rng(0).normal(size=(60, 3))
CSV = "a,b,c\n" + "".join(",".join(map(repr, row)) + "\n" for row in ROWS.tolist())


@dataclass
class Server:
    """A server on this machine: its files, and what was asked of it."""

    files: dict[str, bytes] = field(default_factory=dict)
    fetched: list[str] = field(default_factory=list)
    cuts: bool = False
    """Whether it ends each answer in the middle."""
    port: int = 0
    close: Callable[[], None] = tuple  # type: ignore[assignment]

    def url(self, name: str, login: str = "") -> str:
        return f"http://{login}127.0.0.1:{self.port}/{name}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    own = Server({"x.csv": CSV.encode(), "data.npy": b""})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, with_body: bool) -> None:
            content = own.files.get(self.path.split("?")[0].lstrip("/"))
            if content is None or "denied" in self.path:
                self.send_error(403 if "denied" in self.path else 404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{hash(content)}"')
            self.end_headers()
            if with_body:
                own.fetched.append(self.path)
                self.wfile.write(content[: len(content) // 2] if own.cuts else content)

        def log_message(self, *_: Any) -> None: ...

    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    own.port = listener.server_address[1]
    thread = threading.Thread(target=partial(listener.serve_forever, 0.02), daemon=True)
    thread.start()

    def close() -> None:
        listener.shutdown()
        listener.server_close()

    own.close = close
    yield own
    close()


def cached() -> list[Path]:
    folder = Path(os.environ["XDG_CACHE_HOME"])
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock" and "lock" not in path.name]


@pytest.mark.slow
def test_every_command_reads_a_url_and_fetches_it_once(server: Server, tiedae: Tiedae) -> None:
    Path("x.csv").write_text(CSV)
    url = server.url("x.csv", login="ann:s3cr3t@") + "?signature=s1gn3d"
    outputs = []
    for data, run in ((url, "remote"), ("x.csv", "local")):
        ran = tiedae("train", data, "epochs=1", "hidden_sizes=4,2", "--run-dir", run)
        assert ran.code == 0, ran.err
        outputs += [ran.err, tiedae("inspect", run).out, tiedae("eval", run).err]
        assert tiedae("train", "--resume", run, "epochs=2", "-q").code == 0
    scores = [tiedae("score", "-q", run, data).lines for run, data in (("remote", url), ("local", "x.csv"))]
    assert scores[0] == scores[1] and len(scores[0]) == 60
    codes = [
        tiedae("encode", "-q", run, data, "--format", "jsonl").lines for run, data in (("remote", url), ("local", "x.csv"))
    ]
    assert codes[0] == codes[1]
    measures = [tiedae("eval", "remote", data, "--json").lines for data in (url, "x.csv")]
    assert measures[0][0]["mse_per_value"] == measures[1][0]["mse_per_value"]
    assert len(server.fetched) == 1
    files = [path.read_bytes().decode("latin1") for path in Path("remote").glob("*.safetensors")]
    for secret in ("s3cr3t", "s1gn3d", "ann:"):
        assert not [text for text in (*outputs, *files) if secret in text]
    assert url in Path("remote/config.yaml").read_text()


@pytest.mark.slow
def test_a_checkpoint_alone_fetches_nothing(server: Server, tiedae: Tiedae) -> None:
    assert tiedae("train", server.url("x.csv"), "epochs=1", "hidden_sizes=4,2", "-q", "--run-dir", "run").code == 0
    Path("alone.safetensors").write_bytes(Path("run/best.safetensors").read_bytes())
    asked = len(server.fetched)
    server.files["x.csv"] += b"1,2,3\n"
    result = tiedae("eval", "alone.safetensors")
    assert (
        result.code == 2 and "was trained on x.csv; where that lies, only the config.yaml of its run folder says" in result.err
    )
    Path("run/config.yaml").unlink()
    assert tiedae("train", "--resume", "run", "epochs=2", "-q").code == 2
    assert len(server.fetched) == asked


def test_a_file_is_fetched_again_only_if_the_server_says_that_it_has_changed(server: Server) -> None:
    url = server.url("x.csv")
    assert local_copy(url).read_bytes() == CSV.encode() == local_copy(url).read_bytes()
    assert len(server.fetched) == 1
    server.files["x.csv"] = b"a,b\n1,2\n"
    assert local_copy(url).read_bytes() == b"a,b\n1,2\n"
    assert len(server.fetched) == 2


def test_an_interrupted_transfer_leaves_nothing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.cuts = True
    with pytest.raises(DataError, match=r"http://127\.0\.0\.1:\d+/x\.csv: (cannot be fetched|the transfer ended)"):
        local_copy(server.url("x.csv"))
    assert cached() == []
    server.cuts = False

    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(remote, "_copy", interrupted)
        local_copy(server.url("x.csv"))
    assert cached() == []
    assert local_copy(server.url("x.csv")).read_bytes() == CSV.encode()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.csv", r"nothing is there \(404\)"),
        ("denied/x.csv", r"access denied \(HTTP 403\)"),
        ("*.csv", "patterns of URLs are not read; name one file"),
    ],
)
def test_errors_name_the_url_without_its_secrets(server: Server, name: str, message: str) -> None:
    url = server.url(name, login="ann:s3cr3t@") + "?signature=s1gn3d"
    with pytest.raises(DataError, match=message) as caught:
        local_copy(url)
    assert str(caught.value).startswith(server.url(name))
    assert not [secret for secret in ("s3cr3t", "s1gn3d", "ann") if secret in str(caught.value)]


def test_without_a_network_the_copy_is_used_with_a_warning_and_otherwise_the_error_says_so(server: Server) -> None:
    url, gone = server.url("x.csv"), "http://127.0.0.1:9/x.csv"  # nobody listens at the second
    copy = local_copy(url)
    server.close()
    with captured_log() as said:
        assert local_copy(url) == copy
    assert len(said) == 1 and said[0].startswith(f"{url}: cannot be reached (") and "the copy in" in said[0]
    with pytest.raises(DataError, match=r"127\.0\.0\.1:9/x\.csv: cannot be reached \(.*onnect"):
        local_copy(gone)


def test_the_extra_is_named_if_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> Callable[..., None]:
        raise InputError("s3://b/x.csv: reading it needs fsspec: pip install 'tiedae[remote]'")

    with pytest.raises(DataError, match="Protocol not known|cannot be fetched"):
        local_copy("nosuch://b/x.csv")
    monkeypatch.setattr("importlib.import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    with pytest.raises(InputError, match=r"s3://b/x\.csv: reading it needs fsspec: pip install 'tiedae\[remote\]'"):
        local_copy("s3://b/x.csv")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://ann:pw@host:8/a/x.csv?token=1#f", "https://host:8/a/x.csv"),
        ("s3://bucket/a@b/x.parquet", "s3://bucket/a@b/x.parquet"),
        ("https://host?x=1", "https://host"),
        ("C:\\data\\x.csv", "C:\\data\\x.csv"),
        ("digits", "digits"),
    ],
)
def test_the_public_part_of_a_url(url: str, shown: str) -> None:
    assert public_url(url) == shown


@pytest.mark.slow
def test_a_file_in_s3_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiedae: Tiedae) -> None:
    pytest.importorskip("s3fs", reason="needs the extra remote")
    moto = pytest.importorskip("moto.server", reason="needs moto's server")
    boto3 = pytest.importorskip("boto3")
    server = moto.ThreadedMotoServer(port=0)
    server.start()
    try:
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        for name, value in (
            ("ACCESS_KEY_ID", "a"),
            ("SECRET_ACCESS_KEY", "b"),
            ("DEFAULT_REGION", "us-east-1"),
            ("ENDPOINT_URL", endpoint),
        ):
            monkeypatch.setenv(f"AWS_{name}", value)
        client = boto3.client("s3", endpoint_url=endpoint)
        client.create_bucket(Bucket="bucket")
        client.put_object(Bucket="bucket", Key="days/x.csv", Body=CSV.encode())
        assert local_copy("s3://bucket/days/x.csv").read_bytes() == CSV.encode()
        ran = tiedae("train", "s3://bucket/days/x.csv", "epochs=1", "hidden_sizes=4,2", "-q", "--run-dir", "run")
        assert ran.code == 0, ran.err
        assert len(tiedae("score", "-q", "run", "s3://bucket/days/x.csv").lines) == 60
        for name, message in (("days/y.csv", r"nothing is there \(404\)"), ("days", "a folder; name one file")):
            with pytest.raises(DataError, match=message):
                local_copy(f"s3://bucket/{name}")
        client.put_object(Bucket="bucket", Key="days/x.csv", Body=b"a,b\n1,2\n")
        assert local_copy("s3://bucket/days/x.csv").read_bytes() == b"a,b\n1,2\n"
    finally:
        with contextlib.suppress(Exception):
            server.stop()
