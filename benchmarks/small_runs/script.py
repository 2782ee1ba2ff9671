"""One cell as a script of its own, in the manner of nanoGPT: a model, a memory-mapped file of tokens, a hand-written loop.

    python benchmarks/small_runs/script.py DIRECTORY OUT --attention gqa --norm layernorm --seed 3

DIRECTORY has train.bin and validation.bin (uint16). It prints the validation loss, over the whole file, and saves its weights.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

LAYERS, WIDTH, HEADS, LENGTH, BATCH, D_FF = 2, 64, 4, 64, 4, 256
KV_HEADS = {"mha": 4, "gqa": 2, "mqa": 1}
NORMS = {"layernorm": nn.LayerNorm, "rmsnorm": nn.RMSNorm}
EVALUATED = 32
"""Sequences of an evaluation's batch."""


class Block(nn.Module):
    def __init__(self, kv_heads, norm):
        super().__init__()
        self.sizes = [WIDTH, WIDTH * kv_heads // HEADS, WIDTH * kv_heads // HEADS]
        self.attention_norm, self.ffn_norm = norm(WIDTH), norm(WIDTH)
        self.qkv = nn.Linear(WIDTH, sum(self.sizes), bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)
        self.up, self.down = nn.Linear(WIDTH, D_FF, bias=False), nn.Linear(D_FF, WIDTH, bias=False)
        self.grouped = kv_heads != HEADS

    def forward(self, x):
        parts = self.qkv(self.attention_norm(x)).split(self.sizes, dim=-1)
        q, k, v = (part.unflatten(-1, (-1, WIDTH // HEADS)).transpose(1, 2) for part in parts)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.grouped)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.ffn_norm(x))))


class GPT(nn.Module):
    def __init__(self, vocabulary, kv_heads, norm):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.blocks = nn.ModuleList(Block(kv_heads, norm) for _ in range(LAYERS))
        self.norm = norm(WIDTH)
        self.head = nn.Linear(WIDTH, vocabulary, bias=False)
        self.head.weight = self.tokens.weight
        for name, parameter in self.named_parameters():
            if parameter.dim() >= 2:
                scale = 0.02 / math.sqrt(2 * LAYERS) if name.endswith(("out.weight", "down.weight")) else 0.02
                nn.init.normal_(parameter, std=scale)

    def forward(self, ids, targets):
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1), targets.flatten())


def batch_of(data):
    places = torch.randint(len(data) - LENGTH, (BATCH,))
    rows = torch.stack([torch.from_numpy(data[place : place + LENGTH + 1].astype(np.int64)) for place in places])
    return rows[:, :-1], rows[:, 1:]


def learning_rate(step, steps, peak):
    warmup = max(steps // 20, 1)
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (0.1 + 0.45 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))))


@torch.no_grad()
def evaluate(model, data):
    model.eval()
    tokens = torch.from_numpy(data.astype(np.int64))
    whole = (len(tokens) - 1) // LENGTH
    ids, targets = (tokens[start : start + whole * LENGTH].view(-1, LENGTH) for start in (0, 1))
    parts = zip(ids.split(EVALUATED), targets.split(EVALUATED), strict=True)
    nats = sum(model(some, wanted).item() * wanted.numel() for some, wanted in parts)
    return nats / (whole * LENGTH)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--attention", choices=KV_HEADS, default="mha")
    parser.add_argument("--norm", choices=NORMS, default="layernorm")
    parser.add_argument("--vocabulary", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--lr", type=float, default=1e-3)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    train, validation = (np.memmap(arguments.data / f"{name}.bin", np.uint16, mode="r") for name in ("train", "validation"))
    model = GPT(arguments.vocabulary, KV_HEADS[arguments.attention], NORMS[arguments.norm])
    decays = [parameter for parameter in model.blocks.parameters() if parameter.dim() >= 2]
    rest = [parameter for parameter in model.parameters() if not any(parameter is other for other in decays)]
    groups = [{"params": decays, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    # What nanoGPT does on a GPU alone; on a processor it is as much faster.
    optimizer = torch.optim.AdamW(groups, lr=arguments.lr, betas=(0.9, 0.95), fused=True)
    for step in range(arguments.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, arguments.steps, arguments.lr)
        loss = model(*batch_of(train))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 10 == 0:
            print(f"step {step}: loss {loss.item():.4f}")
    result = {"val_loss": evaluate(model, validation), "parameters": sum(parameter.numel() for parameter in model.parameters())}
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "arguments": vars(arguments)}, arguments.out / "ckpt.pt")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
