import asyncio
import ssl
import urllib.error
import urllib.request

from kuberpa_cli.embedded.part import Probe
from kuberpa_cli.embedded.pki import Pki

_SECONDS = 2.0


def client_context(pki: Pki, identity: str, authority: str = "ca") -> ssl.SSLContext:
    """TLS that verifies the server by an authority of this cluster and presents a client certificate."""
    context = ssl.create_default_context(cafile=pki.certificate(authority))
    context.load_cert_chain(pki.certificate(identity), pki.key(identity))
    return context


def http(url: str, context: ssl.SSLContext | None = None) -> Probe:
    """Ready when a GET of `url` answers 200."""

    def get() -> str | None:
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        try:
            with opener.open(url, timeout=_SECONDS):
                return None
        except urllib.error.HTTPError as error:
            return f"{url} answers {error.code}: {error.read(500).decode(errors='replace')}"
        except OSError as error:
            return f"{url}: {error}"

    async def probe() -> str | None:
        return await asyncio.to_thread(get)

    return probe
