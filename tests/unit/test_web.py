"""Input images from the web: only from where the job allows, and bounded in every way that a stranger could try."""

from posixpath import normpath
from urllib.parse import unquote, urlsplit

import pytest
import stamina
from hypothesis import assume, given
from hypothesis import strategies as st

from actors.errors import InputError, Stopped
from actors.ingredients import InputFile
from actors.input_files import InputFiles
from actors.settings import InputSettings, StorageSettings
from actors.storage.folder import FolderBucket
from actors.tables.references import References
from actors.urls import Url
from actors.web import NotFetched, Web, is_public
from servers.certificates import make_certificates
from servers.web import web_server

PNG = b"\x89PNG and whatever follows"
LIMIT = 4096


@pytest.fixture
def server():
    with web_server() as server, stamina.set_testing(True, attempts=4, cap=True):
        server.files["/cats/a.png"] = PNG
        yield server


def fetch(server, path, *, allow=("/cats/",), seconds=10.0, wanted=lambda: True):
    references = References("/data/prompts.csv", [server.url + prefix for prefix in allow])
    return Web(references.allows, LIMIT, wanted, seconds).get(Url.parse(server.url + path))


def test_a_file_comes_as_it_is(server):
    assert fetch(server, "/cats/a.png") == PNG
    assert server.headers[0]["Host"] == f"127.0.0.1:{server.server_port}"
    assert server.headers[0]["User-Agent"] == "lightmill"


def test_path_and_query_are_asked_for_as_they_were_written(server):
    server.files["/cats/%63/b%20c.png?size=2&x=%2F"] = PNG
    assert fetch(server, "/cats/%63/b%20c.png?size=2&x=%2F#top") == PNG


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 204, 206])
def test_a_refusal_is_the_files_own_and_not_asked_for_again(server, status):
    server.files["/cats/b.png"] = status
    with pytest.raises(NotFetched, match=f"the server says {status}"):
        fetch(server, "/cats/b.png")
    assert server.asked["/cats/b.png"] == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_passes_is_waited_out(server, status):
    server.files["/cats/b.png"] = [status, status, PNG]
    assert fetch(server, "/cats/b.png") == PNG
    assert server.asked["/cats/b.png"] == 3


def test_what_does_not_pass_fails_the_file_and_the_next_one_is_not_waited_for(server):
    server.files |= {"/cats/b.png": 503, "/cats/c.png": 503, "/cats/d.png": [503, PNG]}
    references = References("/data/prompts.csv", [server.url])
    web = Web(references.allows, LIMIT)
    for path, asked in (("/cats/b.png", 4), ("/cats/c.png", 1)):
        with pytest.raises(NotFetched, match="the server says 503"):
            web.get(Url.parse(server.url + path))
        assert server.asked[path] == asked
    assert web.get(Url.parse(f"{server.url}/cats/a.png")) == PNG
    assert web.get(Url.parse(f"{server.url}/cats/d.png")) == PNG, "patient again, as the server is back"


def test_a_server_that_is_not_there_is_a_reason(server):
    with pytest.raises(NotFetched, match="does not answer as it should"):
        Web(lambda url: True, LIMIT).get(Url.parse("http://127.0.0.1:1/a.png"))


def test_nothing_is_waited_for_once_the_job_is_to_stop(server):
    server.files["/cats/b.png"] = 503
    with pytest.raises(Stopped):
        fetch(server, "/cats/b.png", wanted=lambda: False)
    assert server.asked["/cats/b.png"] == 1


def test_redirects_are_followed_where_the_job_allows_their_target(server):
    server.files |= {"/cats/b.png": "/cats/c.png", "/cats/c.png": "a.png"}
    assert fetch(server, "/cats/b.png") == PNG


@pytest.mark.parametrize(
    "target",
    [
        "/dogs/a.png",
        "../dogs/a.png",
        "/cats/../dogs/a.png",
        "/cats/%2e%2e/dogs/a.png",
        "//localhost/cats/a.png",
        "http://169.254.169.254/latest/meta-data",
        "http://user@127.0.0.1/cats/a.png",
        "file:///etc/passwd",
        "s3://bucket/a.png",
        "http://[oops/a.png",
        "",
    ],
)
def test_redirects_elsewhere_are_not_followed(server, target):
    server.files |= {"/cats/b.png": target or 302, "/dogs/a.png": PNG}
    with pytest.raises(NotFetched, match="it leads on "):
        fetch(server, "/cats/b.png")
    assert server.asked["/dogs/a.png"] == 0


def test_a_ring_of_redirects_ends(server):
    server.files["/cats/b.png"] = "/cats/b.png"
    with pytest.raises(NotFetched, match="more than 5 times"):
        fetch(server, "/cats/b.png")
    assert server.asked["/cats/b.png"] == 6


