#!/usr/bin/env python3
"""How a token map of ParaDetox fares beside plain counts, by token and by word.

    avascope score RUN --data minpairs_paradetox.jsonl.gz > records.jsonl      (or its held-out rows: no --data)
    python benches/paradetox_words.py minpairs_paradetox.jsonl.gz tokenizer.json records.jsonl

Rows that stand in the records are test rows; the counts are of all others. Prints token AUC (labels: what people edited) of the
map, of log-odds of tokens, and of sums of both, each also with every token carrying the sum of its word. Needs `tokenizers`.
"""

import bisect
import collections
import gzip
import json
import math
import re
import statistics
import sys

from tokenizers import Tokenizer


def auc(scores, labels):
    """The share of pairs of a labelled and another token that are ordered rightly, ties half."""
    inside = [s for s, label in zip(scores, labels) if label]
    outside = sorted(s for s, label in zip(scores, labels) if not label)
    ranks = sum(bisect.bisect_left(outside, s) + bisect.bisect_right(outside, s) for s in inside)
    return ranks / 2 / len(inside) / len(outside)


def words(tokens):
    """Places of the tokens of each word: one begins at a space, at punctuation, and behind it."""
    groups = []
    for i, token in enumerate(tokens):
        joined = i > 0 and re.match(r"\w", token["text"]) and re.search(r"\w$", tokens[i - 1]["text"])
        if joined:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def summed(values, groups):
    out = list(values)
    for group in groups:
        for i in group:
            out[i] = sum(values[j] for j in group)
    return out


def main():
    data, tokenizer, records = sys.argv[1:4]
    tokenizer = Tokenizer.from_file(tokenizer)
    records = [json.loads(line) for line in open(records)]
    test = {record["id"] for record in records}
    counts = {"chosen": collections.Counter(), "rejected": collections.Counter()}
    for line in gzip.open(data, "rt"):
        row = json.loads(line)
        if row["id"] not in test:
            for side, count in counts.items():
                count.update(tokenizer.encode(row[side], add_special_tokens=False).ids)
    odds = lambda i: math.log((counts["chosen"][i] + 0.5) / (counts["rejected"][i] + 0.5))
    for side, sign in (("rejected", -1), ("chosen", 1)):
        columns = collections.defaultdict(list)
        labels = []
        for record in records:
            if record["side"] != side:
                continue
            tokens, groups = record["tokens"], words(record["tokens"])
            own, count = [t["mean"] for t in tokens], [odds(t["id"]) for t in tokens]
            values = {"map": own, "log-odds": count, "map, words": summed(own, groups), "log-odds, words": summed(count, groups)}
            for i, token in enumerate(tokens):
                if token.get("labelled") is None or token["start"] == token["end"]:
                    continue
                labels.append(token["labelled"])
                for name, value in values.items():
                    columns[name].append(sign * value[i])
        print(f"{side}: {len(labels)} tokens of {len(records) // 2} answers, {sum(labels) / len(labels):.3f} inside")
        for name, scores in columns.items():
            print(f"  {name:28} {auc(scores, labels):.3f}")
        for words_too in ("", ", words"):
            own, count = columns["map" + words_too], columns["log-odds" + words_too]
            a, b = statistics.pstdev(own), statistics.pstdev(count)
            for weight in (1, 2, 4):
                both = [x / a + weight * y / b for x, y in zip(own, count)]
                print(f"  map + {weight} x log-odds{words_too:8}   {auc(both, labels):.3f}")


main()
