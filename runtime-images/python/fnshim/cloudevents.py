"""CloudEvents 1.0 over HTTP: binary mode, one in the JSON format, and batches of them."""

import base64
import binascii
import json
import re
import time
from datetime import datetime, timezone

_BATCH_TYPE = "application/cloudevents-batch+json"
_ONE_TYPE = "application/cloudevents+json"
_JSON_TYPE = re.compile(r"(?:application/json|text/json|[^;\s]+\+json)\s*(?:;|$)", re.IGNORECASE)
_TEXT_TYPE = re.compile(
    r"(?:text/|application/(?:xml|javascript|ecmascript|x-www-form-urlencoded|graphql|x-ndjson|yaml)\b|[^;\s]+\+(?:xml|yaml)\b)",
    re.IGNORECASE,
)
# What the specification allows; `data` is none.
_ATTRIBUTE = re.compile(r"(?!data$)[a-z0-9]+")
_QUOTED = re.compile(r'"(.*)"', re.DOTALL)


class MalformedEvent(Exception):
    """A body that is no event: the sender's mistake, not the function's."""


class CloudEvent:
    """An event: its attributes, and its data as what it is (JSON parsed, text, or bytes).

    Extensions are attributes too, and in `extensions`; all are text but `attempt`, which is a number.
    """

    def __init__(self, attributes, data, raw):
        self.specversion = attributes.get("specversion", "1.0")
        self.id = attributes["id"]
        self.source = attributes["source"]
        self.type = attributes["type"]
        self.subject = attributes.get("subject")
        self.time = attributes.get("time")
        self.datacontenttype = attributes.get("datacontenttype")
        self.dataschema = attributes.get("dataschema")
        self.data = data
        self.extensions = {name: value for name, value in attributes.items() if name not in _CORE}
        # As it was sent, before anything was made of it: str or bytes.
        self._raw = raw

    def __getattr__(self, name):
        # Asked for what is no attribute of its own.
        if not name.startswith("_") and name in self.extensions:
            return self.extensions[name]
        raise AttributeError(f"the event has no attribute {name}")

    def to_dict(self):
        """The event in the JSON format: bytes are in `data_base64`."""
        fields = {name: getattr(self, name) for name in _CORE if getattr(self, name) is not None}
        fields.update(self.extensions)
        if isinstance(self.data, bytes):
            fields["data_base64"] = base64.b64encode(self.data).decode()
        elif self.data is not None:
            fields["data"] = self.data
        return fields

    def __repr__(self):
        return f"CloudEvent({self.to_dict()!r})"


_CORE = ("specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema")


def parse_events(head, body):
    """(whether they came as a batch, the events in their order). Raises MalformedEvent."""
    # Binary mode is told by its attributes: its data may well be of one of the other two types.
    if head.get(b"ce-specversion") is not None or head.get(b"ce-id") is not None:
        return False, [_binary(head, body)]
    media = (head.get(b"content-type") or "").partition(";")[0].strip().lower()
    if media == _ONE_TYPE:
        return False, [_from_json(_parse(body), "the event")]
    if media != _BATCH_TYPE:
        raise MalformedEvent(f"neither ce-* headers nor content-type {_BATCH_TYPE} make it an event")
    values = _parse(body)
    if not isinstance(values, list):
        raise MalformedEvent("the batch is not a JSON array")
    return True, [_from_json(value, f"event {index} of the batch") for index, value in enumerate(values)]


def _parse(body):
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedEvent(f"the body is not JSON ({error})") from None


def _binary(head, body):
    attributes = {}
    for name, value in head.values.items():
        if name.startswith(b"ce-") and name != b"ce-datacontenttype":
            _put(attributes, name[3:].decode("latin-1"), _header_value(value))
    media = head.get(b"content-type")
    if media is not None:
        attributes["datacontenttype"] = media
    _check(attributes, "the event")
    return CloudEvent(attributes, _data(body, media), _text_or_bytes(body))


