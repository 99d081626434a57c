#!/bin/sh
# Training step and scoring of `avascope bench` and of PyTorch eager on the same sizes, in turn (A B A B ...), and the
# ratio of the medians. A busy machine changes both, so only figures of one call belong together.
#
# usage: PYTHON=venv/bin/python AVASCOPE=target/release/avascope benches/compare_torch.sh [MODEL]
#   MODEL    a SmolLM2-135M file or folder (`avascope fetch smollm2` prints one), or `world`
#   ROUNDS, PAIRS, TOKENS, PROMPT, STEPS, SCORE_PAIRS, THREADS: as below
#   DATA     rows to score in place of made-up ones, at most SCORE_PAIRS; PyTorch scores random tokens in batches of the same
#            sizes, and computes logits of the same positions (all of them under "all positions")
set -eu
here=$(dirname "$0")
python=${PYTHON:-python3}
avascope=${AVASCOPE:-avascope}
model=${1:-world}
rounds=${ROUNDS:-2} pairs=${PAIRS:-8} tokens=${TOKENS:-64} steps=${STEPS:-5} score=${SCORE_PAIRS:-64} threads=${THREADS:-2}
prompt=${PROMPT:-$((tokens / 4))}
size=smollm2
[ "$model" = world ] && size=world
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
data=${DATA:-}
common="--pairs $pairs --tokens $tokens --prompt $prompt --steps $steps --score-pairs $score"
round=1
while [ "$round" -le "$rounds" ]; do
  echo "round $round of $rounds: avascope" >&2
  # Word splitting of $common is wanted.
  # shellcheck disable=SC2086
  RAYON_NUM_THREADS=$threads "$avascope" bench --device cpu --model "$model" $common ${data:+--data "$data"} --json >"$out/a$round"
  batches=${data:+--batches $out/a$round}
  echo "round $round of $rounds: torch" >&2
  # shellcheck disable=SC2086
  "$python" "$here/torch_step.py" --size $size --threads "$threads" $common $batches >"$out/t$round"
  # shellcheck disable=SC2086
  "$python" "$here/torch_step.py" --size $size --threads "$threads" $common $batches --fused >"$out/f$round"
  # shellcheck disable=SC2086
  "$python" "$here/torch_step.py" --size $size --threads "$threads" $common $batches --all-positions >"$out/l$round"
  round=$((round + 1))
done
"$python" - "$out" "$rounds" <<'PY'
import json, statistics, sys
out, rounds = sys.argv[1], int(sys.argv[2])
read = lambda kind: [json.load(open(f"{out}/{kind}{r}")) for r in range(1, rounds + 1)]
rows = {"avascope": read("a"), "torch": read("t"), "torch, fused AdamW": read("f"), "torch, all positions": read("l")}
phases = ("step", "forward", "backward", "optimizer")
middle = {
    name: {p: statistics.median(r[p]["median"] for r in runs) for p in phases}
    | {"score": statistics.median(r["score_seconds"] for r in runs), "MiB": max(r["peak_memory_bytes"] for r in runs) / 2**20}
    for name, runs in rows.items()
}
print(f"{'seconds, medians':22}" + "".join(f"{p:>11}" for p in (*phases, "score", "MiB")))
for name, figures in middle.items():
    print(f"{name:22}" + "".join(f"{v:11.3f}" if k != "MiB" else f"{v:11.0f}" for k, v in figures.items()))
ours = middle["avascope"]
for name, figures in list(middle.items())[1:]:
    print(f"avascope's time / {name}'s: step {ours['step'] / figures['step']:.2f}, score {ours['score'] / max(figures['score'], 1e-9):.2f}")
print("steps of each round:", {n: [round(r["step"]["median"], 3) for r in runs] for n, runs in rows.items()})
PY
