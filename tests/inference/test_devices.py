"""`--device` values: the device that each picks, and the values that are refused."""

from __future__ import annotations

import pytest

from fer_stream.errors import UsageError
from fer_stream.inference import devices
from fer_stream.inference.devices import pick_device

pytestmark = pytest.mark.usefixtures("cuda_is_installed")


@pytest.mark.parametrize(
    ("driver", "count", "picked"), [(False, 0, "cpu"), (True, 0, "cpu"), (True, 2, "cuda:0")]
)
def test_auto_takes_a_gpu_if_there_is_one(
    monkeypatch: pytest.MonkeyPatch, driver: bool, count: int, picked: str
) -> None:
    monkeypatch.setattr(devices, "_has_nvidia_driver", lambda: driver)
    monkeypatch.setattr(devices, "_cuda_device_count", lambda: count)
    assert pick_device("auto") == picked


def test_a_device_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_cuda_device_count", lambda: 2)
    assert [pick_device(name) for name in ("cpu", "cuda", "cuda:1")] == ["cpu", "cuda:0", "cuda:1"]


@pytest.mark.parametrize(
    "name", ["", "gpu", "cuda:x", "cuda:-1", "auto:1", "cpu:0", "cuda:7", "cuda:", "auto:"]
)
def test_an_unknown_device_is_wrong_usage(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_cuda_device_count", lambda: 2)
    with pytest.raises(UsageError, match="device"):
        pick_device(name)
