"""Where jobs are sent, and what is not sent there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import ClusterError, LightmillError, UsageError
from builders import make_table
from cluster.address import HERE, choose_address, is_secret
from cluster.submission import refuse_secrets
from commands import lightmill


@pytest.fixture(autouse=True)
def _nobodys_token(monkeypatch, tmp_path):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_JOB_HEADERS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def choose(asked=None, **options):
    said = []
    return choose_address(asked, said.append, **options), said


def test_left_out_it_is_a_tunnel_that_ends_here():
    assert choose() == (choose_address(HERE, print), [])


@pytest.mark.parametrize("variable", ["RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"])
def test_the_address_that_is_asked_for_wins_and_says_so(variable, monkeypatch):
    monkeypatch.setenv(variable, "https://other.example")
    address, said = choose("https://mine.example/")
    assert address.url == "https://mine.example"
    assert said == [f"{variable} is https://other.example, which Ray would take; --address wins: https://mine.example/"]
    assert choose("https://other.example/")[1] == []
    assert choose()[0].url == "https://other.example"


@pytest.mark.parametrize(
    "url", ["10.0.0.7:8265", "ray://10.0.0.7:10001", "auto", "http://", "http://h:port", "ftp://h", "file:///etc"]
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(UsageError) as refused:
        choose(url)
    assert refused.value.code == "LM1103"


@pytest.mark.parametrize(
    "url", ["http://10.0.0.7:8265", "http://head:8265", "http://127.0.0.1.evil.org", "http://[fe80::1]"]
)
def test_an_open_address_without_a_token_is_refused_unless_told(url):
    with pytest.raises(ClusterError) as refused:
        choose(url)
    assert refused.value.code == "LM1505"
    assert choose(url, insecure=True)[0].url == url


@pytest.mark.parametrize("url", ["http://127.0.0.1:8265", "http://localhost:1", "http://[::1]:8265", "https://head"])
def test_loopback_and_tls_need_no_token(url):
    assert choose(url) == (choose_address(url, print), [])


def test_with_a_token_an_open_address_is_warned_of(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with pytest.raises(ClusterError):
        choose("http://head:8265")
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("t")
    (said,) = choose("http://head:8265")[1]
    assert said.startswith("the token goes to http://head:8265 for all on the way to read")
    assert choose("http://head:8265", headers=[]) == choose("http://head:8265")


def test_headers_come_from_flags_and_secret_ones_from_the_environment(monkeypatch):
    monkeypatch.setenv("RAY_JOB_HEADERS", '{"Authorization": "Bearer abc"}')
    address, _ = choose("http://head:8265", headers=["X-Team=cats=dogs"])
    assert address.headers == {"Authorization": "Bearer abc", "X-Team": "cats=dogs"}
    assert "abc" not in repr(address)
    for flag, code in (("Authorization=Bearer abc", "LM1507"), ("Cookie=a", "LM1507"), ("nothing", "LM1103")):
        with pytest.raises(UsageError) as refused:
            choose(headers=[flag])
        assert refused.value.code == code
        assert "abc" not in str(refused.value)
    monkeypatch.setenv("RAY_JOB_HEADERS", "[1]")
    with pytest.raises(UsageError):
        choose()


def test_a_password_in_an_address_and_an_authority_that_is_not_there_are_refused(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "https://other:pw@head")
    said = []
    for asked, ca, code in (
        ("https://me:pw@head", None, "LM1507"),
        ("ftp://me:pw@head", None, "LM1103"),
        ("https://head", "/nowhere.pem", "LM1103"),
    ):
        with pytest.raises(LightmillError) as refused:
            choose_address(asked, said.append, ca=ca)
        assert refused.value.code == code
        assert "pw@" not in str(refused.value) + said.pop()


SECRETS = ["AWS_SECRET_ACCESS_KEY", "aws_access_key_id", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "DB_PASSWORD", "X_AUTH"]
PLAIN = ["HF_HUB_OFFLINE", "OMP_NUM_THREADS", "AWS_REGION", "LIGHTMILL_CRASH", "AUTHOR", "PYTHONUNBUFFERED", "TZ"]


@pytest.mark.parametrize("name", SECRETS)
def test_names_that_look_like_secrets_do_not_travel(name):
    assert is_secret(name)
    with pytest.raises(UsageError) as refused:
        refuse_secrets({"TZ": "UTC", name: "v4lue"})
    assert [problem.code for problem in refused.value.problems] == ["LM1507"]
    assert name in str(refused.value)
    assert "v4lue" not in str(refused.value)


def test_other_names_travel_unless_their_value_is_an_address_with_a_password():
    refuse_secrets(dict.fromkeys(PLAIN, "x"))
    with pytest.raises(UsageError):
        refuse_secrets({"HTTPS_PROXY": "http://me:pw@proxy:3128"})


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (("--output", "s3://b/out", "--address", "http://10.0.0.1:8265"), 6, "LM1505"),
        (("--output", "s3://b/out", "--address", "10.0.0.1:8265"), 2, "LM1103"),
        (("--output", "s3://b/out", "--env", "HF_TOKEN=v4lue"), 2, "LM1507"),
        (("--output", "s3://b/out", "--env", "TZ"), 2, "LM1103"),
        (("--output", "s3://b/out", "--header", "Cookie=v4lue"), 2, "LM1507"),
        (("--output", "out"), 3, "LM1506"),
    ],
)
def test_what_needs_no_cluster_to_be_seen_is_refused_before_one_is_asked(words, status, code, tmp_path):
    said = lightmill("submit", "--prompts", make_table(tmp_path), "--model", "fake", *words)
    assert (said.status, said.codes, said.out) == (status, [code], "")
    assert "v4lue" not in said.err


@given(st.text(max_size=40))
def test_any_address_is_taken_or_refused_in_words(text):
    try:
        said = choose(text, insecure=True)[0].url
    except LightmillError as refused:
        said = refused.code
    assert said in ("LM1103", "LM1507") or said.startswith(("http://", "https://"))