def _header_value(value):
    """Percent-encoded UTF-8, in quotes where the sender likes them (HTTP binding, 3.1.3.2)."""
    quoted = _QUOTED.fullmatch(value.decode("latin-1"))
    if quoted is not None:
        value = re.sub(r"\\(.)", r"\1", quoted[1], flags=re.DOTALL).encode("latin-1")
    if b"%" in value:
        decoded = re.sub(rb"%([0-9A-Fa-f]{2})", lambda match: bytes([int(match[1], 16)]), value)
        return decoded.decode("utf-8", "replace")
    try:
        return value.decode()  # raw UTF-8 is not allowed, and sent nevertheless
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _from_json(value, which):
    if not isinstance(value, dict):
        raise MalformedEvent(f"{which} is not an object")
    if value.get("data_base64") is not None and "data" in value:
        raise MalformedEvent(f"{which} has both data and data_base64")
    attributes = {}
    for name, given in value.items():
        if name not in ("data", "data_base64"):
            _put(attributes, name, given)
    _check(attributes, which)
    media = attributes.get("datacontenttype")
    encoded = value.get("data_base64")
    if encoded is not None:
        try:
            body = base64.b64decode(encoded, validate=True)
        except (TypeError, ValueError, binascii.Error):
            raise MalformedEvent(f"data_base64 of {which} is not base64") from None
        return CloudEvent(attributes, _data(body, media), _text_or_bytes(body))
    if "data" not in value:
        return CloudEvent(attributes, None, "")
    data = value["data"]
    if isinstance(data, str) and (media is None or not _JSON_TYPE.match(media)):
        # Text of a type that is neither text nor JSON: the bytes happened to be UTF-8. Alone they would be bytes, so they are here.
        if media is None:
            made = _untyped(data)
        else:
            made = data if _TEXT_TYPE.match(media) else data.encode("utf-8", "surrogatepass")
        return CloudEvent(attributes, made, data)
    return CloudEvent(attributes, data, json.dumps(data, ensure_ascii=False, separators=(",", ":")))


def _put(attributes, name, value):
    """Attributes are text, whatever they were in JSON; null is as if absent."""
    if value is None or not _ATTRIBUTE.fullmatch(name):
        return
    if name == "attempt":
        attributes[name] = _attempt(value)
    elif isinstance(value, str):
        attributes[name] = value
    elif isinstance(value, (bool, dict, list)):
        attributes[name] = json.dumps(value)
    else:
        attributes[name] = str(value)


def _attempt(value):
    try:
        return int(value) or 1
    except (TypeError, ValueError):
        return 1


def _check(attributes, which):
    for name in ("id", "source", "type"):
        if not attributes.get(name):
            raise MalformedEvent(f"{which} has no {name}")


def _text_or_bytes(body):
    try:
        return body.decode()
    except UnicodeDecodeError:
        return bytes(body)


def _data(body, media):
    """JSON parsed where it is of that type (and is JSON), text where it is text, else bytes."""
    is_text = media is not None and _TEXT_TYPE.match(media) is not None
    if not body:
        return "" if is_text else None
    given = _text_or_bytes(body)
    if isinstance(given, bytes) or is_text:
        return given
    if media is None:
        return _untyped(given)
    if not _JSON_TYPE.match(media):
        return bytes(body)
    try:
        return json.loads(given)
    except (ValueError, RecursionError):
        return given  # it says that it is JSON, and is not: the function may know better


def _untyped(text):
    """Many brokers tell no type (Redis, Kafka, MQTT 3): an object or a list in JSON is taken for what it looks like."""
    if not text.lstrip().startswith(("{", "[")):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def parse_time(text):
    """Seconds since 1970 of an RFC 3339 time; None where it is none."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def time_of(event):
    """When it happened, seconds since 1970; now, where it does not say."""
    moment = parse_time(event.time)
    return time.time() if moment is None else moment
