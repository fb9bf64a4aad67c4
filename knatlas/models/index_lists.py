"""Lists of neurons that torch wrote: LAPE's files, a list per language of a tensor of indices per layer.

Such a file is a pickle, which can call any function when it is read. Here it is read with `weights_only=True`: tensors
and what holds them, and nothing else.
"""

from pathlib import Path

import torch

from knatlas.errors import AtlasError

WHOLE = (torch.int64, torch.int32)
EXPECTED = "expected a list (languages) of lists (layers) of tensors with whole numbers"


def read_index_lists(path: str | Path) -> list[list[list[int]]]:
    """The indices of neurons (from 0) by language and layer: `lists[language][layer]`.

    Raises: AtlasError for a file that is missing, holds more than tensors, or is of another form.
    """
    if not Path(path).is_file():
        raise AtlasError(f"{path} is not there; expected a file of LAPE's code (NAME.neuron.pth)")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file is no narrower exception than this one
        # torch's own words advise to read the file without the restriction
        raise AtlasError(
            f"{path} can't be read: it is damaged, or holds more than tensors of numbers, which could run code and is "
            f"read under no setting ({type(error).__name__}); fetch it again"
        ) from error
    return [
        [
            _indices(part, f"{path}: language {i}, layer {j}")
            for j, part in enumerate(_items(layers, f"{path}: entry {i}"))
        ]
        for i, layers in enumerate(_items(content, str(path)))
    ]


def _items(value: object, where: str) -> list:
    if not isinstance(value, list):
        raise AtlasError(f"{where} is a {type(value).__name__}; {EXPECTED}")
    return value


def _indices(value: object, where: str) -> list[int]:
    is_row = isinstance(value, torch.Tensor) and value.ndim == 1
    # a layer without neurons may be an empty tensor of any type
    if not is_row or (len(value) and (value.dtype not in WHOLE or value.min() < 0)):
        raise AtlasError(f"{where} holds no indices of neurons; {EXPECTED}, counted from 0")
    return [int(index) for index in value]
