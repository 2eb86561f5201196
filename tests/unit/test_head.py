"""The Jobs API as its client sees it: over TLS, behind headers, behind a wall, and not there at all."""

import json
import os

import pytest

from actors.errors import ClusterError, InputError
from cluster.address import Address
from cluster.head import Head, IdTaken
from servers.certificates import make_certificates
from servers.web import web_server

VERSION = {"version": "4", "ray_version": "2.60.0", "ray_commit": "x", "session_name": "s"}
JOB = {"type": "SUBMISSION", "submission_id": "a", "status": "FAILED", "entrypoint": "x", "driver_exit_code": 4}


@pytest.fixture(autouse=True)
def _nobodys_cluster(monkeypatch):
    for name in ("RAY_AUTH_MODE", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server():
    with web_server() as server:
        server.files["/api/version"] = json.dumps(VERSION).encode()
        yield server


def problem_of(address):
    with pytest.raises(ClusterError) as refused:
        Head(address)
    (problem,) = refused.value.problems
    return problem


def test_over_tls_with_an_authority_of_ones_own(tmp_path):
    certificates = make_certificates(tmp_path)
    with web_server(certificates.server_context()) as server:
        server.files["/api/version"] = json.dumps(VERSION).encode()
        url = server.url.replace("http:", "https:")
        assert Head(Address(url, {"X-Team": "cats"}, str(certificates.ca_bundle))).ray_version == "2.60.0"
        assert {headers.get("X-Team") for headers in server.headers} == {"cats"}
        stranger = problem_of(Address(url))
    assert stranger.code == "LM1501"
    assert "--ca" in stranger.help


def test_the_variables_of_ray_do_not_lead_elsewhere(server, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:9")
    assert Head(Address(server.url)).ray_version == "2.60.0"
    assert os.environ["RAY_ADDRESS"] == "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (401, "LM1501", "takes none without a token"),
        (403, "LM1501", "refuses the token"),
        (500, "LM1501", "no Ray cluster answers"),
        (b"<html>a login page", "LM1501", "no Ray cluster answers"),
        (json.dumps({**VERSION, "ray_version": "2.53.9"}).encode(), "LM1502", "2.54 or newer"),
    ],
)
def test_what_is_no_cluster_of_ours_is_said_at_once(answer, code, said, server):
    server.files["/api/version"] = answer
    problem = problem_of(Address(server.url))
    assert problem.code == code
    assert said in problem.message


def test_nobody_there():
    assert problem_of(Address("http://127.0.0.1:9")).code == "LM1501"


def test_jobs_are_described_and_unknown_ones_named(server):
    ours = {**JOB, "start_time": 1_795_000_000_000, "metadata": {"lightmill": "0.1.0", "output": "s3://b/o"}}
    server.files["/api/jobs/"] = json.dumps([ours, {**JOB, "submission_id": "b"}]).encode()
    server.files["/api/jobs/a"] = json.dumps(ours).encode()
    head = Head(Address(server.url))
    assert [job.id for job in head.jobs()] == ["a"]
    job = head.job("a")
    assert (job.is_over, job.exit_code, job.output) == (True, 4, "s3://b/o")
    with pytest.raises(InputError) as unknown:
        head.job("nobody")
    assert unknown.value.code == "LM1509"


def test_an_id_that_is_taken_is_told_apart():
    from cluster.head import _answered

    assert isinstance(_answered(Address("http://h"), "Traceback\nValueError: Job a already exists. Use"), IdTaken)
