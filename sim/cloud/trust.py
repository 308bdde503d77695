"""How clients are told to trust the cloud's certificates: lines to read and to paste."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Final

from sim.cloud.config import Address

_LINES: Final = """\
curl:            curl --cacert {ca} https://{place}/status
Python requests: REQUESTS_CA_BUNDLE={ca} python app.py
Python ssl:      ssl.create_default_context(cafile={python}), or SSL_CERT_FILE={ca} python app.py
Node:            NODE_EXTRA_CA_CERTS={ca} node app.js
PHP:             php -d curl.cainfo={ca} -d openssl.cafile={ca} app.php
Go on Linux:     SSL_CERT_FILE={ca} ./app
Java:            keytool -importcert -noprompt -alias gizsim -file {ca} -keystore gizsim.p12 \
-storetype PKCS12 -storepass changeit
                 java -Djavax.net.ssl.trustStore=gizsim.p12 -Djavax.net.ssl.trustStorePassword=changeit \
-jar app.jar
Firefox:         Settings, Privacy & Security, View Certificates, Authorities, Import: {plain}
Chrome on Linux: certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n gizsim -i {ca}
Debian, Ubuntu:  sudo cp {ca} /usr/local/share/ca-certificates/gizsim.crt && sudo update-ca-certificates
Fedora, Arch:    sudo trust anchor {ca}
macOS:           security add-trusted-cert -r trustRoot -k ~/Library/Keychains/login.keychain-db {ca}
Windows:         certutil -user -addstore Root {windows}
A browser or system that trusts this CA believes it about every site: remove it there when you are done."""


def trust_text(ca: Path, address: str) -> list[str]:
    """How clients are told to trust the CA, a line each.

    :param ca: The file with its certificate, as the reader of the lines can reach it.
    :param address: ``HOST:PORT`` where the HTTPS server listens.
    """
    where = Address.parse(address)
    place = Address("localhost", where.port) if where.is_wildcard else where
    path = str(ca.absolute())
    return _LINES.format(
        ca=shlex.quote(path), plain=path, python=repr(path), windows=f'"{path}"', place=place
    ).splitlines()
