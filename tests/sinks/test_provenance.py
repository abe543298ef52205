"""`Provenance`: the facts about a run that its outputs store."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from fer_stream.sinks.provenance import Provenance
from fer_stream.version import __version__


def test_provenance_names_program_weights_labels_and_source(tmp_path):
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"film")
    provenance = Provenance(
        "clip.mp4", clip, "best-weights.pt", "ab12", "ferplus", 0.4, "cpu", {"start": "2"}
    )
    said = json.loads(json.dumps(provenance.as_dict()))
    assert said["version"] == __version__
    assert said["source_sha256"] == hashlib.sha256(b"film").hexdigest()
    assert (said["weights_sha256"], said["labels"], said["unsure_below"]) == ("ab12", "ferplus", 0.4)
    assert said["options"] == {"start": "2"}
    assert said["started_at"].endswith("+00:00")


def test_a_source_without_a_file_has_no_hash(tmp_path):
    assert Provenance("camera 0").source_sha256 == ""
    assert Provenance("pictures", tmp_path).source_sha256 == ""
    assert Provenance("gone.mp4", Path("gone.mp4")).source_sha256 == ""
