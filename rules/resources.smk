# What jobs ask for: memory, time, and rows of a forward pass. These change speed only.
import os


def minutes(first):
    """Time limit of a job in minutes: `first`, and so much again at every further attempt.

    KNATLAS_MAX_MINUTES is the longest that the cluster allows: a job that asks for more would wait for ever.
    """
    longest = int(os.environ.get("KNATLAS_MAX_MINUTES", 0)) or float("inf")
    return lambda wildcards, attempt: min(first * attempt, longest)


def model_memory(wildcards, attempt):
    """Memory in MB of a job that runs a model: weights in float32 twice, and 2 GB for what surrounds them."""
    millions = MODELS[wildcards.model].get("parameters_millions", 2)
    return int(attempt * (2000 + 8 * millions))


def injection_memory(wildcards, attempt):
    """As `model_memory`; where all parameters are trained on a processor: weights, a copy, gradients, moments, a step."""
    on_processor = config["compute"]["device"] == "cpu" or not config["compute"]["gpus"]
    trains_all = config["experiments"]["injection"]["has_direct"] and on_processor
    millions = MODELS[wildcards.model].get("parameters_millions", 2)
    return max(model_memory(wildcards, attempt), int(attempt * (2000 + 32 * millions)) if trains_all else 0)


def shard_memory(wildcards, attempt):
    """Memory in MB of an attribution job: a model's, what is kept of its facts, and the dense statistics of one fact."""
    record, attribution = MODELS[wildcards.model], config["attribution"]
    languages = len(shard_languages(wildcards))
    facts = (config["localisation"]["facts"] or 10_000) / attribution["shards"]
    neurons = record.get("neurons", 40 * record.get("parameters_millions", 50))
    kept = (24 * languages + 4) * attribution["candidates"] if KEEPS_CANDIDATES else 48 * neurons
    return model_memory(wildcards, attempt) + int(attempt * (facts * kept + 300 * neurons * languages) / 1e6)


def batch_rows(wildcards, attempt):
    """Rows of a forward pass; halved at every new attempt, in case memory was short. 0 is 256 but for attributions."""
    return max(1, (config["compute"]["batch_rows"] or 256) // 2 ** (attempt - 1))


def attribution_rows(wildcards, attempt):
    """As `batch_rows`; 0 lets the engine choose from the memory that is free."""
    return batch_rows(wildcards, attempt) if config["compute"]["batch_rows"] else 0
