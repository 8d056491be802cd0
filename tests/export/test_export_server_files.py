"""What is written beside a model's versions says the same everywhere, and is never overwritten."""

import re

import pytest
import yaml
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_serving.config import model_server_config_pb2

from harmonic_tf.export import write_server_files
from harmonic_tf.export.server_files import server_files


def test_the_server_is_told_of_the_model():
    files = server_files("größere cells", 32)
    config = text_format.Parse(files["models.config"], model_server_config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path) == ("größere cells", "/models/größere cells")
    assert model.model_platform == "tensorflow"


def test_a_batch_is_no_larger_than_a_request_may_be():
    assert "max_batch_size { value: 7 }" in server_files("cells", 7)["batching_parameters.txt"]


def arguments_of(files):
    """The server's arguments in the Compose file and in the deployment."""
    compose = yaml.safe_load(files["docker-compose.yml"])["services"]["serving"]
    deployment, _ = yaml.safe_load_all(files["kubernetes.yaml"])
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert compose["image"] == container["image"]
    return compose["command"], container["args"]


def test_arguments_name_files_that_are_there():
    files = server_files("cells", 32)
    for arguments in arguments_of(files):
        assert len(arguments) == 2
        for argument in arguments:
            folder, _, name = argument.partition("=")[2].rpartition("/")
            assert folder == "/models/cells"
            assert name in files
    compose = yaml.safe_load(files["docker-compose.yml"])["services"]["serving"]
    (volume,) = compose["volumes"]
    assert (volume["type"], volume["source"]) == ("bind", ".")
    assert (volume["target"], volume["read_only"]) == ("/models/cells", True)
    assert compose["ports"] == ["8500:8500", "8501:8501"]


def test_batching_is_explained_and_off():
    """TensorFlow Serving does not start with parameters for what is off."""
    files = server_files("cells", 32)
    assert not any("batching" in argument for both in arguments_of(files) for argument in both)
    for name in ("docker-compose.yml", "kubernetes.yaml"):
        assert "--enable_batching=true" in files[name]


@given(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=80))
def test_any_name_makes_a_manifest_whose_parts_find_each_other(name):
    deployment, service = yaml.safe_load_all(server_files(name, 8)["kubernetes.yaml"])
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels == deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"]
    for document in (deployment, service):
        assert re.fullmatch("[a-z]([a-z0-9-]{0,61}[a-z0-9])?", document["metadata"]["name"])
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    for arguments in arguments_of(server_files(name, 8)):
        escaped = name.replace("$", "$$")
        assert arguments[0] == f"--model_config_file=/models/{escaped}/models.config"
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for port in service["spec"]["ports"]:
        assert ports[port["targetPort"]] == port["port"]
    annotations = deployment["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(ports["rest"])
    monitoring = server_files(name, 8)["monitoring.config"]
    assert f'path: "{annotations["prometheus.io/path"]}"' in monitoring


def test_what_is_there_stays(tmp_path):
    folder = tmp_path / "cells"
    folder.mkdir()
    own = "services: {}  # mine\n"
    (folder / "docker-compose.yml").write_text(own)
    assert write_server_files(str(folder), 32) == ["docker-compose.yml"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(server_files("cells", 32))
    assert (folder / "docker-compose.yml").read_text() == own
    assert write_server_files(str(folder), 16) == ["batching_parameters.txt", "docker-compose.yml"]
    assert "value: 32" in (folder / "batching_parameters.txt").read_text()


def test_a_folder_that_cannot_be_written_to(tmp_path):
    with pytest.raises(OSError, match="gone"):
        write_server_files(str(tmp_path / "gone"), 32)
