"""A server that speaks TensorFlow Serving's two interfaces, with plain TensorFlow alone.

python prediction_service.py MODEL_FOLDER

It serves the newest version in a model's folder under the folder's name, on two free ports that it
prints, one a line: of gRPC, with the real PredictionService, and of REST, as
https://www.tensorflow.org/tfx/serving/api_rest has it. `--unavailable=N` makes it say so to the
first N requests of each.
"""

from __future__ import annotations

import argparse
import base64
import http.server
import json
import os
import threading
import time
from concurrent import futures

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

UNAVAILABLE = "the model is being loaded"


class Model:
    """The newest version in a folder, and what is to be said in place of an answer."""

    def __init__(self, folder: str, unavailable: int, delay: float):
        self.name = os.path.basename(os.path.abspath(folder))
        self.version = max(int(name) for name in os.listdir(folder) if name.isdecimal())
        self.signatures = tf.saved_model.load(os.path.join(folder, str(self.version))).signatures
        self.delay = delay
        self._refusals = {"grpc": unavailable, "rest": unavailable}
        self._lock = threading.Lock()

    def refuses(self, interface: str) -> bool:
        with self._lock:
            self._refusals[interface] -= 1
            return self._refusals[interface] >= 0

    def answer(self, signature: str, inputs: dict) -> dict:
        time.sleep(self.delay)
        return self.signatures[signature](**inputs)


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, model: Model):
        self.model = model

    def Predict(self, request, context):  # noqa: N802
        model, spec = self.model, request.model_spec
        if model.refuses("grpc"):
            context.abort(grpc.StatusCode.UNAVAILABLE, UNAVAILABLE)
        known = spec.name == model.name and spec.version.value in (0, model.version)
        if not known:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found: {spec.name}")
        inputs = {
            name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()
        }
        try:
            outputs = model.answer(spec.signature_name or "serving_default", inputs)
        except tf.errors.InvalidArgumentError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.message)
        response = predict_pb2.PredictResponse()
        response.model_spec.CopyFrom(spec)
        for name, value in outputs.items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(value.numpy()))
        return response


def rest_handler(model: Model) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):  # noqa: N802
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            paths = (f"/v1/models/{model.name}", f"/v1/models/{model.name}/versions/{model.version}")
            if model.refuses("rest"):
                self.say(503, {"error": UNAVAILABLE})
            elif self.path not in [f"{path}:predict" for path in paths]:
                self.say(404, {"error": f"Servable not found: {self.path}"})
            else:
                try:
                    self.say(200, predict(model, body))
                except tf.errors.InvalidArgumentError as error:
                    self.say(400, {"error": error.message})

        def say(self, status, answer):
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    return Handler


def predict(model: Model, body: dict) -> dict:
    """Answers a request in rows (`instances`) or columns (`inputs`)."""
    signature = body.get("signature_name", "serving_default")
    specs = model.signatures[signature].structured_input_signature[1]
    rows = "instances" in body
    given = body["instances"] if rows else body["inputs"]
    if not isinstance(given, dict):
        (name,) = specs
        given = {name: given}
    inputs = {
        name: tf.constant(decoded(value), specs[name].dtype) for name, value in given.items()
    }
    outputs = {k: as_json(v.numpy()) for k, v in model.answer(signature, inputs).items()}
    if not rows:
        return {"outputs": outputs}
    columns = [[(name, value) for value in values] for name, values in outputs.items()]
    return {"predictions": [dict(row) for row in zip(*columns)]}


def decoded(value):
    if isinstance(value, list):
        return [decoded(item) for item in value]
    if isinstance(value, dict):
        return base64.b64decode(value["b64"])
    return value


def as_json(array: np.ndarray):
    if array.dtype == object:
        array = np.vectorize(bytes.decode, otypes=[object])(array)
    return array.tolist()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--unavailable", type=int, default=0)
    parser.add_argument("--delay", type=float, default=0.0)
    options = parser.parse_args()
    model = Model(options.folder, options.unavailable, options.delay)
    grpc_server = grpc.server(
        futures.ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", -1)]
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        PredictionService(model), grpc_server
    )
    grpc_port = grpc_server.add_insecure_port("localhost:0")
    grpc_server.start()
    rest_server = http.server.ThreadingHTTPServer(("localhost", 0), rest_handler(model))
    print(grpc_port, rest_server.server_port, flush=True)
    rest_server.serve_forever()


if __name__ == "__main__":
    main()
