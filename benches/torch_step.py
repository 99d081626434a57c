#!/usr/bin/env python3
"""One training step, and a scoring pass, in plain PyTorch eager: the rival of `avascope bench`.

A Llama of SmolLM2-135M's sizes (or the world decoder's) with random weights, on made-up pairs of the same shape: trunk,
LM head, log-probability of each answer token, a linear reward head, a preference loss, backward, clipping, AdamW.
Needs nothing but torch. Prints one JSON object.
"""

import argparse
import json
import resource
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

SIZES = {
    "smollm2": dict(vocab=49152, hidden=576, wide=1536, layers=30, heads=9, kv=3, theta=100000.0),
    "world": dict(vocab=88, hidden=64, wide=172, layers=2, heads=4, kv=4, theta=10000.0),
}


class Norm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight, 1e-5)


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c, self.d = c, c["hidden"] // c["heads"]
        linear = lambda i, o: nn.Linear(i, o, bias=False)
        self.q = linear(c["hidden"], c["heads"] * self.d)
        self.k = linear(c["hidden"], c["kv"] * self.d)
        self.v = linear(c["hidden"], c["kv"] * self.d)
        self.o = linear(c["heads"] * self.d, c["hidden"])
        self.gate = linear(c["hidden"], c["wide"])
        self.up = linear(c["hidden"], c["wide"])
        self.down = linear(c["wide"], c["hidden"])
        self.before_attention, self.before_mlp = Norm(c["hidden"]), Norm(c["hidden"])

    def forward(self, x, cos, sin):
        b, t, _ = x.shape
        h = self.before_attention(x)
        heads = lambda y: y.view(b, t, -1, self.d).transpose(1, 2)
        q, k, v = turn(heads(self.q(h)), cos, sin), turn(heads(self.k(h)), cos, sin), heads(self.v(h))
        group = self.c["heads"] // self.c["kv"]
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(mixed.transpose(1, 2).reshape(b, t, -1))
        h = self.before_mlp(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


def turn(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat((-b, a), -1) * sin


class Model(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.embedding = nn.Embedding(c["vocab"], c["hidden"])
        self.layers = nn.ModuleList(Layer(c) for _ in range(c["layers"]))
        self.norm = Norm(c["hidden"])
        self.reward = nn.Linear(c["hidden"], 2)
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, std=0.02)

    def trunk(self, ids):
        """Hidden states [rows, tokens, hidden] after the final norm."""
        d = self.c["hidden"] // self.c["heads"]
        frequency = self.c["theta"] ** (-torch.arange(0, d, 2, device=ids.device).float() / d)
        angle = torch.outer(torch.arange(ids.shape[1], device=ids.device).float(), frequency).repeat(1, 2)
        x, cos, sin = self.embedding(ids), angle.cos(), angle.sin()
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.norm(x)

    def at(self, ids, places, all_positions):
        """The same as `forward` for answer tokens anywhere in the batch: their log-probabilities and rewards."""
        x = self.trunk(ids)
        flat, ids = x.reshape(-1, x.shape[-1]), ids.reshape(-1)
        if all_positions:
            every = F.log_softmax(flat @ self.embedding.weight.T, -1)
            q = every[places - 1].gather(-1, ids[places, None])[..., 0]
        else:
            logits = flat[places - 1] @ self.embedding.weight.T
            q = F.log_softmax(logits, -1).gather(-1, ids[places, None])[..., 0]
        return q, self.reward(flat[places])

    def forward(self, ids, prompt, all_positions):
        """Log-probability of every answer token and the reward head's two numbers: each [rows, answer tokens, ...]."""
        x = self.trunk(ids)
        if all_positions:
            # What the usual code does: every position's log-softmax, masked afterwards.
            every = F.log_softmax(x[:, :-1] @ self.embedding.weight.T, -1)
            q = every.gather(-1, ids[:, 1:, None])[..., 0][:, prompt - 1 :]
        else:
            logits = x[:, prompt - 1 : -1] @ self.embedding.weight.T
            q = F.log_softmax(logits, -1).gather(-1, ids[:, prompt:, None])[..., 0]
        return q, self.reward(x[:, prompt:])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=SIZES, default="smollm2")
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--prompt", type=int)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--score-pairs", type=int, default=64)
    parser.add_argument("--batches", help="a JSON report of `avascope bench --data`: score batches of these sizes")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="cpu, or a GPU as torch calls it (cuda, mps); products stay in plain f32")
    parser.add_argument("--all-positions", action="store_true", help="logits of every position, not only of answers")
    parser.add_argument("--fused", action="store_true", help="PyTorch's fused AdamW")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device = torch.device(args.device)
    kind = device.type
    if kind == "cuda":
        torch.cuda.set_device(device)
        torch.backends.cuda.matmul.allow_tf32 = False

    def now():
        """The time when all that was asked of the device is done."""
        if kind != "cpu":
            getattr(torch, kind).synchronize()
        return time.perf_counter()

    size = SIZES[args.size]
    prompt = args.prompt or max(args.tokens // 4, 1)
    model = Model(size).to(device)
    options = dict(fused=True) if args.fused else {}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.01, **options)
    draw = lambda pairs: torch.randint(size["vocab"], (2 * pairs, args.tokens), device=device)

    phases = {"forward": [], "backward": [], "optimizer": [], "step": []}
    for step in range(args.steps + 2):
        ids = draw(args.pairs)
        marks = [now()]
        q, reward = model(ids, prompt, args.all_positions)
        mean, spread = reward.unbind(-1)
        score = mean.sum(1)
        loss = -q.mean() - F.logsigmoid(score[: args.pairs] - score[args.pairs :]).mean()
        loss = loss + 0.5 * (mean**2 + (2 * spread).exp() - 2 * spread).mean()
        loss.item()
        marks.append(now())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        marks.append(now())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        marks.append(now())
        if step >= 2:
            for name, start, end in zip(("forward", "backward", "optimizer"), marks, marks[1:]):
                phases[name].append(end - start)
            phases["step"].append(marks[-1] - marks[0])

    left, scored, scored_tokens = args.score_pairs, 0.0, 2 * args.score_pairs * args.tokens
    with torch.inference_mode():
        if args.batches:
            batches = json.load(open(args.batches))["score_batches"]
            scored_tokens = sum(tokens for batch in batches for tokens, _ in batch)
            for i, batch in enumerate(batches[:1] + batches):
                tokens = max(tokens for tokens, _ in batch)
                ids = torch.randint(size["vocab"], (len(batch), tokens), device=device)
                # Each answer token's place, and that of the state before it, among all positions of the batch.
                places = [row * tokens + t for row, (own, before) in enumerate(batch) for t in range(max(before, 1), own)]
                places = torch.tensor(places, device=device)
                start = now()
                _, reward = model.at(ids, places, args.all_positions)
                reward.sum().item()
                scored += (now() - start) * (i > 0)
            left = 0
        else:
            model(draw(16), prompt, args.all_positions)
        while left > 0:
            pairs = min(left, 16)
            ids = draw(pairs)
            start = now()
            q, reward = model(ids, prompt, args.all_positions)
            reward.sum().item()
            scored += now() - start
            left -= pairs
    result = {name: dict(median=statistics.median(v), min=min(v), max=max(v)) for name, v in phases.items()}
    result |= dict(
        torch=torch.__version__,
        threads=args.threads,
        device=torch.cuda.get_device_name() if kind == "cuda" else args.device,
        parameters=sum(p.numel() for p in model.parameters()),
        train_tokens_per_second=2 * args.pairs * args.tokens / result["step"]["median"],
        score_pairs=args.score_pairs,
        score_seconds=scored,
        score_tokens_per_second=scored_tokens / scored if scored else 0.0,
        # Linux counts in KiB, macOS in bytes.
        peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        peak_device_bytes=torch.cuda.max_memory_allocated() if kind == "cuda" else None,
    )
    print(json.dumps(result, indent=2))


main()
