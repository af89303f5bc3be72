"""The page's files: served without a key, below any prefix, and from this server alone."""

import re
from urllib.parse import urljoin

import pytest
from contract_calls import assert_error
from http_service import Service
from pages import ROOT

FOLDER = ROOT / "server" / "api" / "page" / "files"
NAMES = sorted(path.name for path in FOLDER.iterdir() if path.name != "index.html")
TYPES = {
    "css": "text/css; charset=utf-8",
    "jpg": "image/jpeg",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


def policy_of(header: str) -> dict[str, str]:
    return dict(part.strip().split(" ", 1) for part in header.split(";"))


def test_it_needs_no_key(service: Service) -> None:
    reply = service.client.get("/")
    assert (reply.status_code, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert reply.content == (FOLDER / "index.html").read_bytes()
    assert service.client.head("/").headers["content-length"] == str(len(reply.content))


@pytest.mark.parametrize("name", NAMES)
def test_its_files_are_served_as_what_they_are(service: Service, name: str) -> None:
    reply = service.client.get(f"/page/{name}")
    assert (reply.status_code, reply.content) == (200, (FOLDER / name).read_bytes())
    assert reply.headers["content-type"] == TYPES[name.rpartition(".")[2]]


@pytest.mark.parametrize("prefix", ["", "/faces"])
def test_everything_that_is_named_is_there_below_any_prefix(service: Service, prefix: str) -> None:
    headers = {"x-forwarded-prefix": prefix} if prefix else {}
    html = service.client.get("/", headers=headers).text
    named = {urljoin(f"{prefix}/", name) for name in re.findall(r'(?:src|href)="([^"]+)"', html)}
    modules = {urljoin(f"{prefix}/page/", name) for name in NAMES if name.endswith(".js")}
    imported = {
        urljoin(f"{prefix}/page/", name)
        for file in FOLDER.glob("*.js")
        for name in re.findall(r'from "(\./[^"]+)"', file.read_text())
    }
    assert len(named) > 5
    assert imported | {f"{prefix}/page/app.js"} == modules
    for path in named | imported:
        assert path.startswith(f"{prefix}/")
        reply = service.client.get(path.removeprefix(prefix), headers=headers)
        assert reply.status_code == 200, path


def test_no_file_names_another_host() -> None:
    for path in FOLDER.iterdir():
        if path.suffix in {".html", ".js", ".css"}:
            assert not re.search(r"https?://|[\"'(]//\w", path.read_text()), path.name


def test_no_file_makes_html_of_text() -> None:
    for path in FOLDER.glob("*.js"):
        wanted = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function"
        assert not re.search(wanted, path.read_text()), path.name


@pytest.mark.parametrize("path", ["/", "/page/app.js"])
def test_its_policy_allows_this_server_alone(service: Service, path: str) -> None:
    headers = service.client.get(path).headers
    policy = policy_of(headers["content-security-policy"])
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["img-src"] == "'self' blob:"
    assert policy["frame-ancestors"] == "'none'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_a_file_that_has_not_changed_is_not_sent_again(service: Service) -> None:
    first = service.client.get("/page/app.js")
    assert first.headers["cache-control"] == "no-cache"
    again = service.client.get("/page/app.js", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("name", ["other.js", "index.js", "..%2Fserving.py", "%2Fetc%2Fpasswd"])
def test_what_is_no_file_of_the_page_is_not_served(service: Service, name: str) -> None:
    key = service.new_key()
    reply = service.client.get(f"/page/{name}", headers={"x-api-key": key})
    assert_error(reply, 404, "The requested URL does not exist")


def test_the_example_is_the_one_in_the_repository() -> None:
    shipped = (FOLDER / "example.jpg").read_bytes()
    assert shipped == (ROOT / "examples" / "astronaut-damaged.jpg").read_bytes()
