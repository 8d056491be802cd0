"""The two interfaces of TensorFlow Serving, gRPC and REST."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from urllib.parse import quote

import grpc
import urllib3

from harmonic_tf.backend import tf
from harmonic_tf.export.client.connection import (
    FIRST_WAIT,
    LONGEST_WAIT,
    Connection,
    RequestError,
    Thresholds,
    UnavailableError,
    signature_and_inputs,
)

# gRPC's own tries to connect keep pace with ours; left alone they come to be minutes apart.
_CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", int(1000 * FIRST_WAIT)),
    ("grpc.max_reconnect_backoff_ms", int(1000 * LONGEST_WAIT)),
)
_KEPT_CONNECTIONS = 32  # of REST, for threads that ask at once
_SERVICE_UNAVAILABLE = 503  # how TensorFlow Serving says UNAVAILABLE over HTTP


def connect(url: str, model: str, version: int | None = None, timeout: float = 30.0) -> Connection:
    """Prepares to ask a served model; nothing is sent yet.

    Args:
        url: `grpc://HOST:PORT`, `http://HOST:PORT` or `https://HOST:PORT`.
        model: name of the model.
        version: number of its version; None takes the one that the server chooses.
        timeout: seconds that an answer may take, all tries together, > 0.

    Returns:
        The connection; close it, or use it in a `with` statement.

    Raises:
        ValueError: for a URL of another kind or a time that is not positive.
    """
    scheme, _, address = url.partition("://")
    transports = {"grpc": GrpcConnection, "http": RestConnection, "https": RestConnection}
    if scheme not in transports or not address:
        raise ValueError(
            f"url = {url!r} must be grpc://HOST:PORT, http://HOST:PORT or https://HOST:PORT."
        )
    if not timeout > 0.0:
        raise ValueError(f"timeout = {timeout} must be more than 0 seconds.")
    return transports[scheme](url.rstrip("/"), model, version, timeout)


class GrpcConnection(Connection):
    """Speaks to PredictionService; see `Connection`."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # Imports TensorFlow, which `harmonic_tf.backend` has to do first, quietly.
        from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

        self._new_request = predict_pb2.PredictRequest
        self._channel = grpc.insecure_channel(self.url.partition("://")[2], _CHANNEL_OPTIONS)
        self._service = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def _ask(
        self, pictures: Sequence[bytes], thresholds: Thresholds | None, timeout: float
    ) -> Mapping[str, object]:
        request = self._new_request()
        signature, inputs = signature_and_inputs(thresholds)
        request.model_spec.name = self.model
        request.model_spec.signature_name = signature
        if self.version is not None:
            request.model_spec.version.value = self.version
        request.inputs["images"].CopyFrom(tf.make_tensor_proto(list(pictures)))
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value, tf.float32))
        try:
            response = self._service.Predict(request, timeout=timeout)
        except grpc.RpcError as error:
            unavailable = error.code() is grpc.StatusCode.UNAVAILABLE
            kind = UnavailableError if unavailable else RequestError
            said = " ".join(error.details().split())
            raise kind(f"{self.url}: {error.code().name}: {said}") from error
        return {name: tf.make_ndarray(value) for name, value in response.outputs.items()}

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()


class RestConnection(Connection):
    """Speaks to the REST interface; see `Connection`."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        version = "" if self.version is None else f"/versions/{self.version}"
        self._method = f"{self.url}/v1/models/{quote(self.model, safe='')}{version}:predict"
        self._pool = urllib3.PoolManager(maxsize=_KEPT_CONNECTIONS, retries=False)

    def _ask(
        self, pictures: Sequence[bytes], thresholds: Thresholds | None, timeout: float
    ) -> Mapping[str, object]:
        signature, inputs = signature_and_inputs(thresholds)
        images = [{"b64": base64.b64encode(picture).decode()} for picture in pictures]
        request = {"signature_name": signature, "inputs": {"images": images, **inputs}}
        try:
            response = self._pool.request(
                "POST",
                self._method,
                body=json.dumps(request),
                headers={"Content-Type": "application/json"},
                timeout=urllib3.Timeout(total=timeout),
            )
        except urllib3.exceptions.ReadTimeoutError as error:
            raise RequestError(f"{self.url}: no answer in time: {error}") from error
        except urllib3.exceptions.HTTPError as error:
            raise UnavailableError(f"{self.url}: {error}") from error
        if response.status == _SERVICE_UNAVAILABLE:
            raise UnavailableError(f"{self.url}: {_said(response)}")
        if response.status != 200:
            raise RequestError(f"{self.url}: {_said(response)}")
        return json.loads(response.data)["outputs"]

    def close(self) -> None:
        """Ends the connection."""
        self._pool.clear()


def _said(response: urllib3.BaseHTTPResponse) -> str:
    """What an answer says that is no answer."""
    text = response.data.decode(errors="replace")
    try:
        text = json.loads(text)["error"]
    except (ValueError, TypeError, KeyError):  # not TensorFlow Serving's: a proxy's, for example
        text = text[:200]
    return f"HTTP {response.status}: {' '.join(text.split())}"
