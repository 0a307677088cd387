"""flex and torch on this machine's CPU, in one run: times, ratios, errors, and fractions of what the machine can do.

    cargo build --release
    pip install torch numpy      # the CPU build is enough; without torch only flex is measured
    python benches/peers_cpu.py [--shapes 2048x64] [--cases causal,doc_causal12] [--dtypes bf16] [--budget 60]

Peers: scaled_dot_product_attention (dense and causal) and flex_attention under torch.compile (every case; compiling takes
5 to 30 seconds each and a C++ compiler). All get the same inputs. GFLOP/s count unmasked pairs only, times are medians.
The peak is that of flex's own micro-kernel, measured right before and after. `decode` is one query of 32 heads over
32768 keys of 8: there, GB/s of keys and values, beside the fastest of a dozen loops that read the same memory, of one
layer and of several in turns. torch's figures are of one layer.

Errors are ‖out - reference‖ / ‖reference‖ over the same sample of rows, the reference being float64.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CASES = ["dense", "causal", "sliding1024", "doc_causal12", "alibi_causal", "softcap20_causal"]
SHAPES = "2048x64,2048x128,128x64,16384x64"
HEADS = 8
DECODE = {"heads": 32, "kv_heads": 8, "seq_len": 32768, "head_dim": 128}
# Keys and values of one layer stay in a large last cache; those of so many, visited in turns, do not.
DECODE_LAYERS = [1, 12]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--shapes", default=SHAPES, help=f"lengths and head dims ({SHAPES})")
    parser.add_argument("--cases", default=",".join([*CASES, "decode"]), help="of %(default)s")
    parser.add_argument("--dtypes", default="f32,bf16")
    parser.add_argument("--no-compile", action="store_true", help="leave torch's compiled flex_attention out")
    parser.add_argument("--budget", type=float, default=float("inf"), metavar="SECONDS",
                        help="measure nothing of torch any more after so long")
    parser.add_argument("--flex", default=ROOT / "target/release/flex", help="the program (%(default)s)")
    return parser.parse_args()


def flex(args, cases, dtype, heads, kv_heads, seq_len, head_dim, layers=1):
    """One measured case after the other, as `flex bench` reports them."""
    command = [args.flex, "bench", "--backend", "cpu", "--json", "--case", ",".join(cases), "--heads", heads]
    command += ["--kv-heads", kv_heads, "--seq-len", seq_len, "--head-dim", head_dim]
    command += ["--dtype", dtype, "--threads", args.threads, "--layers", layers]
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if result.returncode:
        sys.exit(result.stderr)
    return [json.loads(line) for line in result.stdout.splitlines()]


def normal_numbers(seed, count):
    """The numbers of `flex bench`: SplitMix64 in pairs through the transform of Box and Muller."""
    import numpy as np

    pairs = (count + 1) // 2
    with np.errstate(over="ignore"):
        x = np.uint64(seed) + np.uint64(0x9E3779B97F4A7C15) * np.arange(1, 2 * pairs + 1, dtype=np.uint64)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    uniform = ((x ^ (x >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) / 2.0**53
    radius, angle = np.sqrt(-2 * np.log(1 - uniform[0::2])), 2 * np.pi * uniform[1::2]
    both = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return both.reshape(-1)[:count].astype(np.float32)


def document_ids(length, documents=12):
    """12 documents in the proportions of `flex bench`."""
    weights = [5 * i % documents + 1 for i in range(documents)]
    starts = {length * sum(weights[: i + 1]) // sum(weights) for i in range(documents - 1)}
    ids, document = [], 0
    for token in range(length):
        document += token in starts
        ids.append(document)
    return ids


def limit_onednn():
    """Where oneDNN's own tile products (AMX) crash, as they do under some hypervisors, torch has to do without them."""
    product = "import torch; x = torch.ones(64, 64, dtype=torch.bfloat16); x @ x"
    probe = subprocess.run([sys.executable, "-c", product], capture_output=True)
    if probe.returncode < 0:
        os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX512_CORE_FP16"
        print(f"torch runs without tile products: they end with signal {-probe.returncode} here")


