"""The OpenAPI 3.1 document, made from the table of routes.

Bodies and answers are the same ``msgspec`` structs that the handlers decode and
encode, so the document cannot drift from the code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from heartcast import __version__
from heartcast.api.problems import Problem
from heartcast.api.route import Answer, Parameter, Route

_TEMPLATE = "#/components/schemas/{name}"
_PATH_PARAMETER = re.compile(r"{(\w+)}")
_PARAMETER_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """The whole document as plain JSON values."""
    routes = list(routes)
    types: list[type[Any]] = [Problem, *_types(routes)]
    schemas, components = msgspec.json.schema_components(types, schema_hook=_any, ref_template=_TEMPLATE)
    schema_of = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "heartcast",
            "version": __version__,
            "description": "Hearts come in, content gets ranked, pushes go out.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _any(type_: type[Any]) -> dict[str, Any]:
    if type_ is object:
        return {"description": "any JSON value"}  # an empty schema counts as none
    raise TypeError(f"{type_} has no JSON schema")


def _types(routes: list[Route]) -> list[type[Any]]:
    seen: dict[type[Any], None] = {}
    for route in routes:
        for type_ in (route.body, *route.answers.values()):
            if type_ is not None:
                seen[type_] = None
    return list(seen)


def _operation(route: Route, schema_of: dict[type[Any], dict[str, Any]]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": _operation_id(route),
        "tags": [route.tag],
        "security": [{}] if route.is_public else [{"token": []}, {"key": []}],
        "responses": {
            **{str(status): _response(route, type_, schema_of) for status, type_ in route.answers.items()},
            "default": {
                "description": "A problem (RFC 9457)",
                "content": {"application/problem+json": {"schema": schema_of[Problem]}},
            },
        },
    }
    parameters = _path_parameters(route) + [_query_parameter(parameter) for parameter in route.parameters]
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": _json(schema_of[route.body])}
    return operation


def _operation_id(route: Route) -> str:
    return "_".join(re.findall(r"\w+", f"{route.method.lower()} {route.path}"))


def _response(
    route: Route, type_: type[Any] | None, schema_of: dict[type[Any], dict[str, Any]]
) -> dict[str, Any]:
    response: dict[str, Any] = {"description": route.summary}
    if type_ is not None:
        response["content"] = _json(schema_of[type_])
    return response


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PATH_PARAMETER.findall(route.path)
    ]


def _query_parameter(parameter: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": _PARAMETER_TYPES[parameter.type]}
    if parameter.is_list:
        schema = {"type": "array", "items": schema}
    return {
        "name": parameter.name,
        "in": "query",
        "required": parameter.is_required,
        "description": parameter.summary,
        "schema": schema,
    }


def route(routes: Iterable[Route]) -> Route:
    """The route that serves the document of these routes and of itself."""
    described: list[Route] = list(routes)
    itself = Route(
        method="GET",
        path="/openapi.json",
        handler=lambda call: answer,
        summary="This document.",
        tag="operation",
        answers={200: None},
        is_public=True,
    )
    answer = Answer(200, msgspec.json.encode(document([*described, itself])))
    return itself
