"""A stand-in for tensorflow_model_server: the same flags and interfaces, with plain TensorFlow.

Serves the newest version of a model over gRPC, with the real PredictionService, and over REST as
https://www.tensorflow.org/tfx/serving/api_rest describes it. On the port of REST it can be told to
be unavailable to requests to come: `POST /unavailable/N`.
"""

from __future__ import annotations

import argparse
import base64
import http.server
import json
import os
import threading
from concurrent import futures

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc


class Model:
    """The newest version in a folder."""

    def __init__(self, name: str, folder: str):
        self.name = name
        self.version = max(int(entry) for entry in os.listdir(folder) if entry.isdecimal())
        # Through a session, as the real one: calling a signature from Python loses memory with
        # every request that is refused.
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        with self._session.graph.as_default():
            path = os.path.join(folder, str(self.version))
            loaded = tf.compat.v1.saved_model.load(self._session, [tf.saved_model.SERVING], path)
        self.signatures = loaded.signature_def
        self.refusals = 0
        self._lock = threading.Lock()

    def predict(self, signature: str, inputs: dict) -> dict[str, np.ndarray]:
        with self._lock:
            self.refusals -= 1
            if self.refusals >= 0:
                raise tf.errors.UnavailableError(None, None, "the model is being loaded")
        chosen = self.signatures[signature or "serving_default"]
        fetches = {name: output.name for name, output in chosen.outputs.items()}
        feeds = {chosen.inputs[name].name: value for name, value in inputs.items()}
        return self._session.run(fetches, feeds)


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, model: Model):
        self.model = model

    def Predict(self, request, context):  # noqa: N802
        spec = request.model_spec
        if spec.name != self.model.name or spec.version.value not in (0, self.model.version):
            context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found: {spec.name}")
        inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        try:
            outputs = self.model.predict(spec.signature_name, inputs)
        except tf.errors.OpError as error:
            codes = {code.value[0]: code for code in grpc.StatusCode}
            context.abort(codes[error.error_code], error.message)
        response = predict_pb2.PredictResponse()
        response.model_spec.CopyFrom(spec)
        for name, value in outputs.items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
        return response


class RestHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    model: Model

    def do_GET(self):
        status = {"version": str(self.model.version), "state": "AVAILABLE"}
        known = self.path == f"/v1/models/{self.model.name}"
        self.say(200 if known else 404, {"model_version_status": [status]})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.path.startswith("/unavailable/"):
            self.model.refusals = int(self.path.rpartition("/")[2])
            return self.say(200, {})
        path = f"/v1/models/{self.model.name}"
        if self.path not in (f"{path}:predict", f"{path}/versions/{self.model.version}:predict"):
            return self.say(404, {"error": f"Servable not found for request: {self.path}"})
        try:
            return self.say(200, answer(self.model, json.loads(body)))
        except tf.errors.UnavailableError as error:
            return self.say(503, {"error": error.message})
        except tf.errors.OpError as error:
            return self.say(400, {"error": error.message})

    def say(self, status: int, content: dict) -> None:
        encoded = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, *args):
        pass


def answer(model: Model, body: dict) -> dict:
    """What REST answers to a request in rows (`instances`) or in columns (`inputs`)."""
    signature = body.get("signature_name", "serving_default")
    specs = model.signatures[signature].inputs
    given = body.get("instances", body.get("inputs"))
    if not isinstance(given, dict):
        (name,) = specs
        given = {name: given}
    types = {k: tf.as_dtype(specs[k].dtype).as_numpy_dtype for k in given}
    inputs = {k: np.array(decoded(value), types[k]) for k, value in given.items()}
    outputs = {k: as_json(value) for k, value in model.predict(signature, inputs).items()}
    if "inputs" in body:
        return {"outputs": outputs}
    columns = [[(name, value) for value in values] for name, values in outputs.items()]
    return {"predictions": [dict(row) for row in zip(*columns)]}


def decoded(value):
    if isinstance(value, list):
        return [decoded(item) for item in value]
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else value


def as_json(array: np.ndarray) -> list:
    if array.dtype == object:
        array = np.vectorize(bytes.decode, otypes=[object])(array)
    return array.tolist()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--rest_api_port", type=int)
    parser.add_argument("--model_name")
    parser.add_argument("--model_base_path")
    options = parser.parse_args()
    model = Model(options.model_name, options.model_base_path)
    server = grpc.server(futures.ThreadPoolExecutor(8))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        PredictionService(model), server
    )
    server.add_insecure_port(f"localhost:{options.port}")
    server.start()
    RestHandler.model = model
    address = ("localhost", options.rest_api_port)
    http.server.ThreadingHTTPServer(address, RestHandler).serve_forever()


if __name__ == "__main__":
    main()
