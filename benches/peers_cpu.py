"""flex and torch on this machine's CPU, in one run: ratios, and fractions of the micro-kernel's own peak.

    cargo build --release
    pip install torch            # the CPU build is enough; without torch only flex is measured
    python benches/peers_cpu.py [--threads 2] [--seq-len 2048] [--head-dim 64] [--dtypes f32,bf16]

Peers: scaled_dot_product_attention (dense and causal) and flex_attention under torch.compile (every case; compiling
takes 5 to 30 seconds each). GFLOP/s count unmasked pairs only. Medians.
"""
import argparse
import json
import pathlib
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CASES = ["dense", "causal", "sliding1024", "doc_causal12", "alibi_causal", "softcap20_causal"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--seq-len", type=int, default=2048)
    parser.add_argument("--head-dim", type=int, default=64)
    parser.add_argument("--dtypes", default="f32,bf16")
    parser.add_argument("--no-compile", action="store_true", help="leave torch's compiled flex_attention out")
    return parser.parse_args()


def flex(args, case, dtype):
    command = [ROOT / "target/release/flex", "bench", "--backend", "cpu", "--json", "--case", case]
    command += ["--heads", args.heads, "--seq-len", args.seq_len, "--head-dim", args.head_dim]
    command += ["--dtype", dtype, "--threads", args.threads]
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    rows = json.loads(result.stdout)
    row = rows[0] if isinstance(rows, list) else rows
    return row["ms"], row["gflops"]


def median_ms(call, repeats=9):
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    return sorted(times)[repeats // 2]


class Torch:
    """The peers; every method gives milliseconds, or None where the peer does not have the case."""

    def __init__(self, args, dtype):
        import torch

        self.torch, self.args = torch, args
        torch.manual_seed(0)
        torch.set_num_threads(args.threads)
        kind = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[dtype]
        shape = (1, args.heads, args.seq_len, args.head_dim)
        self.query, self.key, self.value = (torch.randn(shape, dtype=kind) for _ in range(3))

    def sdpa(self, case):
        if case not in ("dense", "causal"):
            return None
        attention = self.torch.nn.functional.scaled_dot_product_attention
        with self.torch.no_grad():
            return median_ms(lambda: attention(self.query, self.key, self.value, is_causal=case == "causal"))

    def flex(self, case):
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        torch, length = self.torch, self.args.seq_len
        document = (torch.arange(length) * 12 // length).int()
        slopes = 0.5 ** torch.arange(1, self.args.heads + 1)
        mask = {
            "dense": None,
            "sliding1024": lambda b, h, q, kv: (q >= kv) & (q - kv <= 1024),
            "doc_causal12": lambda b, h, q, kv: (document[q] == document[kv]) & (q >= kv),
        }.get(case, lambda b, h, q, kv: q >= kv)
        score = {
            "alibi_causal": lambda s, b, h, q, kv: s + slopes[h] * (kv - q),
            "softcap20_causal": lambda s, b, h, q, kv: 20 * torch.tanh(s / 20),
        }.get(case)
        torch._dynamo.reset()
        compiled = torch.compile(flex_attention)
        block_mask = create_block_mask(mask, None, None, length, length, device="cpu") if mask else None
        with torch.no_grad():
            return median_ms(
                lambda: compiled(self.query, self.key, self.value, score_mod=score, block_mask=block_mask)
            )


def ratio(peer, ours):
    return f"{peer / ours:6.2f}x" if peer else "      -"


def main():
    args = arguments()
    print(f"{'case':18} {'dtype':5} {'flex ms':>9} {'GFLOP/s':>8} {'vs SDPA':>8} {'vs torch flex':>13}")
    for dtype in args.dtypes.split(","):
        try:
            peers = Torch(args, dtype)
        except ImportError:
            peers = None
        for case in CASES:
            ms, gflops = flex(args, case, dtype)
            sdpa = peers.sdpa(case) if peers else None
            try:
                compiled = peers.flex(case) if peers and not args.no_compile else None
            except Exception as error:  # a case that this version of torch cannot compile is a result, too
                print(f"torch flex_attention, {case} {dtype}: {type(error).__name__}")
                compiled = None
            print(f"{case:18} {dtype:5} {ms:9.2f} {gflops:8.1f}  {ratio(sdpa, ms)}       {ratio(compiled, ms)}")


if __name__ == "__main__":
    main()
