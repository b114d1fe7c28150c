"""TLS as a client: which authority is trusted, and the certificate that is shown."""

from __future__ import annotations

import ssl

from pipeline.settings import SettingsError


def context(service: str, ca: str, cert: str = "", key: str = "", password: str = "") -> ssl.SSLContext:
    """Returns a client context that checks names and certificates; "" or "system" as `ca` is the machine's own list.

    Raises SettingsError that names the file at fault.
    """
    try:
        made = ssl.create_default_context(cafile=None if ca in ("", "system") else ca)
    except (OSError, ssl.SSLError) as err:
        raise SettingsError(f"{service} authority {ca}: {err}; it must be a PEM file with certificates") from err
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert:
        try:
            made.load_cert_chain(cert, key or None, password or "")
        except (OSError, ssl.SSLError) as err:
            raise SettingsError(f"{service} certificate {cert} with key {key or cert}: {err}") from err
    return made
