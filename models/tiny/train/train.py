"""Trains the tiny model from nothing and writes the files of a Hugging Face checkpoint.

    python train.py                    the released model
    python train.py --steps 200        a quick look

Text: corpus.py. Model: Llama (RMSNorm, RoPE, grouped-query attention, SwiGLU, tied embeddings).
Optimizer: Muon for the matrices, AdamW for the rest; the learning rate falls linearly to zero.
"""
import argparse
import json
import math
import os
import random
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads lose much time on a busy machine
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn

import corpus

SPECIAL = [corpus.BOS, corpus.END, corpus.SYS, corpus.USER, corpus.ASSISTANT, "<|pad|>"]
BOS, END, SYS, USER, ASSISTANT, PAD = range(6)
CONTEXT = 2048
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 2048, "hidden_size": 256,
    "intermediate_size": 640, "num_hidden_layers": 5, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 32,
    "hidden_act": "silu", "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "rope_scaling": None,
    "tie_word_embeddings": True, "attention_bias": False, "mlp_bias": False, "attention_dropout": 0.0, "initializer_range": 0.02,
    "bos_token_id": BOS, "eos_token_id": END, "pad_token_id": PAD, "torch_dtype": "bfloat16", "use_cache": True,
}
TEMPLATE = ("{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + (message['content'] | trim) + '<|end|>' }}"
            "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}")


# ---- tokenizer ----

def train_tokenizer(seed):
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=CONFIG["vocab_size"], special_tokens=SPECIAL, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tok.train_from_iterator(corpus.documents(seed, 20000), trainer)
    tok.post_processor = processors.TemplateProcessing(single=f"{corpus.BOS} $A", pair=f"{corpus.BOS} $A $B", special_tokens=[(corpus.BOS, BOS)])
    return tok


def tokenize(tok, seed, count):
    """Documents as arrays of ids, none longer than the context."""
    docs, chunk = [], []
    for i, text in enumerate(corpus.documents(seed, count), 1):
        chunk.append(text)
        if len(chunk) == 2000 or i == count:
            docs += [np.array(e.ids[:CONTEXT], np.uint16) for e in tok.encode_batch(chunk, add_special_tokens=False)]
            chunk = []
    return docs


# ---- batches ----

def batches(docs, tokens, rng):
    """One document a row, so no document ever sees another; rows of like length go together, to pad little."""
    order = list(range(len(docs)))
    rng.shuffle(order)
    for pool in (order[i:i + 4096] for i in range(0, len(order), 4096)):
        pool.sort(key=lambda i: len(docs[i]))
        done, rows = [], []
        for i in pool:
            if rows and (len(rows) + 1) * len(docs[i]) > tokens:
                done.append(rows)
                rows = []
            rows.append(docs[i])
        done.append(rows)
        rng.shuffle(done)
        yield from map(collate, done)


