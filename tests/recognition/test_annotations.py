"""Weights with two last layers: each annotation uses its own, and a bad layer is a one-line error."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.checkpoints import refused

from fer_stream.analyzer import Analyzer
from fer_stream.errors import UsageError, WeightsError
from fer_stream.recognition.classifier import Classifier
from fer_stream.recognition.preprocessing import network_input, whole_image
from fer_stream.recognition.weights import (
    BUILT_IN_WEIGHTS,
    check_weights_file,
    load_checkpoint,
    save_checkpoint,
)
from fer_stream.types import Frame

HAPPY, SAD = 3, 5


def ferplus_content() -> dict:
    return {
        "weight": torch.ones(7, 1280).half(),
        "bias": torch.zeros(7),
        "temperature": 0.5,
        "unsure_below": 0.7,
    }


def test_the_built_in_weights_have_both_layers_and_thresholds(built_in):
    assert BUILT_IN_WEIGHTS.stat().st_size < 9e6
    ferplus, fer2013 = built_in.head("ferplus"), built_in.head("fer2013")
    assert built_in.head() is ferplus
    assert not np.array_equal(ferplus.weight, fer2013.weight)
    assert 0 < ferplus.unsure_below < 1 and 0 < fer2013.unsure_below < 1
    content = torch.load(BUILT_IN_WEIGHTS, weights_only=True)
    assert set(content["ferplus"]) == {"weight", "bias", "temperature", "unsure_below"}
    assert content["ferplus"]["weight"].shape == (7, 1280) and content["ferplus"]["bias"].shape == (7,)


def test_both_layers_come_back_as_they_were_saved(built_in, tmp_path):
    save_checkpoint(tmp_path / "w.pt", built_in)
    again = load_checkpoint(tmp_path / "w.pt")
    for annotation in ("ferplus", "fer2013"):
        saved, loaded = built_in.head(annotation), again.head(annotation)
        assert np.array_equal(saved.weight, loaded.weight) and np.array_equal(saved.bias, loaded.bias)
        assert (saved.temperature, saved.unsure_below) == (loaded.temperature, loaded.unsure_below)


def test_each_annotation_is_read_with_its_own_layer_and_temperature(biased, hopper_bgr):
    given = {}
    for name, labels in (("both", None), ("both", "ferplus"), ("both", "fer2013"), ("fer2013", None)):
        classifier = Classifier(weights=biased / f"{name}.pt", labels=labels)
        crop = network_input(hopper_bgr, whole_image(hopper_bgr), classifier.input)
        probabilities = classifier.read(crop[None])[0]
        given[name, labels] = (
            classifier.labels,
            int(probabilities.argmax()),
            round(float(probabilities.max()), 3),
            classifier.unsure_below,
        )
    as_ferplus = ("ferplus", HAPPY, round(np.e / (np.e + 6), 3), 0.5)
    as_fer2013 = ("fer2013", SAD, 0.999, 0.25)
    assert given == {
        ("both", None): as_ferplus,
        ("both", "ferplus"): as_ferplus,
        ("both", "fer2013"): as_fer2013,
        ("fer2013", None): as_fer2013,
    }


@pytest.mark.parametrize(
    ("threshold", "is_unsure"), [(None, True), (0.0, False), (0.2, False), (0.32, True), (1.0, True)]
)
def test_a_face_below_the_threshold_is_unsure_and_keeps_its_reading(biased, hopper_bgr, threshold, is_unsure):
    analyzer = Analyzer("cpu", biased / "both.pt", unsure_below=threshold)
    (face,) = analyzer.analyze(hopper_bgr)
    assert (face.expression, round(face.confidence, 2)) == ("happy", 0.31)
    assert (face.unsure, face.label) == (is_unsure, "unsure" if is_unsure else "happy")
    assert analyzer.labels == "ferplus"
    assert analyzer.unsure_below == (0.5 if threshold is None else threshold)


def test_the_smoothed_probability_decides(biased, hopper_bgr, monkeypatch):
    from fer_stream.recognition.smoothing import Smoother

    monkeypatch.setattr(Smoother, "smooth", lambda *_: np.float32([0.0, 0.0, 0.0, 0.9, 0.1, 0.0, 0.0]))
    frames = [Frame(hopper_bgr, index, index / 25) for index in range(3)]
    *_, last = Analyzer("cpu", biased / "both.pt").analyze_frames(frames, "camera")
    assert [face.label for face in last.faces] == ["happy"]


def test_an_old_checkpoint_is_fer2013_alone_and_never_unsure(content, tmp_path):
    content["state_dict"] = torch.load(BUILT_IN_WEIGHTS, weights_only=True)["state_dict"]
    torch.save(content, tmp_path / "w.pt")
    checkpoint = load_checkpoint(tmp_path / "w.pt")
    assert checkpoint.ferplus is None and checkpoint.head().unsure_below == 0
    np.testing.assert_array_equal(
        checkpoint.head().weight, content["state_dict"]["classifier.weight"].float()
    )
    assert check_weights_file(tmp_path / "w.pt") == "fer2013"
    for refuse in (
        lambda: checkpoint.head("ferplus"),
        lambda: check_weights_file(tmp_path / "w.pt", "ferplus"),
        lambda: Classifier(weights=tmp_path / "w.pt", labels="ferplus"),
    ):
        with pytest.raises(WeightsError, match="no FER\\+ layer") as caught:
            refuse()
        assert caught.value.exit_code == 5 and "\n" not in str(caught.value)


def test_other_labels_and_thresholds_are_wrong_usage():
    with pytest.raises(UsageError, match="ferplus or fer2013"):
        Analyzer("cpu", labels="raf-db")
    for threshold in (-0.1, 1.1, float("nan")):
        with pytest.raises(UsageError, match="from 0 to 1"):
            Analyzer("cpu", unsure_below=threshold)


def test_a_good_layer_is_accepted(content, tmp_path):
    content["state_dict"] = torch.load(BUILT_IN_WEIGHTS, weights_only=True)["state_dict"]
    torch.save({**content, "ferplus": ferplus_content(), "unsure_below": 0.4}, tmp_path / "w.pt")
    checkpoint = load_checkpoint(tmp_path / "w.pt")
    head = checkpoint.head("ferplus")
    assert head.weight.dtype == np.float32
    assert (head.temperature, head.unsure_below, checkpoint.unsure_below) == (0.5, 0.7, 0.4)
    assert check_weights_file(tmp_path / "w.pt") == "ferplus"
    assert check_weights_file(tmp_path / "w.pt", "fer2013") == "fer2013"


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("weight", None, "weight"),
        ("weight", torch.ones(10, 1280), "weight"),
        ("weight", torch.ones(7, 512), "weight"),
        ("weight", torch.ones(7, 1280, dtype=torch.int64), "weight"),
        ("weight", torch.full((7, 1280), float("nan")), "not finite"),
        ("weight", [1.0], "weight"),
        ("weight", torch.eye(7, 1280).to_sparse(), "w.pt"),
        ("bias", torch.ones(10), "bias"),
        ("bias", torch.full((7,), float("inf")), "not finite"),
        ("temperature", 0.0, "temperature"),
        ("temperature", "1", "temperature"),
        ("unsure_below", 1.5, "unsure_below"),
        ("unsure_below", float("nan"), "unsure_below"),
        ("unsure_below", True, "unsure_below"),
    ],
)
def test_a_wrong_field_of_the_second_layer_is_refused(field, value, said, content, tmp_path):
    torch.save({**content, "ferplus": {**ferplus_content(), field: value}}, tmp_path / "w.pt")
    assert said in refused(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("field", "value"), [("ferplus", [1]), ("ferplus", "yes"), ("unsure_below", -0.1), ("unsure_below", "0")]
)
def test_a_wrong_value_in_place_of_the_layer_or_the_threshold_is_refused(field, value, content, tmp_path):
    torch.save({**content, field: value}, tmp_path / "w.pt")
    assert field in refused(tmp_path / "w.pt")
