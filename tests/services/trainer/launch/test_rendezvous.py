"""Several machines meet at torchrun's address: the first announces each training and the end."""

from __future__ import annotations

import pytest

from services.trainer.launch.rendezvous import Place
from shared.errors import InvalidInput

TORCHRUN = {
    "RANK": "1",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "2",
    "LOCAL_WORLD_SIZE": "1",
    "MASTER_ADDR": "torchrun-0",
    "MASTER_PORT": "29500",
}


def test_a_place_is_taken_out_of_the_environment() -> None:
    environment = {**TORCHRUN, "PATH": "/bin"}
    place = Place.taken_from(environment)
    assert place == Place(1, 2, 0, 1, "torchrun-0", 29500)
    assert environment == {"PATH": "/bin"}, "an evaluation that believed itself one of two would wait for the other"
    assert place.environment(4711) == {**TORCHRUN, "MASTER_PORT": "4711"}


def test_without_torchrun_or_with_its_shared_store_it_says_what_to_do() -> None:
    with pytest.raises(InvalidInput, match="torchrun … -m services"):
        Place.taken_from({})
    with pytest.raises(InvalidInput, match="TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"):
        Place.taken_from({**TORCHRUN, "TORCHELASTIC_USE_AGENT_STORE": "True"})
