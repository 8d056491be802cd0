"""Asks a served model what is in pictures, over gRPC or REST."""

from harmonic_tf.export.client.asking import Asked, ask_about
from harmonic_tf.export.client.connection import Answer, Connection, RequestError, Thresholds
from harmonic_tf.export.client.transports import connect

__all__ = [
    "Answer",
    "Asked",
    "Connection",
    "RequestError",
    "Thresholds",
    "ask_about",
    "connect",
]
