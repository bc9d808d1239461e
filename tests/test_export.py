"""The encoder can be exported: one graph for any number of sentences of any length, with the same values."""

import copy
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from modeling_seqvae import SeqVAE
from modeling_seqvae.cli import app
from modeling_seqvae.hub import export
from modeling_seqvae.hub.export import OUTPUTS, EncoderGraph, export_onnx
from modeling_seqvae.pooling import POOLINGS
from modeling_seqvae.posteriors import POSTERIORS

ROOT = Path(__file__).resolve().parents[1]


def texts() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of several sizes and lengths, padded on either side."""
    for sentences, tokens in ((1, 1), (1, 7), (2, 1), (5, 23)):
        ids, mask = torch.randint(4, 20, (sentences, tokens)), torch.ones(sentences, tokens, dtype=torch.long)
        yield ids, mask
        mask[0, 1:] = 0
        mask[-1, : tokens // 2] = 0
        yield ids, mask


@torch.no_grad()
def assert_same(features: EncoderGraph, exported: Callable[..., Any]) -> None:
    for ids, mask in texts():
        for found, expected in zip(exported(ids, mask), features(ids, mask), strict=True):
            torch.testing.assert_close(torch.as_tensor(found), expected, rtol=1e-5, atol=1e-5)


EXPORTED = [name for name in POSTERIORS if name != "refined"]


@pytest.mark.parametrize(("pooling", "posterior"), list(zip_longest(POOLINGS, EXPORTED, fillvalue="")))
def test_the_exported_encoder_has_the_same_values(make_model, tmp_path, pooling, posterior) -> None:
    parts = {"pooling_mode": pooling or "max", "posterior": posterior or "gaussian"}
    features = EncoderGraph(make_model(**parts, num_hidden_layers=2)).eval()
    exported = torch.export.export(features, features.example(), dynamic_shapes=features.dynamic_shapes())
    assert_same(features, exported.module())
    if posterior == "gaussian":  # and as a file
        torch.export.save(exported, tmp_path / "encoder.pt2")
        assert_same(features, torch.export.load(tmp_path / "encoder.pt2").module())


@pytest.mark.parametrize("pooling", ["last", "max"])
def test_so_has_that_of_convolutions(make_model, pooling) -> None:
    features = EncoderGraph(make_model(pooling_mode=pooling, encoder="convolutional")).eval()
    exported = torch.export.export(features, features.example(), dynamic_shapes=features.dynamic_shapes())
    assert_same(features, exported.module())


def test_a_posterior_that_needs_the_decoder_is_refused(make_model) -> None:
    with pytest.raises(ValueError, match="posterior='refined' is refined for each text by the decoder"):
        EncoderGraph(make_model(posterior="refined"))


@pytest.fixture(scope="module")
def vae() -> SeqVAE:
    return SeqVAE.from_pretrained(ROOT / "model_cards" / "demo-unigram-pretraining")


@pytest.fixture(scope="module")
def onnx_folder(vae: SeqVAE, tmp_path_factory) -> Path:
    for needed in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(needed)
    folder = tmp_path_factory.mktemp("export") / "encoder"
    export_onnx(vae, folder)
    return folder


LINES = ["the soup was warm .", "", "</s> is not an end", "our room seemed cold , and the staff was rude . " * 9, "été"]


def test_a_service_without_torch_has_the_same_values(vae: SeqVAE, onnx_folder: Path) -> None:
    """By the lines of docs/serving.md: tokenizers, onnxruntime and numpy alone."""
    script = (ROOT / "docs" / "serving.md").read_text("utf-8").split("```python\n")[1].split("```")[0]
    code = script.replace('"encoder/', f'"{onnx_folder}/') + "\nimport json, sys; assert 'torch' not in sys.modules\n"
    code += "numpy.savez(sys.argv[1], *features(json.loads(sys.argv[2])))\n"
    found = onnx_folder.parent / "found.npz"
    subprocess.run([sys.executable, "-c", code, str(found), json.dumps(LINES)], check=True)
    with np.load(found) as arrays:
        for name, array in zip(OUTPUTS, arrays.values(), strict=True):
            expected = vae.encode(LINES, "mean_variance" if name == "variance" else name)
            np.testing.assert_allclose(array, expected[:, -array.shape[1] :], rtol=1e-5, atol=1e-5)


def test_eight_bits_are_near_and_a_quarter_of_the_size(onnx_folder: Path) -> None:
    facts = json.loads((onnx_folder / "export.json").read_text("utf-8"))
    exact, near = (facts["differences"][name] for name in ("encoder.onnx", "encoder.int8.onnx"))
    assert max(of_output["largest"] for of_output in exact.values()) < 1e-5
    assert 1e-5 < near["mean"]["relative"] < 0.1 and near["mean"]["largest"] < 0.5
    sizes = [(onnx_folder / name).stat().st_size for name in ("encoder.int8.onnx", "encoder.onnx")]
    assert sizes[0] < 0.4 * sizes[1]


def test_weights_of_eight_bits_are_unsigned(onnx_folder: Path) -> None:
    """onnxruntime's products of unsigned activations and signed weights saturate on CPUs without VNNI."""
    onnx = pytest.importorskip("onnx")
    eight = {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}
    held = onnx.load(onnx_folder / "encoder.int8.onnx").graph.initializer
    assert {tensor.data_type for tensor in held} & eight == {onnx.TensorProto.UINT8}


