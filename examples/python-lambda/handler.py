"""An AWS Lambda handler in Python, unchanged."""

import base64
import json


def handler(event, context):
    body = event.get("body") or ""
    if event.get("isBase64Encoded"):
        body = base64.b64decode(body).decode()
    print(f"{event['requestContext']['http']['method']} {event['rawPath']}")
    return {
        "statusCode": 200,
        "headers": {"content-type": "application/json"},
        "body": json.dumps({"path": event["rawPath"], "words": len(body.split()), "function": context.function_name}),
    }
