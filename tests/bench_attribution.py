"""Speed of the attribution engine against a plain loop, as ratios within one run: python -m tests.bench_attribution.

Both compute the same scores of the same query on one thread; they take turns, CPU time is measured, medians are shown.
The plain loop sends one point of one layer at a time through the whole model, as published code does.
"""

from statistics import median
from time import process_time

import torch
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from knatlas.attribution import AttributionMethod
from knatlas.attribution.engine import attribute
from knatlas.models.language_model import LanguageModel, as_language_model
from tests.naive_attribution import example, naive_scores, relative_error
from tests.tiny_models import TOKENIZERS

ROUNDS, STEPS, LAYERS, WIDTH = 3, 20, 6, 256
METHODS = {"B-KN": "zero", "AMIG mean path": "mean_path", "SAIG, a path per token": "per_token"}


def benchmark_model(model_type: str) -> LanguageModel:
    """A random model of 6 layers, hidden size 256, 1024 neurons per layer, with a small tokenizer."""
    tokenizer, common = TOKENIZERS[model_type](), {"vocab_size": 8000}
    torch.manual_seed(0)
    if model_type == "gpt2":
        config = GPT2Config(**common, n_embd=WIDTH, n_layer=LAYERS, n_head=4, bos_token_id=0, eos_token_id=0)
        model = GPT2LMHeadModel(config)
    else:
        sizes = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 4}
        sizes |= {"intermediate_size": 4 * WIDTH, **common}
        model = BertForMaskedLM(BertConfig(**sizes)) if model_type == "bert" else LlamaForCausalLM(LlamaConfig(**sizes))
    return as_language_model(f"benchmark-{model_type}", model, tokenizer, "random")


def compare(model_type: str, path: str) -> tuple[float, float, float]:
    """Median CPU seconds of the loop and of the engine, and the relative L2 difference of their scores."""
    lm = benchmark_model(model_type)
    query, method = example(lm), AttributionMethod("m", path=path, steps=STEPS)
    loop, engine = [], []
    for _ in range(ROUNDS):
        start = process_time()
        expected = naive_scores(lm, query, path, "right", STEPS)["delta"]
        middle = process_time()
        found = attribute(lm, query, [method], batch_rows=64).scores["m"]
        loop.append(middle - start)
        engine.append(process_time() - middle)
    return median(loop), median(engine), relative_error(found, expected)


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print("| model | method | plain loop [CPU s] | engine [CPU s] | ratio | relative L2 difference |")
    print("|---|---|---|---|---|---|")
    for model_type in ("bert", "gpt2", "llama"):
        for name, path in METHODS.items():
            loop, engine, error = compare(model_type, path)
            print(
                f"| {model_type} | {name} | {loop:.2f} | {engine:.3f} | {loop / engine:.1f} | {error:.1e} |", flush=True
            )


if __name__ == "__main__":
    main()
