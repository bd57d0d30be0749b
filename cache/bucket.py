"""The client of object storage, and what its errors mean to a user.

Addresses, keys and regions come from the AWS_* variables, as every S3 client reads them.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from .checks import brief
from .errors import CacheError, StoppedError
from .extras import require_extra
from .place import SCHEME, ObjectUrl

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Store

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_RETRIES, _RETRY_FOR = 5, timedelta(minutes=2)
_LONGEST = timedelta(minutes=20)  # one request: a shard through a slow line
# Where clients ask a machine of the cloud for its keys, if no variable has them.
_METADATA = ("169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::")


def bucket_client(url: ObjectUrl) -> "S3Store":
    """A client of the bucket of `url`, whose names begin at the bucket. CacheError when the variables are wrong."""
    require_extra("obstore", extra="s3", wanted_by=str(url))
    from obstore.exceptions import BaseError
    from obstore.store import S3Store

    endpoint = next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), None)
    address: dict[str, Any] = {} if endpoint is None else {"endpoint": endpoint}
    options: ClientConfig = {
        "timeout": _LONGEST,
        "read_timeout": timedelta(minutes=1),
        "connect_timeout": timedelta(seconds=10),
        "allow_http": endpoint is not None and endpoint.startswith("http://"),
    }
    try:
        return S3Store(
            url.bucket,
            **address,
            client_options=options,
            retry_config={"max_retries": _RETRIES, "retry_timeout": _RETRY_FOR},
        )
    except (BaseError, ValueError, TypeError) as error:
        raise CacheError(
            f"{SCHEME}{url.bucket} cannot be opened: {_first_line(error)}; see the AWS_* variables"
        ) from error


@contextmanager
def explained(url: ObjectUrl) -> Iterator[None]:
    """Turn the client's errors inside the block into CacheError (wrong bucket, keys or rights) or StoppedError.

    FileNotFoundError, and obstore's AlreadyExistsError and PreconditionError, which are answers, pass.
    """
    from obstore import exceptions as known

    try:
        yield
    except (known.AlreadyExistsError, known.PreconditionError, known.NotModifiedError):
        raise
    except FileNotFoundError as error:
        if "NoSuchBucket" in str(error):
            raise _no_bucket(url) from error
        raise FileNotFoundError(2, "no such object", str(url)) from error
    except known.BaseError as error:
        text = str(error)
        if "NoSuchBucket" in text:
            raise _no_bucket(url) from error
        if any(address in text for address in _METADATA):
            raise CacheError(
                f"{SCHEME}{url.bucket} needs credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY "
                "(and AWS_ENDPOINT_URL, AWS_REGION where they differ from AWS's)"
            ) from error
        if isinstance(error, known.PermissionDeniedError | known.UnauthenticatedError):
            raise CacheError(
                f"{url} is refused to these credentials ({_first_line(error)}); check the AWS_* variables and rights"
            ) from error
        if isinstance(error, known.NotSupportedError | known.UnknownConfigurationKeyError):
            raise CacheError(f"{url}: this server lacks what a store needs ({_first_line(error)})") from error
        raise StoppedError(
            f"object storage failed at {url} ({_first_line(error)}); run the same command again: what was finished "
            "before is kept"
        ) from error


def _no_bucket(url: ObjectUrl) -> CacheError:
    return CacheError(f"bucket '{url.bucket}' does not exist; make it first, or check its name and AWS_ENDPOINT_URL")


def _first_line(error: Exception) -> str:
    return brief(str(error).split("\n", 1)[0], 300)
