"""The `lambda` form: API Gateway's HTTP payload, version 2.0, and what a handler may answer to it."""

import base64
import inspect
import json
import re
import time
from urllib.parse import parse_qsl

from .invocation import wait_until
from .limits import MAX_LAMBDA_BODY_BYTES
from .response import BadResponse

_TEXT_TYPE = re.compile(
    r"(?:text/|application/(?:json|xml|javascript|ecmascript|x-www-form-urlencoded|graphql|x-ndjson)\b|[^;]+\+(?:json|xml)\b)",
    re.IGNORECASE,
)
_NOT_SENT = {"connection", "keep-alive", "transfer-encoding", "content-length", "upgrade"}
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class LambdaContext:
    """As AWS has it."""

    def __init__(self, invocation):
        info = invocation.info
        self._invocation = invocation
        self.aws_request_id = invocation.id
        self.function_name = info.name
        self.function_version = str(info.number)
        self.invoked_function_arn = f"arn:aws:lambda:local:000000000000:function:{info.namespace}-{info.name}:{info.number}"
        self.memory_limit_in_mb = str(info.memory_mib)
        self.log_group_name = f"/aws/lambda/{info.name}"
        self.log_stream_name = info.instance
        self.identity = None
        self.client_context = None

    def get_remaining_time_in_millis(self):
        return max(0, int(self._invocation.deadline - time.time() * 1000))

    def log(self, message):
        print(message)

    def wait_until(self, work):
        """Of this platform, beside what AWS has: see ctx.wait_until of a plain function."""
        wait_until(self._invocation, work)


def lambda_handler(handler, run_on_thread):
    async def handle(request, invocation):
        body = await request.body.read_all(MAX_LAMBDA_BODY_BYTES)
        if body is None:
            detail = f"The Lambda form takes at most {MAX_LAMBDA_BODY_BYTES} bytes."
            return request.response.send_problem(413, "body-too-large", "Body too large", detail, invocation.id)
        event = make_event(request, body, invocation)
        context = LambdaContext(invocation)
        call_result = await run_on_thread(invocation, _call(handler, event, context))
        result = await call_result if inspect.isawaitable(call_result) else call_result
        _send(request.response, result, invocation)

    return handle


def async_lambda_handler(handler):
    async def run(invocation, call):
        return call()

    return lambda_handler(handler, run)


def _call(handler, event, context):
    return lambda: handler(event, context)


def make_event(request, body, invocation):
    head = request.head
    path = request.path_text
    query = head.query.decode("latin-1")
    headers = {}
    for name, value in request.user_headers():
        text = name.decode("latin-1")
        headers[text] = f"{headers[text]},{value.decode('latin-1')}" if text in headers else value.decode("latin-1")
    domain = request.host
    now = time.time()
    binary = bool(body) and not (_TEXT_TYPE.match(headers.get("content-type", "text/plain")) and _is_utf8(body))
    event = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": headers,
        "requestContext": {
            "accountId": "anonymous",
            "apiId": invocation.info.name,
            "domainName": domain,
            "domainPrefix": domain.split(".")[0],
            "http": {
                "method": head.method.decode("latin-1"),
                "path": path,
                "protocol": f"HTTP/1.{head.minor}",
                "sourceIp": request.client,
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": invocation.id,
            "routeKey": "$default",
            "stage": "$default",
            "time": _access_time(now),
            "timeEpoch": int(now * 1000),
        },
        "isBase64Encoded": binary,
    }
    cookies = [part for part in re.split(r";\s*", headers.get("cookie", "")) if part]
    if cookies:
        event["cookies"] = cookies
    parameters = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        parameters[name] = f"{parameters[name]},{value}" if name in parameters else value
    if parameters:
        event["queryStringParameters"] = parameters
    if body:
        event["body"] = base64.b64encode(body).decode() if binary else body.decode()
    return event


def _is_utf8(body):
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _access_time(now):
    at = time.gmtime(now)
    return f"{at.tm_mday:02}/{_MONTHS[at.tm_mon - 1]}/{at.tm_year}:{time.strftime('%H:%M:%S', at)} +0000"


def _send(response, result, invocation):
    try:
        status, headers, body = _parts(result)
        response.head_bytes(status, headers, len(body))
    except BadResponse as error:
        detail = f"The handler returned what cannot be sent: {error}."
        return response.send_problem(502, "function-bad-response", "The function sent an invalid response", detail, invocation.id)
    response.send(status, headers, body)


def _parts(result):
    """(status, headers, body). Raises BadResponse; TypeError where it is not JSON."""
    if not isinstance(result, dict) or "statusCode" not in result:
        # Anything without a status is the body of a 200, as API Gateway has it.
        text = result if isinstance(result, str) else json.dumps(result)
        return 200, [("content-type", "application/json")], text.encode()
    try:
        status = int(result["statusCode"])
    except (TypeError, ValueError):
        raise BadResponse(f"statusCode is {result['statusCode']!r}; it must be a number from 200 to 599") from None
    if not 200 <= status <= 599:
        raise BadResponse(f"statusCode is {status}; it must be a number from 200 to 599")
    given = result.get("body")
    text = "" if given is None else given if isinstance(given, str) else json.dumps(given)
    if result.get("isBase64Encoded") is True:
        try:
            body = base64.b64decode(text, validate=True)
        except ValueError:
            raise BadResponse("isBase64Encoded is true, and the body is not base64") from None
    else:
        body = text.encode()
    headers = _headers(result)
    if body and not any(name == "content-type" for name, _ in headers):
        headers.append(("content-type", "text/plain; charset=utf-8"))
    return status, headers, body


def _headers(result):
    multi = {str(name).lower(): values for name, values in (result.get("multiValueHeaders") or {}).items()}
    headers = []
    for key, value in (result.get("headers") or {}).items():
        name = str(key).lower()
        if name not in multi and value is not None:
            headers.append((name, _text(value)))
    for name, values in multi.items():
        headers += [(name, _text(value)) for value in (values if isinstance(values, (list, tuple)) else [values])]
    headers += [("set-cookie", str(cookie)) for cookie in result.get("cookies") or []]
    return [(name, value) for name, value in headers if name not in _NOT_SENT and not name.startswith("fn-")]


def _text(value):
    return str(value).lower() if isinstance(value, bool) else str(value)
