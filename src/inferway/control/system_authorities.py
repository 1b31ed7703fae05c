"""Where this machine keeps the authorities that it trusts.

Problem: every system has its own place for them, and Envoy, which reads the file itself, refuses a
whole update when it is missing or damaged. Model: looked for once, at start. The first file that
there is counts, if it can be read: one that an administrator chose is not passed over.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

_PLACES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, Red Hat
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # macOS, BSD
)


def system_ca_file() -> str:
    """The file with the authorities of this machine: SSL_CERT_FILE or the usual place. Empty when
    there is none or it cannot be read.
    """
    chosen = ssl.get_default_verify_paths().cafile
    paths = [Path(one) for one in (chosen, *_PLACES) if one]
    found = next((path for path in paths if path.is_file()), None)
    if found is None:
        return ""
    try:
        # What systems bring is older and odder than what this gateway takes from people.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(found)
    except OSError:  # that of the library is one too
        return ""
    return str(found.absolute())
