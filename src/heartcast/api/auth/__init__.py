"""Who is calling: users by JWT, the operator's servers by API key.

    options         what can be chosen
    keys            keys that verify, each bound to one algorithm; reading PEM and JWKS
    jwks            keys fetched from an identity provider, kept fresh beside the requests
    claims          what a verified token says
    authenticator   credentials in, identities out; the memory of verified tokens

HTTP, WebSocket connections, subscription tokens and event streams all ask the one
``Authenticator`` of the process, so a token means the same everywhere.
"""

from heartcast.api.auth.authenticator import Authenticator
from heartcast.api.auth.claims import Claims
from heartcast.api.auth.options import MIN_SECRET_BYTES, ApiKey, AuthOptions

ALGORITHM = "HS256"
"""Of the tokens that ``Authenticator.issue`` signs."""

__all__ = ["ALGORITHM", "ApiKey", "AuthOptions", "Authenticator", "Claims", "MIN_SECRET_BYTES"]
