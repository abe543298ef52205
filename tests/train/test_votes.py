"""The FER+ votes."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from helpers.training import STRONG

from fer_stream.errors import SourceError
from fer_stream.expressions import EXPRESSIONS
from train.data import open_folder
from train.loop import train
from train.votes import VOTED, expected_labels, majority, read_votes


def test_votes_are_matched_by_file_name(voted_data):
    folder = open_folder(voted_data / "train")
    votes = read_votes(voted_data / "ferplus-votes.csv", folder)
    with_votes = votes.sum(dim=1) > 0
    assert votes[with_votes][0].tolist() == pytest.approx([0, 0.7, 0, 0, 0, 0, 0, 0.3, 0, 0])
    assert 0 < int((~with_votes).sum()) < len(folder)


HEADER = ",".join(["file", *VOTED])


@pytest.mark.parametrize(
    "table",
    [
        "",
        "file,happy\n0.png,much\n",
        f"{HEADER}\n",
        f"{HEADER}\n0.png,nan,10,0,0,0,0,0,0,0,0\n",
        f"{HEADER}\n0.png,-3,5,8,0,0,0,0,0,0,0\n",
        f"{HEADER}\n0.png,10\n",
        f"{HEADER}\n0.png,{10**39},0,0,0,0,0,0,0,0,0\n",
    ],
)
def test_a_table_without_votes_is_refused_in_one_line(table, voted_data, tmp_path):
    shutil.copytree(voted_data, tmp_path / "data")
    (tmp_path / "data" / "ferplus-votes.csv").write_text(table)
    with pytest.raises(SourceError, match="not a table of FER\\+ votes") as caught:
        train(tmp_path / "data", tmp_path / "run", STRONG)
    assert "\n" not in str(caught.value)


def test_votes_predict_the_labels():
    # FER2013 calls three in four of the pictures sad that were voted half neutral and half sad.
    doubtful, happy, none = torch.zeros(3, 10).unbind()
    doubtful[[0, 3]], happy[1] = 0.5, 1.0
    neutral, sad = EXPRESSIONS.index("neutral"), EXPRESSIONS.index("sad")
    labels = torch.tensor([sad] * 300 + [neutral] * 100 + [EXPRESSIONS.index("happy")] * 400 + [sad])
    votes = torch.stack([doubtful] * 400 + [happy] * 400 + [none])
    expected = expected_labels(votes, labels)
    assert torch.allclose(expected.sum(dim=1), torch.ones(801))
    assert expected[0, sad] == pytest.approx(0.75, abs=0.02)
    assert expected[0, neutral] == pytest.approx(0.25, abs=0.02)
    assert torch.equal(expected[0], expected[399])
    assert expected[500, EXPRESSIONS.index("happy")] > 0.97
    assert expected[800].tolist() == [float(name == "sad") for name in EXPRESSIONS]


def test_only_a_clear_majority_for_an_expression_counts():
    def votes(**counts: float) -> list[float]:
        return [counts.get(name, 0.0) for name in VOTED]

    given = np.array([
        votes(anger=0.6, fear=0.4), votes(surprise=1.0), votes(anger=0.5, fear=0.5),
        votes(contempt=0.9, fear=0.1),
        votes(unknown=0.6, fear=0.4), votes(NF=1.0), votes(), votes(contempt=0.4, sadness=0.4, fear=0.2),
    ])  # fmt: skip
    assert majority(given).tolist() == [0, 6, -1, -1, -1, -1, -1, -1]
