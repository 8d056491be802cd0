"""What a server needs beside a model: how TensorFlow Serving is to be configured and started."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any

import yaml
from google.protobuf import text_format

from harmonic_tf.files import write_text

IMAGE = "tensorflow/serving:2.15.1"
GRPC_PORT, REST_PORT = 8500, 8501
METRICS_PATH = "/monitoring/prometheus/metrics"

_MODELS, _BATCHING, _MONITORING = "models.config", "batching_parameters.txt", "monitoring.config"
_COMPOSE, _KUBERNETES = "docker-compose.yml", "kubernetes.yaml"

_BATCH_WAIT = 2000  # microseconds that a request waits for others; a picture takes longer than that
_QUEUE = 100  # batches that may wait; what comes beyond is refused as UNAVAILABLE

_COMPOSE_HEAD = """\
# docker compose up
"""
_KUBERNETES_HEAD = """\
# kubectl apply -f kubernetes.yaml
# The claim `models` is a volume whose folder {name}/ is this one.
"""
_BATCHING_HINT = """\
# Requests of many users for a GPU are joined by two more arguments, see docs/serving.md for what
# they cost: --enable_batching=true --batching_parameters_file={folder}/{file}
"""


def server_files(model_name: str, max_batch: int) -> dict[str, str]:
    """The text of each file, by its name.

    Args:
        model_name: under which the model is served; its folder has the same name.
        max_batch: most pictures of a request.
    """
    folder = f"/models/{model_name}"
    escaped = folder.replace("$", "$$")  # Compose and Kubernetes put variables in its place
    arguments = [
        f"--model_config_file={escaped}/{_MODELS}",
        f"--monitoring_config_file={escaped}/{_MONITORING}",
    ]
    hint = _BATCHING_HINT.format(folder=folder, file=_BATCHING)
    compose = _yaml(_compose(escaped, arguments))
    kubernetes = "---\n".join(map(_yaml, _kubernetes(model_name, arguments)))
    return {
        _MODELS: _model_config(model_name, folder),
        _BATCHING: _batching_parameters(max_batch),
        _MONITORING: _monitoring_config(),
        _COMPOSE: f"{_COMPOSE_HEAD}{hint}{compose}",
        _KUBERNETES: f"{_KUBERNETES_HEAD.format(name=model_name)}{hint}{kubernetes}",
    }


def write_server_files(folder: str, max_batch: int) -> list[str]:
    """Writes the files beside the versions of a model. What is there already stays as it is.

    Args:
        folder: the folder of the model; its last part is the model's name.
        max_batch: most pictures of a request.

    Returns:
        Names of the files that are there with another text than would be written now.

    Raises:
        OSError: the folder cannot be written to.
    """
    different = []
    for name, text in server_files(os.path.basename(os.path.abspath(folder)), max_batch).items():
        path = os.path.join(folder, name)
        if not os.path.exists(path):
            write_text(path, text)
            continue
        with open(path, encoding="utf-8") as file:
            if file.read() != text:
                different.append(name)
    return different


def _model_config(model_name: str, folder: str) -> str:
    from tensorflow_serving.config import model_server_config_pb2

    config = model_server_config_pb2.ModelServerConfig()
    config.model_config_list.config.add(
        name=model_name, base_path=folder, model_platform="tensorflow"
    )
    return text_format.MessageToString(config, as_utf8=True)


def _batching_parameters(max_batch: int) -> str:
    """BatchingParameters of session_bundle_config.proto, which has no Python module."""
    return (
        f"max_batch_size {{ value: {max_batch} }}\n"
        f"batch_timeout_micros {{ value: {_BATCH_WAIT} }}\n"
        f"max_enqueued_batches {{ value: {_QUEUE} }}\n"
    )


def _monitoring_config() -> str:
    """MonitoringConfig of monitoring_config.proto, which has no Python module."""
    return f"prometheus_config {{\n  enable: true\n  path: {json.dumps(METRICS_PATH)}\n}}\n"


def _compose(folder: str, arguments: list[str]) -> dict[str, Any]:
    server = {
        "image": IMAGE,
        "command": arguments,
        "ports": [f"{port}:{port}" for port in (GRPC_PORT, REST_PORT)],
        "volumes": [{"type": "bind", "source": ".", "target": folder, "read_only": True}],
        "restart": "unless-stopped",
    }
    return {"services": {"serving": server}}


def _kubernetes(model_name: str, arguments: list[str]) -> list[dict[str, Any]]:
    """A deployment and a service."""
    # RFC 1035: what a service may be called, and starts with a letter.
    host = re.sub("[^a-z0-9]+", "-", model_name.lower()).strip("-") or "model"
    host = (host if host[0].isalpha() else f"model-{host}")[:63].rstrip("-")
    labels = {"app": host}
    ports = {"grpc": GRPC_PORT, "rest": REST_PORT}
    container = {
        "name": "serving",
        "image": IMAGE,
        "args": arguments,
        "ports": [{"name": name, "containerPort": port} for name, port in ports.items()],
        "readinessProbe": {
            "httpGet": {"path": f"/v1/models/{model_name}", "port": "rest"},
            "periodSeconds": 5,
        },
        "livenessProbe": {"tcpSocket": {"port": "grpc"}, "initialDelaySeconds": 60},
        "resources": {"requests": {"cpu": "2", "memory": "2Gi"}},
        "volumeMounts": [{"name": "models", "mountPath": "/models", "readOnly": True}],
    }
    scraped = {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(REST_PORT),
        "prometheus.io/path": METRICS_PATH,
    }
    pod = {
        "metadata": {"labels": {**labels}, "annotations": scraped},
        "spec": {
            "containers": [container],
            "volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": "models"}}],
        },
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": host},
        "spec": {"replicas": 2, "selector": {"matchLabels": {**labels}}, "template": pod},
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": host},
        "spec": {
            "selector": labels,
            "ports": [
                {"name": name, "port": port, "targetPort": name} for name, port in ports.items()
            ],
        },
    }
    return [deployment, service]


def _yaml(document: Mapping[str, Any]) -> str:
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