@pytest.mark.parametrize("path", ["/large.png", "/endless.png"])
def test_what_is_too_large_is_not_read_to_its_end(server, path):
    server.files[path] = b"x" * (LIMIT + 1)
    with pytest.raises(NotFetched, match="more than 4,096 bytes"):
        fetch(server, path, allow=["/"])


@pytest.mark.parametrize("path", ["/drip.png", "/drip-head"])
def test_an_answer_that_drips_is_cut_off(server, path):
    server.files[path] = b"x" * 200  # ten seconds
    with pytest.raises(NotFetched, match="more than 0.3 seconds"):
        fetch(server, path, allow=["/"], seconds=0.3)


def test_an_answer_that_breaks_off_is_no_file(server):
    server.files["/cats/b.png"] = PNG
    server.RequestHandlerClass = type("Short", (server.RequestHandlerClass,), {"_say": _say_too_little})
    with pytest.raises(NotFetched, match="does not answer as it should"):
        fetch(server, "/cats/b.png")


def _say_too_little(self, status, body, **headers):
    self.send_response(status)
    for name, value in headers.items():
        self.send_header(name, value)
    self.end_headers()
    self.wfile.write(body[:-1])


def test_a_name_that_stands_for_this_machine_is_refused_even_where_it_is_allowed(server):
    url = server.url.replace("127.0.0.1", "localhost")
    with pytest.raises(NotFetched, match="localhost stands for .*, which is only allowed by that address itself"):
        Web(References("/data/a.csv", [url]).allows, LIMIT).get(Url.parse(f"{url}/cats/a.png"))
    assert not server.asked


def test_a_number_that_stands_for_this_machine_is_refused(server):
    with pytest.raises(NotFetched, match=r"2130706433 stands for 127\.0\.0\.1"):
        Web(lambda url: True, LIMIT).get(Url.parse(f"http://2130706433:{server.server_port}/cats/a.png"))


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("::ffff:93.184.215.14", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("192.168.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00:ec2::254", False),
        ("::ffff:169.254.169.254", False),
        ("2002:7f00:1::", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("::7f00:1", False),
        ("::5db8:d70e", True),
        ("fec0::1", False),
        ("64:ff9b:1::808:808", False),
    ],
)
def test_which_addresses_are_public(address, public):
    assert is_public(address) is public


def test_a_server_must_be_who_it_says_it_is(tmp_path, monkeypatch):
    certificates = make_certificates(tmp_path)
    with web_server(certificates.server_context()) as server:
        server.files["/a.png"] = PNG
        url = Url.parse(f"https://127.0.0.1:{server.server_port}/a.png")
        with pytest.raises(NotFetched, match=r"the certificate of 127\.0\.0\.1 is not trusted"):
            Web(lambda url: True, LIMIT).get(url)
        assert not server.asked
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca_bundle))
        assert Web(lambda url: True, LIMIT).get(url) == PNG


def test_what_a_web_server_does_not_hand_out_is_a_problem_of_its_row(server, tmp_path):
    files = InputFiles(References("/data/a.csv", [server.url]), FolderBucket(tmp_path), StorageSettings())
    assert files.read(InputFile(f"{server.url}/cats/a.png")) == PNG
    with pytest.raises(InputError, match=r"LM1618.*/cats/b\.png: the server says 404"):
        files.read(InputFile(f"{server.url}/cats/b.png"))
    with pytest.raises(InputError, match=r"LM1031.*the job does not allow that place"):
        files.read(InputFile("http://127.0.0.1/cats/a.png"))


ALLOWED = ["https://a.example.org/cats/", "http://127.0.0.1:8000", "s3://photos/2024/"]


