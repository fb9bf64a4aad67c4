"""The passes without any path: what the sweep, and the paths, need to know of a group of readouts.

One pass runs the queries and all their baseline sentences. In causal models a sentence whose token i was replaced
equals the query before i: only its tokens from i on are run, and all sentences' tokens lie packed in one batch. Of the
last layer only the read positions are computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from knatlas.models.blocks import Network
from knatlas.models.blocks.block import Attention, Block
from knatlas.models.blocks.parts import Rotation


@dataclass(frozen=True)
class Group:
    """Readouts of several queries that are attributed together, and the sentences they need.

    sentences: token ids of each; starts: the first position at which it differs from its query (0 for the query
    itself); origins: the number of its query's own sentence. rows (readouts, 1 + baselines): the sentences of each
    readout, the query first; where a readout has fewer baselines than others its query stands again.
    positions, targets (readouts, read positions). is_path (readouts, baselines): which are baselines.
    Causal readouts read one position and see the tokens up to it; masked ones are of equal length.
    """

    sentences: Sequence[Sequence[int]]
    starts: Sequence[int]
    origins: Sequence[int]
    rows: Int[Tensor, "readout sentence"]
    positions: Int[Tensor, "readout position"]
    targets: Int[Tensor, "readout position"]
    is_path: Bool[Tensor, "readout baseline"]


@dataclass(frozen=True)
class LayerCapture:
    """One layer at the read positions of all readouts, and what its attention needs of the other tokens.

    clean (readouts, positions, neurons) and baselines (readouts, baselines, positions, neurons): values at the neuron
    site. gate: the factor of the clean neurons where the site lies before a gated non-linearity. residual (readouts,
    positions, hidden): the residual after attention. keys, values (readouts, tokens, kv heads, dim), queries likewise
    and inputs (readouts, tokens, hidden), the latter two for masked models only.
    """

    clean: Float[Tensor, "readout position neuron"]
    baselines: Float[Tensor, "readout baseline position neuron"]
    gate: Float[Tensor, "readout position neuron"] | None
    residual: Float[Tensor, "readout position hidden"]
    keys: Float[Tensor, "readout token head dim"]
    values: Float[Tensor, "readout token head dim"]
    queries: Float[Tensor, "readout token head dim"] | None = None
    inputs: Float[Tensor, "readout token hidden"] | None = None


def _site(block: Block, read: Tensor, site: str) -> tuple[Tensor, Tensor, Tensor | None]:
    """The neurons, the values at the site, and the gate, from what the feed-forward part reads."""
    before, gate = block.feed.inward(read), block.feed.gate(read)
    neurons = block.feed.activate(before, gate)
    return (neurons, neurons, None) if site == "down_input" else (neurons, before, gate)


def _layer(at_site: Tensor, gate: Tensor | None, residual: Tensor, rows: Tensor, **attention: Tensor) -> LayerCapture:
    """A layer from values (sentences, positions, ...), or packed rows, at the readouts' own."""
    chosen = at_site[rows]
    return LayerCapture(
        clean=chosen[:, 0],
        baselines=chosen[:, 1:],
        gate=None if gate is None else gate[rows[:, 0]],
        residual=residual[rows[:, 0]],
        **attention,
    )


def see(n_tokens: int, window: int | None, device: torch.device) -> Bool[Tensor, "token token"]:
    """Which positions each position of a causal model sees."""
    place = torch.arange(n_tokens, device=device)
    distance = place[:, None] - place
    return (distance >= 0) & (distance < (window or n_tokens))


@dataclass(frozen=True)
class _Packing:
    """Tokens of all sentences of a causal model from where they differ, and how to lay them out.

    ids, places (rows,): token ids and positions. grid (sentences, tokens): the row of each token, for tokens before
    the difference that of the query. sentence (rows,): of each row. tails (readouts, 1 + baselines): the row of each
    sentence at the readout's position.
    """

    ids: Int[Tensor, " row"]
    places: Int[Tensor, " row"]
    sentence: Int[Tensor, " row"]
    grid: Int[Tensor, "sentence token"]
    tails: Int[Tensor, "readout sentence"]


def _pack(group: Group, device: torch.device) -> _Packing:
    """The packed rows of a group."""
    longest = max(map(len, group.sentences))
    grid = torch.zeros(len(group.sentences), longest, dtype=torch.long)
    ids, places, sentence = [], [], []
    for number, (tokens, start, origin) in enumerate(zip(group.sentences, group.starts, group.origins, strict=True)):
        own = torch.arange(start, len(tokens))
        grid[number, :start] = grid[origin, :start]
        grid[number, start : len(tokens)] = len(ids) + own - start
        ids += tokens[start:]
        places += own.tolist()
        sentence += [number] * len(own)
    tails = grid[group.rows.cpu(), group.positions.cpu()]
    return _Packing(*(torch.as_tensor(part).to(device) for part in (ids, places, sentence, grid, tails)))


