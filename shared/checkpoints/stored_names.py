"""Which tensor of a loaded model each stored name stands for.

Names are renamed as transformers does when it loads: some families are stored by the names of older releases.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key


@dataclass(frozen=True)
class StoredNames:
    """``places``: the model's tensor for each name that stands for one tensor as a whole. ``converted``: names of
    tensors that the model makes its own of, several to one or one to several. ``unused``: names that it does not know.
    """

    places: dict[str, Tensor]
    converted: frozenset[str]
    unused: frozenset[str]


def find_places(model: Any, names: Iterable[str]) -> StoredNames:
    """Where transformers puts the tensors that are stored by ``names``. A model ignores those that it does not know:
    tables that it now computes (``inv_freq``, ``position_ids``), and what belongs to parts that it does not have.
    """
    tensors: dict[str, Tensor] = dict(model.state_dict(keep_vars=True))
    steps = get_model_conversion_mapping(model)
    renamings = [step for step in steps if isinstance(step, WeightRenaming)]
    converters = [step for step in steps if isinstance(step, WeightConverter)]
    places: dict[str, Tensor] = {}
    converted, unused = set(), set()
    for name in names:
        renamed, converter = rename_source_key(name, renamings, converters, model.base_model_prefix, tensors)
        known = renamed if renamed in tensors else name if name in tensors else None
        if known is None:
            unused.add(name)
        elif converter is not None:
            converted.add(name)
        else:
            places[name] = tensors[known]
    return StoredNames(places, frozenset(converted), frozenset(unused))
