"""What the environment says of HTTP: proxies, and files of certificate authorities. Checked before the first request.

requests and boto3 read these variables themselves, and meet a wrong one with an error of the connection, as if the
other side were down.
"""

import os
import ssl
from urllib.parse import urlsplit

import requests
import urllib3

from loaders.errors import OperatorError

BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")  # that requests reads; SSL_CERT_FILE is neither's
AWS_BUNDLES = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")
NOT_TRUSTED = ("self-signed certificate", "self signed certificate", "unable to get local issuer certificate")


def check(url: str, bundles: tuple[str, ...] = BUNDLES) -> None:
    """Raise OperatorError where a variable that a request to the URL depends on is wrong."""
    scheme = urlsplit(url).scheme
    if scheme == "https":
        name = next((name for name in bundles if os.environ.get(name)), None)
        if name:
            _check_bundle(name, os.environ[name])
    proxy = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
    if proxy:
        _check_proxy(scheme, proxy)


def check_aws(service: str) -> None:
    """The same for requests by boto3 to a service of AWS, or to the endpoint in its place."""
    endpoint = os.environ.get(f"AWS_ENDPOINT_URL_{service.upper()}") or os.environ.get("AWS_ENDPOINT_URL")
    check(endpoint or f"https://{service}.amazonaws.com", AWS_BUNDLES)


def is_not_trusted(error: BaseException) -> bool:
    """Whether nobody that is trusted has signed the server's certificate: no retry helps then."""
    return isinstance(error, requests.exceptions.SSLError) and any(words in str(error) for words in NOT_TRUSTED)


def _check_bundle(name: str, path: str) -> None:
    remedy = f"give a file of certificates in PEM, or take {name} away"
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if os.path.isdir(path):  # noqa: PTH112 (of hashed names, as OpenSSL has it)
            return
        context.load_verify_locations(path)
    except ssl.SSLError:
        raise OperatorError(f"{name} is {path!r}, which holds no certificate: {remedy}") from None
    except OSError as error:
        raise OperatorError(f"{name} is {path!r}, which cannot be read ({error.strerror}): {remedy}") from None


def _check_proxy(scheme: str, proxy: str) -> None:
    """Without quoting it: a proxy's URL may hold a password."""
    try:
        url = urllib3.util.parse_url(proxy if "://" in proxy else f"http://{proxy}")
    except urllib3.exceptions.LocationParseError:
        url = urllib3.util.Url()
    if url.scheme not in ("http", "https") or not url.host:
        names = f"{scheme.upper()}_PROXY or ALL_PROXY"
        raise OperatorError(f"{names} is not the URL of an HTTP proxy: give http://host:port, or take it away")
