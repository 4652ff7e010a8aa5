"""A machine without a network."""

import pytest
import requests


@pytest.fixture
def offline(monkeypatch):
    def fail(*_, **__):
        raise requests.ConnectionError

    monkeypatch.setattr(requests, "head", fail)
