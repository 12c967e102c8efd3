"""Sends each request that the API's description has, with the example that stands there, and looks whether the
answer has the documented status and shape. A publisher is to be live as OPTIONS["live"] and another as
OPTIONS["other"], whose session is ended."""

import json
import sys
import urllib.error
import urllib.request

import jsonschema_rs
from events import OPTIONS, emit

BASE = OPTIONS["url"]
ORDER = ["post", "get", "patch", "put", "delete"]
# They need a receiver of deliveries; the tests of webhooks have one.
ELSEWHERE = ["testWebhook", "redeliver"]


def ask(method, path, body=None, media_type="application/json"):
    headers = {"Authorization": f"Bearer {OPTIONS['token']}"}
    data = None
    if body is not None:
        headers["Content-Type"] = media_type
        data = json.dumps(body).encode()
    request = urllib.request.Request(BASE + path, data, headers, method=method.upper())
    try:
        response = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as error:
        response = error
    with response:
        endless = response.headers.get_content_type() == "text/event-stream"
        return response.status, response.headers, b"" if endless else response.read()


def operations(document):
    """POSTs from the outside in, so that there is something to GET; DELETEs from the inside out."""
    found = [
        (method, path, item[method])
        for path, item in document["paths"].items()
        for method in item
        if method in ORDER and item[method]["operationId"] not in ELSEWHERE
    ]
    depth = lambda entry: entry[1].count("/") * (-1 if entry[0] == "delete" else 1)
    # Kicks come before what they would kick is forgotten.
    kicks = lambda entry: not entry[2]["operationId"].startswith("kick")
    return sorted(found, key=lambda entry: (ORDER.index(entry[0]), kicks(entry), depth(entry)))


def fill(path, operation, made):
    filled = path
    for parameter in operation.get("parameters", []):
        if parameter["in"] != "path":
            continue
        name = "{" + parameter["name"] + "}"
        value = OPTIONS["live"] if name == "{stream}" else made[path[: path.index("/" + name)]]
        filled = filled.replace(name, value)
    return filled


def check(document, method, path, operation, made):
    where = f"{method.upper()} {path}"
    body, media_type = None, None
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        assert "example" in content, f"{where} has no example"
        body = content["example"]
        if path == "/streams":
            body = {**body, "name": OPTIONS["live"]}
    status, headers, sent = ask(method, fill(path, operation, made), body, media_type)
    documented = [code for code in operation["responses"] if code != "default"]
    assert str(status) in documented, f"{where} answered {status}, not {documented}: {sent[:500]}"
    content = operation["responses"][str(status)].get("content", {})
    if not content:
        assert not sent, f"{where} answered with a body"
    elif "application/json" in content:
        schema = {**content["application/json"]["schema"], "components": document["components"]}
        jsonschema_rs.Draft202012Validator(schema, validate_formats=True).validate(json.loads(sent))
    if status == 201:
        made.setdefault(path, headers["Location"].rsplit("/", 1)[1])


def main():
    document = json.loads(ask("get", "/openapi.json")[2])
    other = json.loads(ask("get", f"/sessions?stream={OPTIONS['other']}")[2])
    made = {"/sessions": other["items"][0]["id"]}
    checked = operations(document)
    for method, path, operation in checked:
        check(document, method, path, operation, made)
    emit("checked", operations=len(checked))


if __name__ == "__main__":
    try:
        main()
    except Exception as error:  # the test shows it
        emit("failed", why=f"{type(error).__name__}: {error}")
        sys.exit(1)
