"""The OpenAPI document says what the contract's tables say, and its page needs no other host."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest
from contract_calls import GOOD, assert_error
from fastapi.routing import APIRoute
from http_service import ResizeEngine, Service
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from pipeline.report import FaceIdentity, Report
from server.accounts.service import AccountService
from server.api import contract
from server.api.app import create_app
from server.api.fields import Field
from server.api.replies import ERRORS
from server.settings import Settings

Serve = Callable[..., AbstractContextManager[Service]]
BODIES = {
    contract.PATH: contract.FIELDS,
    contract.DETECT_PATH: contract.DETECT_FIELDS,
    contract.V2_PATH: contract.V2_FIELDS,
}
JSON, FORM = "application/json", "multipart/form-data"


@pytest.fixture(scope="module")
def document(shared_service: Service) -> dict[str, Any]:
    reply = shared_service.client.get("/openapi.json")
    assert (reply.status_code, reply.headers["content-type"]) == (200, JSON)
    return reply.json()


def calls(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def resolved(document: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in value:
        return value
    for name in value["$ref"].removeprefix("#/").split("/"):
        document = document[name]
    return document


def test_it_is_valid(document: dict[str, Any]) -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []
    assert document["openapi"].startswith("3.1.")


def test_it_has_every_route_of_the_application_and_no_other(
    document: dict[str, Any], tmp_path
) -> None:
    settings = Settings(data_dir=tmp_path)
    accounts = AccountService.open(settings)
    app = create_app(settings, accounts=accounts, engine=ResizeEngine())
    routes = [route for route in app.routes if isinstance(route, APIRoute)]
    accounts.close()
    assert len(routes) == len(app.routes)
    served = {(method, route.path) for route in routes for method in route.methods}
    assert {(method, path) for method, path, _ in calls(document)} == served


@pytest.mark.parametrize("media_type", [JSON, FORM])
@pytest.mark.parametrize("path", BODIES)
def test_every_field_has_its_type_range_default_and_text(
    document: dict[str, Any], path: str, media_type: str
) -> None:
    body = document["paths"][path]["post"]["requestBody"]
    schema = resolved(document, body["content"][media_type]["schema"])
    assert body["required"] is True
    assert list(schema["properties"]) == [field.name for field in BODIES[path]]
    assert schema["required"] == [field.name for field in BODIES[path] if field.missing]
    for field in BODIES[path]:
        assert_described(field, schema["properties"][field.name])
    if media_type == JSON:
        OAS31Validator(schema).validate(body["content"][JSON]["example"])


def assert_described(field: Field, schema: dict[str, Any]) -> None:
    types = {"int": "integer", "float": "number", "bool": "boolean"}
    assert schema["description"].startswith(field.help)
    if field.choices:
        assert [str(value) for value in schema["enum"]] == list(field.choices)
        assert schema["type"] == ("integer" if field.name == "upscale" else "string")
    else:
        assert schema["type"] == types.get(field.kind, "string")
    default, high = field.default or None, field.high
    if field.setting is not None:
        default = getattr(Settings(), field.setting)
        high = default if field.capped else high
    if field.default is False:
        default = False
    assert schema.get("default") == default
    assert (schema.get("minimum"), schema.get("maximum")) == (field.low, high)


def test_defaults_and_ranges_are_those_of_the_servers_settings(serve: Serve) -> None:
    limits = {"upscale": 4, "max_faces": 7, "detection_threshold": 0.25, "max_request_steps": 15}
    with serve(**limits) as service:
        schemas = service.client.get("/openapi.json").json()["components"]["schemas"]
    described = schemas["DetailFacesBody"]["properties"]
    assert described["upscale"]["default"] == 4
    assert (described["max_faces"]["default"], described["max_faces"]["maximum"]) == (7, 7)
    assert described["detection_threshold"]["default"] == 0.25


def test_every_error_is_there_with_its_status_and_body(document: dict[str, Any]) -> None:
    shown: dict[str, set[str]] = {}
    for _, _, operation in calls(document):
        for status, response in operation["responses"].items():
            for content in response.get("content", {}).values():
                for name, example in content.get("examples", {}).items():
                    text = example["value"]
                    if isinstance(text, dict) and set(text) == {"error"}:
                        shown.setdefault(f"{status} {re.sub('[0-9]+$', '', name)}", set()).add(
                            text["error"]
                        )
                    elif status == "405":
                        shown.setdefault(f"405 {name}", set()).add("")
    wanted = {
        f"{row.status} {kind.__name__ if kind is not Exception else 'Failure'}": row.text
        for kind, row in ERRORS.items()
    }
    assert shown.keys() == wanted.keys()
    for name, text in wanted.items():
        pattern = re.escape(text).replace(r"\{\}", ".+")
        assert all(re.fullmatch(pattern, found) for found in shown[name] if found), name


def test_every_status_has_an_example_that_fits_its_schema(document: dict[str, Any]) -> None:
    validated = 0
    for method, path, operation in calls(document):
        for status, response in operation["responses"].items():
            content = response.get("content", {})
            assert (method == "HEAD") == (not content), (method, path, status)
            for media_type, form in content.items():
                if media_type != JSON or path == contract.OPENAPI_PATH:
                    continue
                root = {**form["schema"], "components": document["components"]}
                validator = OAS31Validator(root)
                for example in form["examples"].values():
                    validator.validate(example["value"])
                    validated += 1
    assert validated > 100


def test_every_key_is_asked_for_where_the_server_asks_for_it(
    document: dict[str, Any], service: Service
) -> None:
    schemes = document["components"]["securitySchemes"]
    assert schemes["key"] == {"type": "apiKey", "in": "header", "name": "x-api-key"}
    assert (schemes["bearer"]["type"], schemes["bearer"]["scheme"]) == ("http", "bearer")
    for method, path, operation in calls(document):
        reply = service.client.request(method, re.sub(r"{\w+}", "none", path))
        assert (reply.status_code == 401) == bool(operation["security"]), (method, path)
        assert ("401" in operation["responses"]) == bool(operation["security"])


def headers_of(document: dict[str, Any], path: str, method: str, status: str) -> dict[str, bool]:
    """The documented headers in lower case, and whether they are on every such reply."""
    headers = document["paths"][path][method]["responses"][status]["headers"]
    return {
        name.lower(): resolved(document, header)["required"] for name, header in headers.items()
    }


def own(reply: httpx.Response) -> set[str]:
    plain = {"content-length", "content-type", "date", "server"}
    return {name.lower() for name in reply.headers} - plain


@pytest.mark.parametrize(
    "report",
    [
        Report(),
        Report(
            left_out={"budget": 2},
            unread=("a",),
            note="b",
            identity=(FaceIdentity(1, 1, None, "unknown"),),
        ),
    ],
)
def test_replies_carry_the_headers_that_are_documented(
    document: dict[str, Any], service: Service, report: Report
) -> None:
    service.engine.report = report
    reply = service.post(service.new_key(), **GOOD)
    described = headers_of(document, contract.PATH, "post", "200")
    wanted = {name for name, always in described.items() if always or report.note}
    assert own(reply) == wanted


def test_a_refusal_carries_the_headers_that_are_documented(
    document: dict[str, Any], serve: Serve
) -> None:
    with serve(rate_limit_per_minute=1) as service:
        key = service.new_key()
        service.post(key, **GOOD)
        refused = service.post(key, **GOOD)
    assert refused.status_code == 429
    assert own(refused) == headers_of(document, contract.PATH, "post", "429").keys()


def test_addresses_are_those_the_sender_knows(service: Service, serve: Serve) -> None:
    forwarded = {"x-forwarded-prefix": "/faces", "x-forwarded-proto": "https"}
    plain = service.client.get("/openapi.json").json()
    behind = service.client.get("/openapi.json", headers=forwarded).json()
    host = service.url.removeprefix("http://")
    assert plain["servers"] == [{"url": service.url}]
    assert behind["servers"] == [{"url": f"https://{host}/faces"}]
    assert {**plain, "servers": []} == {**behind, "servers": []}
    with serve(public_base_url="https://faces.example/a") as other:
        servers = other.client.get("/openapi.json").json()["servers"]
    assert servers == [{"url": "https://faces.example/a"}]


@pytest.mark.parametrize("prefix", ["", "/faces"])
def test_the_page_loads_everything_from_this_server(service: Service, prefix: str) -> None:
    headers = {"x-forwarded-prefix": prefix} if prefix else {}
    page = service.client.get("/docs", headers=headers)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "http" not in re.sub(r"<!--.*?-->", "", page.text, flags=re.DOTALL)
    named = re.findall(r'(?:src|href)="([^"]+)"', page.text) + re.findall(
        r"url: '(.+?)'", page.text
    )
    assert len(named) == 4
    for address in named:
        path = urljoin(f"{prefix}/docs", address)
        assert path.startswith(f"{prefix}/")
        reply = service.client.get(path.removeprefix(prefix), headers=headers)
        assert reply.status_code == 200, address
    types = {service.client.head(f"/docs/{name}").headers["content-type"] for name in FILES}
    assert types == {"text/javascript; charset=utf-8", "text/css; charset=utf-8", "image/png"}
    assert_error(service.client.get("/docs/other.js"), 404, "The requested URL does not exist")


FILES = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png")


@pytest.mark.parametrize("path", ["/docs", "/docs/swagger-ui.css"])
def test_no_page_is_framed_and_none_loads_from_another_host(service: Service, path: str) -> None:
    headers = service.client.get(path).headers
    policy = headers["content-security-policy"]
    for part in ("default-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"):
        assert part in policy
    assert "http" not in policy
    assert not re.search(r"script-src[^;]*unsafe", policy)
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_it_says_what_the_server_takes_and_what_that_costs(serve: Serve) -> None:
    settings = {"max_body_bytes": 5000, "max_image_pixels": 700, "max_side_px": 80}
    with serve(**settings, cost_per_sample="0.25") as service:
        said = service.client.get("/openapi.json").json()["x-server"]
    free = dict.fromkeys(("call", "face", "megapixel", "step", "detection"), 0.0)
    assert said == {**settings, "prices": {**free, "sample": 0.25}}


@pytest.mark.parametrize(
    "path", ["/", "/page/app.js", "/docs", "/openapi.json", "/docs/swagger-ui.css"]
)
def test_turned_off_it_is_an_unknown_path(serve: Serve, path: str) -> None:
    with serve(pages=False) as service:
        key = service.new_key()
        keyless = service.client.get(path)
        keyed = service.client.get(path, headers={"x-api-key": key})
    assert_error(keyless, 401, "Missing Authorization or x-api-key in header")
    assert_error(keyed, 404, "The requested URL does not exist")