def _slope(attention: Attention, n_tokens: int, like: Tensor) -> Float[Tensor, "head token token"]:
    """What ALiBi adds to the scores of each query and key."""
    place = torch.arange(n_tokens, device=like.device, dtype=like.dtype)
    return attention.slopes[:, None, None] * (place - place[:, None])


def _attend_capped(attention: Attention, query: Tensor, key: Tensor, value: Tensor, seen: Tensor) -> Tensor:
    """Attention (sentences, heads, tokens, dim) with a cap, which the fused function does not have."""
    groups = query.unflatten(1, (attention.n_kv_heads, -1)) * attention.scale
    scores = attention.capped(groups @ key[:, :, None].transpose(-1, -2))
    weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    return (weights @ value[:, :, None]).flatten(1, 2)


def _attend_packed(block: Block, parts: tuple[Tensor, Tensor, Tensor], packing: _Packing) -> Tensor:
    """What the heads of every packed row attend to, (rows, heads, dim)."""
    query, key, value = (part[packing.grid].transpose(1, 2) for part in parts)
    attention, n_tokens = block.attention, packing.grid.shape[1]
    mask = see(n_tokens, attention.window, query.device)
    if attention.slopes is not None:
        mask = _slope(attention, n_tokens, query).masked_fill(~mask, -torch.inf)
    if attention.cap is not None:
        found = _attend_capped(attention, query, key, value, mask)
    else:
        found = scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=attention.scale, enable_gqa=True)
    return found.transpose(1, 2)[packing.sentence, packing.places]


@torch.no_grad()
def capture_causal(network: Network, group: Group, site: str) -> list[LayerCapture]:
    """The layers of a causal model; keys and values are those of the readouts' queries, padded to the longest."""
    packing = _pack(group, network.device)
    x, rotations = network.embed(packing.ids, packing.places), network.rotations(packing.places)
    clean = packing.grid[group.rows[:, 0].to(x.device)]  # (readouts, tokens)
    tails, layers = packing.tails, []
    for number, (block, rotation) in enumerate(zip(network.blocks, rotations, strict=True)):
        parts = block.project(x, rotation)
        attended = _attend_packed(block, parts, packing)
        if number == len(network.blocks) - 1:  # nothing reads the other rows any more
            kept, tails = tails.unique(return_inverse=True)
            x, attended = x[kept], attended[kept]
        residual = block.residual(x, attended)
        neurons, at_site, gate = _site(block, block.feed_input(x, residual), site)
        wide = (part[:, None] if part is not None else None for part in (at_site, gate, residual))
        layers.append(_layer(*wide, tails, keys=parts[1][clean], values=parts[2][clean]))
        x = block.leave(residual, block.feed.down(neurons))
    return layers


def take(x: Tensor, positions: Int[Tensor, "row position"]) -> Tensor:
    """Vectors of rows (rows, tokens, ...) at positions of each row, (rows, positions, ...)."""
    return x[torch.arange(len(x), device=x.device)[:, None], positions]


@torch.no_grad()
def capture_masked(network: Network, group: Group, site: str) -> list[LayerCapture]:
    """The layers of a masked model, whose sentences are all of equal length."""
    ids = torch.tensor(group.sentences, device=network.device)
    places = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    x, rotations = network.embed(ids, places), network.rotations(places)
    rows, clean = group.rows, group.rows[:, 0]
    read = group.positions.new_zeros(len(ids), group.positions.shape[1])
    read[rows] = group.positions[:, None]  # every sentence belongs to one readout
    layers = []
    for number, (block, rotation) in enumerate(zip(network.blocks, rotations, strict=True)):
        query, key, value = block.project(x, rotation)
        context = {"keys": key[clean], "values": value[clean], "queries": query[clean], "inputs": x[clean]}
        attended = attend_all(block, query, key, value)
        if number == len(network.blocks) - 1:
            x, attended, places_read = take(x, read), take(attended, read), None
        else:
            places_read = read
        residual = block.residual(x, attended)
        neurons, at_site, gate = _site(block, block.feed_input(x, residual), site)
        parts = (at_site, gate, residual)
        if places_read is not None:
            parts = (None if part is None else take(part, places_read) for part in parts)
        layers.append(_layer(*parts, rows, **context))
        x = block.leave(residual, block.feed.down(neurons))
    return layers


def attend_all(block: Block, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """What the heads of every token attend to when all see all, (..., tokens, heads, dim) in and out."""
    heads = (part.flatten(0, -4).transpose(1, 2) for part in (query, key, value))
    found = scaled_dot_product_attention(*heads, scale=block.attention.scale)
    return found.transpose(1, 2).view_as(query)


def rotation_at(network: Network, places: Int[Tensor, "readout position"]) -> list[Rotation | None]:
    """The rotation of each layer at the read positions."""
    return list(network.rotations(places))