@pytest.mark.parametrize(
    "reference",
    [
        "https://a.example.org/cats/1.png",
        "HTTPS://A.Example.Org:443/cats/deep/1.png?size=2",
        "https://a.example.org/%63ats/1.png",
        "https://a.example.org/cats",
        "http://127.0.0.1:8000/anything.png",
        "s3://photos/2024/a b%2f.png",
        "in/a.png",
        "./a.png",
    ],
)
def test_references_under_a_prefix_are_followed(reference):
    assert References("/data/a.csv", ALLOWED).why_refused(reference) is None


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        ("https://a.example.org.evil.com/cats/1.png", "does not allow"),
        ("https://evil.a.example.org/cats/1.png", "does not allow"),
        ("https://a.example.org./cats/1.png", "does not allow"),
        ("https://a.example.org@evil.com/cats/1.png", "names a user"),
        ("https://evil.com#@a.example.org/cats/1.png", "does not allow"),
        ("https://evil.com?@a.example.org/cats/1.png", "does not allow"),
        ("https://evil.com\\@a.example.org/cats/1.png", "writes with %"),
        ("https://a.example.org\t/cats/1.png", "writes with %"),
        ("https://a.example.org/cats/1.png HTTP/1.1\r\nX: y", "writes with %"),
        ("https://\u0430.example.org/cats/1.png", "writes with %"),
        ("https://a.example.org:8443/cats/1.png", "does not allow"),
        ("https://a.example.org:0/cats/1.png", "does not allow"),
        ("https://a.example.org:x/cats/1.png", "no address"),
        ("http://a.example.org/cats/1.png", "does not allow"),
        ("https://a.example.org/cats-of-others/1.png", "does not allow"),
        ("https://a.example.org/dogs/1.png", "does not allow"),
        ("https://a.example.org//cats/1.png", "does not allow"),
        ("https://a.example.org/cats/../dogs/1.png", "with . or .."),
        ("https://a.example.org/cats/%2e%2E/dogs/1.png", "with . or .."),
        ("https://a.example.org/cats/%252e%252e/dogs/1.png", "with . or .."),
        ("https://a.example.org/cats/..;x/dogs/1.png", "with . or .."),
        ("https://a.example.org/cats/..%2fdogs/1.png", "hides a slash"),
        ("https://a.example.org/cats/..%5cdogs/1.png", "hides a slash"),
        ("https://a.example.org/cats%2f1.png", "hides a slash"),
        ("https:///cats/1.png", "names no host"),
        ("https://[::1/cats/1.png", "no address"),
        ("ftp://a.example.org/cats/1.png", "nothing is fetched from ftp:"),
        ("http://127.0.0.1/anything.png", "does not allow"),
        ("http://2130706433:8000/anything.png", "does not allow"),
        ("http://0x7f.1:8000/anything.png", "does not allow"),
        ("s3://photos/2023/a.png", "does not allow"),
        ("s3://photos/2024-b/a.png", "does not allow"),
        ("s3://photos-b/2024/a.png", "does not allow"),
        ("s3://photos/2024/../a.png", "with . or .."),
    ],
)
def test_references_that_only_look_as_if_are_not(reference, why):
    assert why in References("/data/a.csv", ALLOWED).why_refused(reference)


def test_the_folder_of_a_table_in_a_store_is_its_own():
    references = References("s3://in/2024/captions.parquet")
    assert references.why_refused("s3://in/2024/photos/a.png") is None
    assert references.why_refused("s3://in/2023/a.png") == "the job does not allow that place"


@pytest.mark.parametrize(
    ("prefix", "why"),
    [
        ("images/", "nothing is fetched from :"),
        ("https://", "names no host"),
        ("s3:///photos", "names no bucket"),
        ("https://me@a.example.org/", "names a user"),
        ("https://a.example.org/x/../", "with . or .."),
        ("https://a.example.org/?a", "has a query"),
        ("ftp://a.example.org/", "nothing is fetched from ftp:"),
    ],
)
def test_a_prefix_that_is_none_is_an_error_of_the_job(prefix, why):
    with pytest.raises(ValueError, match="prefixes such as https://HOST/PATH, and ") as raised:
        InputSettings(allow=[prefix])
    assert why in str(raised.value)


SEGMENT = st.text("abc%2eEfF5c./\\;@:?#[] ", max_size=6)


@given(st.lists(SEGMENT, max_size=5).map("/".join), st.sampled_from(["/cats", "/cats/", "/cats/x", "/"]))
def test_whatever_is_allowed_stays_under_its_prefix_when_a_server_resolves_it(rest, prefix):
    """As the laxest of servers would: it decodes again and again, takes a backslash for a slash, cuts a name at `;`."""
    reference = f"https://a.example.org{prefix}{rest}"
    assume(References("/data/a.csv", [f"https://a.example.org{prefix}"]).why_refused(reference) is None)
    url = Url.parse(reference)
    assert (url.host, url.port) == ("a.example.org", 443)
    path = urlsplit(f"https://x{url.target}").path
    for _ in range(4):
        path = unquote(path)
    resolved = normpath("/".join(part.partition(";")[0] for part in path.replace("\\", "/").split("/")))
    assert (resolved + "/").startswith(prefix.rstrip("/") + "/") or resolved.startswith("//")


@given(st.text(max_size=80))
def test_any_text_is_refused_or_a_file_of_the_folder(text):
    assume("://" not in text)
    references = References("/data/a.csv", ALLOWED)
    if references.why_refused(text) is None:
        assert str(references.place_of(text)).startswith("/data")
