"""Writes rope_golden.json: inv_freq as HF transformers computes it, for rope_test.ts (run `deno fmt` on it).

Needs ../fixtures/requirements.txt.
"""
import json
from pathlib import Path

from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

LLAMA3 = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
CASES = [
    (128, 10000.0, {"rope_type": "default"}),
    (80, 10000.0, {"rope_type": "linear", "factor": 2.0}),
    (64, 10000.0, {"rope_type": "linear", "factor": 3.0}),
    (128, 500000.0, {"rope_type": "default"}),
    (128, 500000.0, {**LLAMA3, "factor": 8.0}),
    (64, 500000.0, {**LLAMA3, "factor": 32.0}),
    (16, 20000.0, {**LLAMA3, "factor": 8.0, "original_max_position_embeddings": 32}),
    (96, 12345.0, {**LLAMA3, "factor": 6.0, "low_freq_factor": 1.3, "high_freq_factor": 3.7}),
    (128, 1000000.0, {"rope_type": "default"}),
    (128, 5000000.0, {"rope_type": "default"}),
    (24, 100000.0, {"rope_type": "default"}),
    (8, 10000.0, {"rope_type": "default"}),
]

out = []
for head_dim, theta, rope in CASES:
    config = LlamaConfig(head_dim=head_dim, hidden_size=head_dim * 4, num_attention_heads=4, max_position_embeddings=131072,
                         rope_parameters={"rope_theta": theta, **rope})
    inv_freq = LlamaRotaryEmbedding(config).inv_freq
    out.append({"head_dim": head_dim, "theta": theta, "rope": rope, "inv_freq": [float(x) for x in inv_freq]})
text = ",\n".join(json.dumps(case) for case in out)
Path(__file__).with_suffix(".json").write_text(f"[\n{text}\n]\n")