def collate(rows):
    width = -(-max(map(len, rows)) // 16) * 16
    ids = np.full((len(rows), width), PAD, np.int64)
    for i, r in enumerate(rows):
        ids[i, :len(r)] = r
    x, y = ids[:, :-1], ids[:, 1:].copy()
    # Only what the model itself must say is learned: not the padding, nor the visitor's or the system's words.
    turn = np.maximum.accumulate(np.where((x >= SYS) & (x <= ASSISTANT), np.arange(x.shape[1]), -1), axis=1)
    role = np.where(turn < 0, ASSISTANT, np.take_along_axis(x, np.maximum(turn, 0), axis=1))
    y[(role != ASSISTANT) | (y == PAD) | ((y >= SYS) & (y <= USER))] = -100
    return torch.from_numpy(np.ascontiguousarray(x)), torch.from_numpy(y)


# ---- model; the modules are named as in the checkpoint ----

def rope_tables():
    d = CONFIG["head_dim"]
    angles = torch.arange(CONTEXT)[:, None] / CONFIG["rope_theta"] ** (torch.arange(0, d, 2) / d)
    return torch.cat([angles, angles], -1).cos(), torch.cat([angles, angles], -1).sin()


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


def linear(i, o):
    return nn.Linear(i, o, bias=False)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        h, self.d = c["hidden_size"], c["head_dim"]
        self.q_proj, self.o_proj = linear(h, h), linear(h, h)
        self.k_proj, self.v_proj = (linear(h, c["num_key_value_heads"] * self.d) for _ in range(2))

    def forward(self, x, cos, sin):
        b, t, _ = x.shape
        q, k, v = (p(x).view(b, t, -1, self.d).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        q, k = rotate(q, cos, sin).to(v.dtype), rotate(k, cos, sin).to(v.dtype)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.o_proj(y.transpose(1, 2).reshape(b, t, -1))


class MLP(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.gate_proj, self.up_proj = (linear(c["hidden_size"], c["intermediate_size"]) for _ in range(2))
        self.down_proj = linear(c["intermediate_size"], c["hidden_size"])

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = (nn.RMSNorm(c["hidden_size"], c["rms_norm_eps"]) for _ in range(2))
        self.self_attn, self.mlp = Attention(c), MLP(c)

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.embed_tokens = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.layers = nn.ModuleList(Layer(c) for _ in range(c["num_hidden_layers"]))
        self.norm = nn.RMSNorm(c["hidden_size"], c["rms_norm_eps"])
        for n, b in zip(("cos", "sin"), rope_tables()):
            self.register_buffer(n, b, persistent=False)
        self.fast = self.hidden  # what the loss uses; compiled, if possible
        for n, p in self.named_parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.02 / (math.sqrt(2 * c["num_hidden_layers"]) if n.endswith(("o_proj.weight", "down_proj.weight")) else 1))

    def hidden(self, ids):
        x, t = self.embed_tokens(ids), ids.shape[1]
        for layer in self.layers:
            x = layer(x, self.cos[:t], self.sin[:t])
        return self.norm(x)

    def forward(self, ids):
        return F.linear(self.hidden(ids), self.embed_tokens.weight)

    def loss(self, x, y):
        """The sum over the tokens to be learned."""
        keep = y.flatten() >= 0
        with torch.autocast("cpu", torch.bfloat16):
            logits = F.linear(self.fast(x).flatten(0, 1)[keep], self.embed_tokens.weight)
        return F.cross_entropy(logits.float(), y.flatten()[keep], reduction="sum")


@torch.no_grad()
def evaluate(model, data):
    total = sum(model.loss(x, y).item() for x, y in data)
    return total / sum((y >= 0).sum().item() for _, y in data)


@torch.no_grad()
def sample(model, tok, text):
    ids = tok.encode(text, add_special_tokens=False).ids
    for _ in range(300):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
        if ids[-1] == END:
            break
    return tok.decode(ids, skip_special_tokens=False)


# ---- files ----

def export(model, tok, out):
    out.mkdir(parents=True, exist_ok=True)
    write = lambda name, value: (out / name).write_text(json.dumps(value, indent=2) + "\n")
    save_file({"model." + n: p.detach().bfloat16().contiguous() for n, p in model.state_dict().items()}, out / "model.safetensors", {"format": "pt"})
    (out / "model.safetensors").chmod(0o644)  # save_file lets only the owner read it
    tok.save(str(out / "tokenizer.json"))
    write("config.json", CONFIG)
    write("generation_config.json", {"bos_token_id": BOS, "eos_token_id": END, "pad_token_id": PAD, "do_sample": True, "temperature": 0.7, "top_p": 0.9, "max_new_tokens": 512})
    write("tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": SPECIAL[BOS], "eos_token": SPECIAL[END], "pad_token": SPECIAL[PAD],
        "add_bos_token": True, "add_eos_token": False, "clean_up_tokenization_spaces": False, "model_max_length": CONTEXT,
        "added_tokens_decoder": {str(i): {"content": s, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
                                 for i, s in enumerate(SPECIAL)},
        "chat_template": TEMPLATE})


def main():
    arg = argparse.ArgumentParser()
    arg.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent)
    arg.add_argument("--seed", type=int, default=1)
    arg.add_argument("--steps", type=int, default=2200)
    arg.add_argument("--tokens", type=int, default=8192, help="of a batch")
    arg.add_argument("--eager", action="store_true", help="do without torch.compile, which needs a C++ compiler and is two to three times as fast")
    arg.add_argument("--lr", type=float, default=4e-3)
    arg.add_argument("--threads", type=int, default=2)
    arg.add_argument("--new-tokenizer", action="store_true", help="train one even if there is one in --out")
    a = arg.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    began = time.time()

    vocabulary = a.out / "tokenizer.json"
    keep = vocabulary.exists() and not a.new_tokenizer
    tok = Tokenizer.from_file(str(vocabulary)) if keep else train_tokenizer(a.seed)
    held_out = list(batches(tokenize(tok, a.seed + 1, 1000), a.tokens, random.Random(0)))
    # A document has about 250 tokens; none is used twice.
    docs = tokenize(tok, a.seed + 2, a.steps * a.tokens // 220)
    print(f"{len(docs)} documents, {sum(map(len, docs)) / 1e6:.1f} M tokens, {time.time() - began:.0f} s", flush=True)

    model = Llama(CONFIG)
    if not a.eager:
        model.fast = torch.compile(model.hidden, dynamic=True)
    print(f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n]
    rest = [p for n, p in model.named_parameters() if p.dim() != 2 or "embed" in n]
    optimizers = [torch.optim.Muon(matrices, lr=a.lr, weight_decay=0.05, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
                  torch.optim.AdamW(rest, lr=a.lr, betas=(0.9, 0.98), weight_decay=0.0)]
    stream = batches(docs, a.tokens, random.Random(a.seed))
    seen, recent = 0, []
    for step in range(a.steps):
        x, y = next(stream)
        loss = model.loss(x, y) / (y >= 0).sum()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        rate = min(1, (step + 1) / 50) * min(1, (a.steps - step) / (0.7 * a.steps))
        for o in optimizers:
            o.param_groups[0]["lr"] = a.lr * rate
            o.step()
            o.zero_grad(set_to_none=True)
        seen += x.numel()
        recent.append(loss.item())
        if step % 50 == 49:
            print(f"step {step + 1}  loss {np.mean(recent[-50:]):.3f}  {seen / 1e6:.1f} M tokens  {time.time() - began:.0f} s", flush=True)
        if step % 400 == 399 or step == a.steps - 1:
            print(f"step {step + 1}  held out {evaluate(model, held_out):.4f}", flush=True)
            for prompt in (SPECIAL[BOS] + "Once upon a time", SPECIAL[BOS] + SPECIAL[USER] + "Tell me a story about a fox" + SPECIAL[END] + SPECIAL[ASSISTANT]):
                print(sample(model, tok, prompt), flush=True)
            export(model, tok, a.out)
    # What ships is rounded to BF16; measure that.
    for p in model.parameters():
        p.data = p.data.bfloat16().float()
    print(f"held out, as shipped {evaluate(model, held_out):.4f}; {time.time() - began:.0f} s in all")


if __name__ == "__main__":
    main()
