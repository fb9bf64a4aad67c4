# Which sets of neurons this study imports, and which pairs of sets it compares.

IMPORTS = config["exchange"]["imports"]


def compared_pairs():
    """(model, first, second) of every comparison: in the model of an imported set, else in every model.

    Pairs with a selection that the study leaves out are none.
    """
    pairs, known = [], {*SELECTIONS, *SEARCHED, *IMPORTS}
    for first, second in [pair for pair in config["exchange"]["compare"] if set(pair) <= known]:
        own = [IMPORTS[name]["model"] for name in (first, second) if name in IMPORTS]
        pairs += [(model, first, second) for model in own[:1] or MODELS]
    return pairs


def compared_sets(place):
    """The files of the first (0) or second (1) sets of all comparisons."""
    return [f"<results>/neurons/{pair[0]}/{pair[1 + place]}.parquet" for pair in compared_pairs()]


def imported(key):
    """A setting of an imported set."""
    return lambda wildcards: IMPORTS[wildcards.name][key]


def mapping_files(wildcards):
    """The mapping from the keys of an imported file to facts, if the study names one."""
    mapping = IMPORTS[wildcards.name]["mapping"]
    return [mapping] if mapping else []


# only where sets are compared
EXCHANGE_TABLES = ["neuron_sets", "neuron_set_layers"] if compared_pairs() else []
TABLES += EXCHANGE_TABLES