def test_an_export_replaces_an_export_and_nothing_else(vae: SeqVAE, onnx_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(onnx_folder, tmp_path / "again")
    export_onnx(vae, folder, LINES, int8=False)
    assert not (folder / "encoder.int8.onnx").exists()
    assert json.loads((folder / "export.json").read_text("utf-8"))["compared_on"] == "5 texts given"
    (folder / "thesis.tex").write_text("mine")
    before = (folder / "encoder.onnx").read_bytes()
    with pytest.raises(FileExistsError, match="thesis"):
        export_onnx(vae, folder)
    assert (folder / "encoder.onnx").read_bytes() == before
    with pytest.raises(ValueError, match="no texts"):
        export_onnx(vae, tmp_path / "none", [])
    with pytest.raises(FileExistsError, match=r"thesis\.tex is a file: name a new or an empty folder"):
        export_onnx(vae, folder / "thesis.tex")
    assert not (tmp_path / "none").exists()


def test_the_model_is_as_it_was(vae: SeqVAE, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    half = SeqVAE(copy.deepcopy(vae.model), vae.tokenizer).to(torch.bfloat16)
    export_onnx(half, tmp_path / "half", LINES, int8=False)
    assert half.model.dtype == torch.bfloat16


def test_values_that_differ_are_not_written(vae: SeqVAE, tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("onnxscript")
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(RuntimeError, match="does not give the model's values: mean differs by"):
        export_onnx(vae, tmp_path / "wrong", LINES)
    assert not list(tmp_path.iterdir())


def test_a_language_model_has_no_encoder_to_export(make_model) -> None:
    with pytest.raises(ValueError, match=r"cannot export the encoder: .*latent_size=0"):
        EncoderGraph(make_model(latent_size=0))


def test_without_the_extra_the_command_says_what_to_install(vae: SeqVAE, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModuleNotFoundError, match=r"needs onnxruntime: pip install 'seqvae\[onnx\]'"):
        export_onnx(vae, tmp_path / "none")


def test_the_command_prints_sizes_and_differences(vae: SeqVAE, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    vae.save_pretrained(tmp_path / "model")
    (tmp_path / "texts.txt").write_text("the soup was warm .\n" * 3)  # whose values have no deviation to compare with
    output = tmp_path / "deep" / "encoder"
    result = CliRunner().invoke(
        app, ["export", str(tmp_path / "model"), str(tmp_path / "texts.txt"), "-o", str(output)]
    )
    assert result.exit_code == 0, result.stderr
    assert "compared on 3 texts given" in result.stderr
    assert [line.split()[-1] for line in result.stdout.splitlines()[-6:]] == ["–"] * 6
    assert "null" in (output / export.FACTS).read_text("utf-8")
    assert [line.split()[0] for line in result.stdout.splitlines() if line[0] == "e"] == [export.FLOAT, export.INT8]
    result = CliRunner().invoke(app, ["export", str(tmp_path / "model"), "--output", str(tmp_path / "texts.txt" / "x")])
    assert result.exit_code == 1 and "texts.txt is a file, so the folder" in result.stderr


def test_left_padding_is_refused_by_a_compiled_model_too(make_model) -> None:
    """Without a branch on values, at which a graph would end."""
    model = make_model()

    def states(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return model.model(ids, mask, return_dict=True).latents

    compiled = torch.compile(states, backend="eager")
    ids, mask = torch.tensor([[1, 5, 2], [1, 2, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    torch.testing.assert_close(compiled(ids, mask), states(ids, mask))
    with pytest.raises((ValueError, RuntimeError), match="pad on the right"):
        compiled(ids, mask.flip(1))
