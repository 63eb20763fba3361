"""Images come back in the layout in which they came: channels first or last, with or without a dimension for gray."""

import numpy as np
import pytest
import torch
from conftest import Tiedae

import tiedae_cli

pytestmark = pytest.mark.slow

COLOR = np.random.default_rng(0).integers(0, 256, (30, 6, 5, 3), np.uint8)
LAYOUTS = {
    "N x H x W x C": COLOR,
    "N x C x H x W": np.moveaxis(COLOR, -1, 1),
    "N x H x W x 1": COLOR[..., :1],
    "N x 1 x H x W": np.moveaxis(COLOR[..., :1], -1, 1),
    "N x H x W": COLOR[..., 0],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_python_and_the_commands_give_back_the_layout_that_came_in(layout: str, tiedae: Tiedae) -> None:
    images = np.ascontiguousarray(LAYOUTS[layout])
    np.save("x.npy", images)
    ran = tiedae("train", "x.npy", "epochs=1", "hidden_sizes=8,4", "-q", "--run-dir", "run")
    assert ran.code == 0, ran.err
    model = tiedae_cli.load("run")
    answers = model.reconstruct(images)
    assert answers.shape == images.shape and answers.dtype == np.uint8
    assert model.reconstruct(images[3]).shape == images[3].shape
    codes = model.encode(images)
    np.testing.assert_array_equal(model.decode(codes), answers)
    assert tiedae("encode", "-q", "run", "x.npy", "-o", "codes.npy").code == 0
    assert tiedae("decode", "-q", "run", "codes.npy", "-o", "y.npy").code == 0
    np.testing.assert_array_equal(np.load("y.npy"), answers)
    module = model.as_module()(torch.from_numpy(images).float())
    assert module.shape == images.shape
    np.testing.assert_allclose(module.detach().numpy(), answers, atol=0.51)


def test_a_reconstruction_has_the_layout_of_its_input_not_of_the_training() -> None:
    last, first = np.ascontiguousarray(LAYOUTS["N x H x W x C"]), np.ascontiguousarray(LAYOUTS["N x C x H x W"])
    model = tiedae_cli.train(last, epochs=1, hidden_sizes=[8, 4], quiet=True).model
    np.testing.assert_array_equal(np.moveaxis(model.reconstruct(first), 1, -1), model.reconstruct(last))
