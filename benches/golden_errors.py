"""Errors on the goldens beside PyTorch's own attention in the same dtype, on a GPU.

    FLEX_GOLDEN_ERRORS=errors.jsonl ./run gpu_goldens          # in the packed folder; or the test program itself
    python3 benches/golden_errors.py errors.jsonl

The measure is mean|gold - x| over a golden's output, gold being float64 on the same inputs, as in PyTorch's tests of
flex_attention. Yardsticks:
  sdpa   scaled_dot_product_attention by SDPBackend.MATH, matrices of scores and probabilities in the dtype itself
  sdpa32 the same with PyTorch's default of computing in float32 and rounding the output (masks only)
  eager  flex_attention uncompiled
Score mods are what SDPA has not; there the first two are left out where the mod is not an additive bias. A case passes
where the error is at most 1.1 times that of sdpa, or of eager where there is no sdpa.
"""
import argparse
import importlib
import json
import math
import struct
import sys
import types
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

TYPES = {"BF16": torch.bfloat16, "F32": torch.float32, "I32": torch.int32, "U8": torch.uint8}
DTYPES = {"f16": torch.float16, "bf16": torch.bfloat16}
ALLOWED = 1.1


def arguments():
    root = Path(__file__).resolve().parent.parent
    goldens = root / "tests" / "goldens" if (root / "tests" / "goldens").exists() else root / "goldens"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("errors", help="what gpu_goldens wrote")
    parser.add_argument("--goldens", type=Path, default=goldens)
    parser.add_argument("--json", help="write every row there, a line each")
    return parser.parse_args()


def read(path):
    """The tensors and the metadata of a safetensors file."""
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        raw = bytearray(data[8 + size + start : 8 + size + end])
        tensors[name] = torch.frombuffer(raw, dtype=TYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors, metadata


def cases(folder):
    """The cases of cases.py by name: their mods as functions."""
    found = {}
    module = types.ModuleType("generate")
    module.case = lambda name, **options: found.__setitem__(name, options)
    sys.modules["generate"] = module
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    importlib.import_module("cases")
    return found


def bound(mod, captures):
    """The mod with its captures, in PyTorch's signature."""
    wanted = mod.__code__.co_varnames[: mod.__code__.co_argcount]
    values = {name: value for name, value in captures.items() if name in wanted}
    return lambda *place: mod(*place, **values)


def yardsticks(tensors, metadata, mods, dtype):
    """mean|gold - x| of each way to compute attention in PyTorch."""
    q, k, v = (tensors[name].cuda().to(dtype) for name in "qkv")
    gold = tensors["out"].cuda().double()
    scale = float(metadata.get("scale", 1 / math.sqrt(q.shape[-1])))
    captures = {name[4:]: x.cuda() for name, x in tensors.items() if name.startswith("cap.")}
    captures = {name: x.long() if x.dtype == torch.int32 else x for name, x in captures.items()}
    groups = q.shape[1] // k.shape[1]
    batch, heads, q_len, kv_len = q.shape[0], q.shape[1], q.shape[2], k.shape[2]
    kept = tensors["mask"].cuda().bool() if "mask" in tensors else None
    if kept is None and "doc" in captures:  # the packed golden stores no mask
        kept = (captures["doc"][:, None] == captures["doc"][None, :])[None, None]
    score = bound(mods["score"], captures) if mods.get("score") else None

    def error(out):
        return (gold - out.double().nan_to_num()).abs().mean().item()

    found = {}
    if score is None:
        wide = [x.repeat_interleave(groups, 1) for x in (k, v)]
        mask = None if kept is None else kept.expand(batch, heads, q_len, kv_len)
        for name, in_dtype in [("sdpa", True), ("sdpa32", False)]:
            torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(in_dtype)
            with sdpa_kernel(SDPBackend.MATH):
                found[name] = error(F.scaled_dot_product_attention(q, *wide, attn_mask=mask, scale=scale))
    block_mask = None
    if kept is not None:
        dense = kept.expand(batch, heads, q_len, kv_len)
        block_mask = create_block_mask(lambda b, h, i, j: dense[b, h, i, j], batch, heads, q_len, kv_len, device="cuda")
    out = flex_attention(q, k, v, score_mod=score, block_mask=block_mask, scale=scale, enable_gqa=groups > 1)
    found["eager"] = error(out)
    return found


def main():
    args = arguments()
    warnings.filterwarnings("ignore")
    known = cases(args.goldens)
    ours = [json.loads(line) for line in Path(args.errors).read_text().splitlines()]
    ours = [row for row in ours if row["dtype"] in DTYPES]
    rows, loaded = [], {}
    for row in ours:
        key = row["case"], row["dtype"]
        if key not in loaded:
            tensors, metadata = read(args.goldens / f"{row['case']}.safetensors")
            loaded[key] = yardsticks(tensors, metadata, known.get(row["case"], {}), DTYPES[row["dtype"]])
        rows.append({**row, **loaded[key]})

    def ratio(row, name):
        if name not in row:
            return math.nan
        # Where PyTorch is exact (nothing is kept, or one key), so must we be.
        return row["mean_error"] / row[name] if row[name] > 0 else (1.0 if row["mean_error"] < 1e-9 else math.inf)

    def judged(row):
        return ratio(row, "sdpa" if "sdpa" in row else "eager")

    failed = [row for row in rows if not judged(row) <= ALLOWED]
    print(f"{'case':24s} {'dtype':5s} {'kernel':16s} {'ours':>9s} {'/sdpa':>6s} {'/sdpa32':>7s} {'/eager':>6s}")
    for row in sorted(rows, key=judged, reverse=True)[:20]:
        print(
            f"{row['case']:24s} {row['dtype']:5s} {row['kernel']:16s} {row['mean_error']:9.2e} {ratio(row, 'sdpa'):6.2f}"
            f" {ratio(row, 'sdpa32'):7.2f} {ratio(row, 'eager'):6.2f}"
        )
    for kernel in sorted({row["kernel"] for row in rows}):
        for dtype in DTYPES:
            own = [row for row in rows if (row["kernel"], row["dtype"]) == (kernel, dtype)]
            for name in ("sdpa", "sdpa32", "eager"):
                ratios = sorted(x for x in (ratio(row, name) for row in own) if not math.isnan(x))
                if ratios:
                    within = sum(x <= ALLOWED for x in ratios)
                    print(
                        f"{kernel} {dtype} / {name}: {within} of {len(ratios)} within {ALLOWED},"
                        f" median {ratios[len(ratios) // 2]:.3f}, worst {ratios[-1]:.3f}"
                    )
    if args.json:
        Path(args.json).write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(f"{len(rows) - len(failed)} of {len(rows)} pass" + "".join(f"\n  over: {r['case']} {r['dtype']} {r['kernel']}" for r in failed))
    sys.exit(1 if failed or not rows else 0)


if __name__ == "__main__":
    main()
