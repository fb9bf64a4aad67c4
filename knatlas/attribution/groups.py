"""Which readouts are attributed together, and the baseline sentences that they need."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from knatlas.attribution.capture import Group
from knatlas.attribution.methods import AttributionMethod
from knatlas.models.encoding import EncodedQuery, Readout, readouts


def replaced_positions(readout: EncodedQuery | Readout, method: AttributionMethod) -> tuple[int, ...]:
    """The positions whose tokens a method replaces, one per baseline sentence; none for the zero path."""
    if method.path == "zero":
        return ()
    return tuple(range(len(readout.input_ids))) if method.replace_special else readout.replaceable


def takes(readout: Readout, replaced: Sequence[int], method: AttributionMethod) -> list[bool]:
    """Which of the replaced positions give a baseline of a readout for a method."""
    own = set(replaced_positions(readout, method))
    return [position in own for position in replaced]


def batches(queries: Sequence[EncodedQuery], most: int) -> Iterator[list[int]]:
    """Numbers of the queries that go together, at most `most` of them, of like length.

    Masked models: only queries of equal length with as many masks, so that no row is padded. Causal models: rows are
    single tokens, and only the attention to shorter queries is padded.
    """
    form = {number: (len(query.input_ids), len(query.positions)) for number, query in enumerate(queries)}
    order = sorted(form, key=form.__getitem__)
    batch: list[int] = []
    for number in order:
        is_like = not batch or queries[number].kind == "causal" or form[number] == form[batch[0]]
        if batch and (len(batch) == most or not is_like):
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


class ReadoutGroup:
    """The readouts of some queries, all baseline sentences of some methods, and which readout takes which of them."""

    def __init__(
        self, queries: Sequence[EncodedQuery], methods: Sequence[AttributionMethod], token: int, device: torch.device
    ) -> None:
        """Args: queries of like form; methods; token, what stands for a replaced one."""
        self.of_query = [readouts(query) for query in queries]
        self.readouts = [readout for of_query in self.of_query for readout in of_query]
        self._device, self._replaced, self._rows = device, [], []
        sentences, starts, origins = [], [], []
        for query, of_query in zip(queries, self.of_query, strict=True):
            replaced = sorted({position for method in methods for position in replaced_positions(query, method)})
            ids, origin = query.input_ids, len(sentences)
            sentences += [ids, *((*ids[:position], token, *ids[position + 1 :]) for position in replaced)]
            starts += [0, *replaced]
            origins += [origin] * (1 + len(replaced))
            for readout in of_query:
                # of a causal readout, tokens after its position are not seen
                own = [position for position in replaced if position < len(readout.input_ids)]
                self._replaced.append(own)
                self._rows.append([origin, *(origin + 1 + replaced.index(position) for position in own)])
        self.group = self._group(sentences, starts, origins)

    def _group(self, sentences: list, starts: list[int], origins: list[int]) -> Group:
        """The group, readouts with fewer sentences padded by their query."""
        most = max(map(len, self._rows))
        rows = [row + row[:1] * (most - len(row)) for row in self._rows]
        is_path = [[number < len(row) for number in range(1, most)] for row in self._rows]
        return Group(
            sentences=sentences,
            starts=starts,
            origins=origins,
            rows=torch.tensor(rows, device=self._device),
            positions=torch.tensor([readout.positions for readout in self.readouts], device=self._device),
            targets=torch.tensor([readout.targets for readout in self.readouts], device=self._device),
            is_path=torch.tensor(is_path, dtype=torch.bool, device=self._device).view(len(rows), most - 1),
        )

    def chosen(self, method: AttributionMethod) -> Bool[Tensor, "readout sentence"]:
        """Which of the baseline sentences each readout takes for a method."""
        chosen = torch.zeros_like(self.group.is_path)
        for number, (readout, replaced) in enumerate(zip(self.readouts, self._replaced, strict=True)):
            chosen[number, : len(replaced)] = torch.tensor(takes(readout, replaced, method), dtype=torch.bool)
        return chosen
