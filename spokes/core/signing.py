"""Sign as HubSpot does (v3). Rule: for requests that we make ourselves, to try a deployment out.

Source: HubSpot's "Validating Requests".
"""

import base64
import hmac

from spokes.core.signature import SIGNATURE_V3, TIMESTAMP


def signed(secret: str, url: str, body: bytes, now_ms: int) -> dict[str, str]:
    """Return the headers of a signed POST; `url` holds nothing that is decoded first."""
    digest = hmac.digest(secret.encode(), b"POST" + url.encode() + body + str(now_ms).encode(), "sha256")
    signature = base64.b64encode(digest).decode()
    return {"Content-Type": "application/json", SIGNATURE_V3: signature, TIMESTAMP: str(now_ms)}
