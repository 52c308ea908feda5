"""The picture of assembled adapters: what is in it, and that it can be drawn."""

from __future__ import annotations

import pytest

from idiolect.cli.demo_newcomers import grid
from idiolect.cli.output import out
from idiolect.errors import InputError
from idiolect.pieces.picture import PALETTE, Cell, Picture, ink, save_picture, short

ENTRIES = {
    "zoe": {"model.layers.0.self_attn.q_proj": ((1, 0.6), (2, 0.4)), "model.layers.0.mlp.up_proj": ()},
    "yan": {"model.layers.0.self_attn.q_proj": ((2, 0.7), (1, 0.3)), "model.layers.0.mlp.up_proj": ((9, 1.0),)},
}


@pytest.fixture
def picture():
    return Picture.of(ENTRIES, {1: "ana", 2: "ben"}, ["ana", "ben"], {"zoe": "ana", "yan": "ana"})


def test_the_heaviest_piece_of_each_module(picture):
    assert picture.rows == ("layer 0 q", "layer 0 up")
    assert picture.cells == ((Cell("ana", 0.6), Cell("ben", 0.7)), (None, Cell("?", 1.0)))
    assert [picture.is_kin(j, cell) for j, cell in enumerate(picture.cells[0])] == [True, False]
    assert picture.colour("ben") == PALETTE[1]
    assert short("transformer.h.7.attn.c_attn") == "layer 7 c_attn"


def test_ink_can_be_read():
    assert (ink("#F0E442"), ink("#0072B2"), ink("#FFFFFF")) == ("#000000", "#FFFFFF", "#000000")


def test_it_is_drawn(picture, tmp_path, capsys):
    path = tmp_path / "x.png"
    path.touch(mode=0o644)
    save_picture(picture, path, "A title with $ in it")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(InputError, match="cannot write"):
        save_picture(picture, tmp_path / "none" / "x.png", "")
    out().print(grid(picture))
    assert "★ ana 0.60" in capsys.readouterr().out
