"""TFRecord files, both ways: conversion in shards with a manifest, and their reading."""