class Torch:
    """The peers on the inputs of `flex bench`. Methods give milliseconds and the error."""

    def __init__(self, args, dtype, heads, kv_heads, seq_len, head_dim, queries=None):
        import torch

        self.torch, self.heads, self.length = torch, heads, seq_len
        torch.set_num_threads(args.threads)
        kind = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[dtype]

        def tensor(seed, of_heads):
            numbers = normal_numbers(seed, of_heads * seq_len * head_dim)
            return torch.from_numpy(numbers).reshape(1, of_heads, seq_len, head_dim).to(kind)

        self.query, self.key, self.value = tensor(1, heads), tensor(2, kv_heads), tensor(3, kv_heads)
        self.query = self.query[:, :, : queries or seq_len].contiguous()
        self.documents = torch.tensor(document_ids(seq_len), dtype=torch.int32)
        self.slopes = 2.0 ** (-8.0 * torch.arange(1, heads + 1) / heads)
        self.references = {}

    def mask(self, case):
        documents = self.documents
        if case in ("dense", "decode"):
            return None
        return {
            "sliding1024": lambda b, h, q, kv: (q >= kv) & (q - kv <= 1024),
            "doc_causal12": lambda b, h, q, kv: (documents[q] == documents[kv]) & (q >= kv),
        }.get(case, lambda b, h, q, kv: q >= kv)

    def score(self, case):
        torch, slopes = self.torch, self.slopes
        return {
            "alibi_causal": lambda s, b, h, q, kv: s + slopes[h] * (kv - q),
            "softcap20_causal": lambda s, b, h, q, kv: 20 * torch.tanh(s / 20),
        }.get(case)

    def sample(self):
        """The rows that `flex bench` looks at."""
        queries = self.query.shape[2]
        rows = self.heads * queries
        count = min(max((1 << 21) // self.length, 4), 128, rows)
        return [divmod(i * (rows - 1) // max(count - 1, 1), queries) for i in range(count)]

    def reference(self, case):
        """The sampled rows in float64."""
        torch, groups = self.torch, self.heads // self.key.shape[1]
        mask, score, kv = self.mask(case), self.score(case), torch.arange(self.length)
        found = []
        for h, q in self.sample():
            key, value = self.key[0, h // groups].double(), self.value[0, h // groups].double()
            s = key @ self.query[0, h, q].double() / self.query.shape[3] ** 0.5
            at = 0, torch.tensor(h), torch.tensor(q), kv
            if score:
                s = score(s, *at)
            if mask:
                s = s.masked_fill(~mask(*at), float("-inf"))
            found.append(torch.softmax(s, 0) @ value)
        return torch.stack(found)

    def error(self, case, out):
        if case not in self.references:
            self.references[case] = self.reference(case)
        expected = self.references[case]
        got = self.torch.stack([out[0, h, q].double() for h, q in self.sample()])
        return ((got - expected).norm() / expected.norm()).item()

    def timed(self, case, call):
        """The median of up to nine calls, within about five seconds."""
        with self.torch.no_grad():
            out, times = call(), []
            while len(times) < 9 and (len(times) < 2 or sum(times) < 5e3):
                start = time.perf_counter()
                call()
                times.append((time.perf_counter() - start) * 1e3)
        return sorted(times)[len(times) // 2], self.error(case, out)

    def sdpa(self, case):
        if case not in ("dense", "causal", "decode"):
            return None
        attention = self.torch.nn.functional.scaled_dot_product_attention
        grouped = self.heads != self.key.shape[1]
        inputs = self.query, self.key, self.value
        return self.timed(case, lambda: attention(*inputs, is_causal=case == "causal", enable_gqa=grouped))

    def flex(self, case):
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        torch, length, mask, score = self.torch, self.length, self.mask(case), self.score(case)
        torch._dynamo.reset()
        compiled = torch.compile(flex_attention)
        block_mask = create_block_mask(mask, None, None, length, length, device="cpu") if mask else None
        options = {"score_mod": score, "block_mask": block_mask, "enable_gqa": self.heads != self.key.shape[1]}
        return self.timed(case, lambda: compiled(self.query, self.key, self.value, **options))


def attempt(args, name, measure, case):
    """What a peer measures; None where it has no such case, fails or comes too late."""
    if time.monotonic() - START > args.budget:
        return None
    try:
        return measure(case)
    except Exception as error:  # a case that this version of torch cannot compile is a result, too
        print(f"  torch {name}, {case}: {type(error).__name__}: {str(error).splitlines()[0][:120]}")
        return None


def peers(args, *shape, **options):
    try:
        return Torch(args, *shape, **options) if time.monotonic() - START <= args.budget else None
    except ImportError:
        return None


def of_peer(measured, ours):
    """Time, ratio and error of a peer."""
    return f"{measured[0]:9.2f} {measured[0] / ours:6.2f}x {measured[1]:8.1e}" if measured else f"{'-':>9} {'-':>7} {'-':>8}"


def prefill(args, dtype, seq_len, head_dim, cases):
    shape = dtype, HEADS, HEADS, seq_len, head_dim
    torch = peers(args, *shape)
    for row in flex(args, cases, *shape):
        case, ms = row["case"], row["ms"]
        sdpa = attempt(args, "SDPA", torch.sdpa, case) if torch else None
        compiled = attempt(args, "flex", torch.flex, case) if torch and not args.no_compile else None
        print(
            f"S{seq_len:<5} D{head_dim:<3} {dtype:4} {case:16} {ms:9.2f} {row['gflops']:6.0f} {row['peak_gflops']:6.0f}"
            f" {row['gflops'] / row['peak_gflops']:5.2f} {row['rel_err']:8.1e} |{of_peer(sdpa, ms)} |{of_peer(compiled, ms)}",
            flush=True,
        )


def decode(args, dtype):
    shape = dtype, *DECODE.values()
    torch = peers(args, *shape, queries=1)
    rows = [flex(args, ["decode"], *shape, layers=layers)[0] for layers in DECODE_LAYERS]
    sdpa = attempt(args, "SDPA", torch.sdpa, "decode") if torch else None
    compiled = attempt(args, "flex", torch.flex, "decode") if torch and not args.no_compile else None
    for row in rows:
        reading = row["reading"]
        print(
            f"decode 32/8 heads, 32768 keys, D128, {dtype}, layers: {reading['layers']} ({reading['gigabytes']:.2f} GB):"
            f" {row['ms']:.2f} ms a layer, {reading['gb_per_s']:.1f} GB/s, {reading['fraction']:.2f} of the"
            f" {reading['read_loop_gb_per_s']:.1f} GB/s of the fastest read loop ({reading['read_loop']});"
            f" error {row['rel_err']:.1e}"
        )
    ms, reading = rows[0]["ms"], rows[0]["reading"]
    for name, measured in [("SDPA", sdpa), ("torch flex", compiled)]:
        if measured:
            rate = reading["gb_per_s"] * ms / measured[0]
            print(f"  {name}: {measured[0]:.2f} ms, {rate:.1f} GB/s, {measured[0] / ms:.2f}x; error {measured[1]:.1e}")
    sys.stdout.flush()


def main():
    args = arguments()
    limit_onednn()
    cases = [case for case in args.cases.split(",") if case != "decode"]
    peer = f"{'ms':>9} {'vs flex':>7} {'error':>8}"
    if cases:
        print(f"{'':29} {'flex':36} {'':3}|{'torch SDPA':26} |torch flex_attention, compiled")
        print(f"{'':29} {'ms':>9} GFLOP/s  peak  of it    error |{peer} |{peer}")
        for shape in args.shapes.split(","):
            seq_len, head_dim = map(int, shape.split("x"))
            for dtype in args.dtypes.split(","):
                prefill(args, dtype, seq_len, head_dim, cases)
    if "decode" in args.cases.split(","):
        for dtype in args.dtypes.split(","):
            decode(args, dtype)


START = time.monotonic()

if __name__ == "__main__":
    main()
