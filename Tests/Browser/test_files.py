"""What every node serves to browsers."""

import http.client
import json
import re
import urllib.parse
from pathlib import Path

import pytest

from harness import problem

FILES = Path(__file__).resolve().parents[2] / "Sources/WebClient/Resources/client"
TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".ts": "text/plain; charset=utf-8", ".json": "application/json", ".svg": "image/svg+xml"}


def test_every_node_serves_every_file(cluster):
    for file in FILES.iterdir():
        answers = [cluster.http.get(f"{base}/client/{file.name}") for base in (cluster.url, *cluster.apis, *cluster.edges)]
        for answer in answers:
            assert answer.status_code == 200 and answer.content == file.read_bytes()
            assert answer.headers["content-type"] == TYPES[file.suffix]
            assert answer.headers["cache-control"] == "public, no-cache"
            assert answer.headers["x-content-type-options"] == "nosniff"
        assert len({answer.headers["etag"] for answer in answers}) == 1


def test_a_file_that_is_known_is_not_sent_again(cluster):
    url = f"{cluster.url}/client/carillon.js"
    tag = cluster.http.get(url).headers["etag"]
    again = cluster.http.get(url, headers={"If-None-Match": tag})
    assert again.status_code == 304 and again.content == b"" and again.headers["etag"] == tag
    assert cluster.http.get(url, headers={"If-None-Match": '"another"'}).status_code == 200
    head = cluster.http.head(url)
    assert head.status_code == 200 and head.content == b""


@pytest.mark.parametrize(
    "path",
    [
        "/client/", "/client", "/client/absent.js", "/client/../demo.html", "/client/..%2fdemo.html", "/client/%2e%2e/demo.html", "/client/..\\demo.html",
        "/client//etc/passwd", "/client/../../../../../etc/passwd", "/client/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "/client/carillon.js/", "/client/carillon.js%00",
        "/client/./carillon.js", "/client/demo.html", "/client/CARILLON.JS",
    ],
)  # fmt: skip
def test_nothing_else_is_reached(cluster, path):
    """Exactly as written: a client library would tidy it up."""
    for base in (cluster.apis[0], cluster.edges[0]):
        url = urllib.parse.urlsplit(base)
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=30)
        connection.putrequest("GET", path)
        connection.endheaders()
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        assert answer.status in (400, 404), (path, answer.status, body[:80])
        assert b"root:" not in body and b"<!doctype" not in body


def test_files_are_not_written_to(cluster):
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert cluster.http.request(method, f"{cluster.edges[0]}/client/carillon.js").status_code in (404, 405)


@pytest.mark.parametrize("page", ["demo", "console"])
def test_pages_have_a_strict_policy(cluster, page):
    for base in (*cluster.apis, *cluster.edges):
        answer = cluster.http.get(f"{base}/{page}")
        assert answer.status_code == 200 and answer.headers["content-type"] == "text/html; charset=utf-8"
        policy = dict(each.strip().split(" ", 1) for each in answer.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'" and policy["script-src"] == "'self'" and policy["style-src"] == "'self'"
        assert policy["require-trusted-types-for"] == "'script'" and policy["frame-ancestors"] == "'self'" and policy["base-uri"] == "'none'"
        # Nothing that this policy would have to allow.
        assert re.findall(r"<script(?![^>]*\bsrc=)|\bon[a-z]+=|\bstyle=|<style", answer.text) == []


def test_pages_that_are_not_there(cluster):
    problem(cluster.http.get(f"{cluster.edges[0]}/client/none.js"), 404, "not_found")


def test_it_is_a_package(cluster):
    package = json.loads((FILES / "package.json").read_text())
    for entry in package["exports"].values():
        for target in [entry] if isinstance(entry, str) else entry.values():
            assert (FILES / target).is_file(), target
    assert package["type"] == "module" and package["main"] == "./carillon.js"


def test_modules_import_each_other_only():
    """A bare name is found by bundlers and import maps alone: `react`, in hooks.js."""
    bare = {}
    for file in FILES.glob("*.js"):
        for name in re.findall(r"^(?:import|export)\b[^'\"]*\bfrom ['\"]([^'\"]+)['\"]", file.read_text(), re.M):
            if name.startswith("./"):
                assert (FILES / name).is_file(), f"{file.name}: {name}"
            else:
                bare.setdefault(file.name, []).append(name)
    assert bare == {"hooks.js": ["react"]}


def test_nothing_makes_markup_of_text():
    for file in FILES.glob("*.js"):
        assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|dangerouslySet|\beval\(|new Function", file.read_text()) == [], file.name


def test_the_description_names_every_file(cluster):
    [parameter] = [each for each in cluster.http.get(f"{cluster.url}/openapi.json").json()["paths"]["/client/{file}"]["get"]["parameters"] if "name" in each]
    assert sorted(parameter["schema"]["enum"]) == sorted(file.name for file in FILES.iterdir())
