"""flex and torch's attention on one GPU, in one run: TFLOP/s over unmasked pairs, and ratios to the best peer.

    cargo build --release
    python benches/peers.py [--shapes main,d64,d256,gqa,short,long] [--cases dense,causal] [--budget SECONDS]

Peers: flex_attention compiled by torch (Triton), scaled_dot_product_attention by cuDNN and by FlashAttention-2, and
FlashAttention-3 where the package fa3-fwd can be imported. Without torch only flex is measured. Every case runs flex and
its peers one after the other, so that the clocks of the card are about the same for all. Medians of CUDA-event timings,
the L2 cache overwritten before each call.
"""
import argparse
import dataclasses
import json
import math
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
WITHOUT_MODS = ("dense", "causal")
MAIN_CASES = (
    *WITHOUT_MODS,
    *("sliding1024", "prefix_lm", "document12", "doc_causal12"),
    *("alibi_causal", "softcap20_causal", "relpos_dense"),
)


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of one problem, and the cases that are measured on it."""

    batch: int
    heads: int
    kv_heads: int
    seq_len: int
    head_dim: int
    cases: tuple[str, ...]

    def __str__(self):
        return f"B{self.batch}_H{self.heads}_{self.kv_heads}_S{self.seq_len}_D{self.head_dim}"


SHAPES = {
    "main": Shape(2, 16, 16, 8192, 128, MAIN_CASES),
    "d64": Shape(2, 32, 32, 8192, 64, (*WITHOUT_MODS, "alibi_causal", "softcap20_causal", "doc_causal12")),
    "d256": Shape(2, 8, 8, 8192, 256, WITHOUT_MODS),
    "gqa": Shape(2, 32, 8, 8192, 128, ("causal",)),
    "short": Shape(16, 16, 16, 1024, 128, WITHOUT_MODS),
    "long": Shape(1, 16, 16, 16384, 128, (*WITHOUT_MODS, "natten13")),
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flex", type=pathlib.Path, default=ROOT / "target/release/flex", help="the program")
    parser.add_argument("--kernel", help="the kernel that flex is to take (portable or sm90); its own choice otherwise")
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--cases", help="only these, separated by commas")
    parser.add_argument("--budget", type=float, default=480, help="seconds after which no new case is begun")
    parser.add_argument("--json", type=pathlib.Path, help="also write one JSON line a measurement to this file")
    args = parser.parse_args()
    unknown = set(args.shapes.split(",")) - SHAPES.keys()
    if unknown:
        parser.error(f"no such shapes: {', '.join(sorted(unknown))} (there are {', '.join(SHAPES)})")
    if not args.flex.exists():
        parser.error(f"{args.flex} is not there; `cargo build --release` makes it")
    return args


class Flex:
    """Our program, a process a case."""

    name = "flex"

    def __init__(self, args):
        self.program, self.kernel = args.flex, args.kernel

    def measure(self, shape, case):
        command = [self.program, "bench", "--backend", "cuda", "--json", "--dtype", "bf16", "--case", case]
        command += ["--batch", shape.batch, "--heads", shape.heads, "--kv-heads", shape.kv_heads]
        command += ["--seq-len", shape.seq_len, "--head-dim", shape.head_dim]
        if self.kernel:
            command += ["--kernel", self.kernel]
        result = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        if result.returncode:
            sys.exit(f"{' '.join(map(str, command))}\n{result.stderr}")
        return json.loads(result.stdout)["ms"]


class Mods:
    """The cases as torch writes them."""

    def __init__(self, torch, shape):
        self.torch, self.shape = torch, shape

    def document_ids(self):
        """12 documents whose lengths have the proportions (5·i mod 12) + 1, as `flex bench` cuts them."""
        weights = [5 * i % 12 + 1 for i in range(12)]
        starts = [self.shape.seq_len * sum(weights[: i + 1]) // sum(weights) for i in range(11)]
        tokens = self.torch.arange(self.shape.seq_len)
        return self.torch.bucketize(tokens, self.torch.tensor(starts), right=True).int().cuda()

    def mask(self, case):
        seq_len = self.shape.seq_len
        if case in ("dense", "relpos_dense"):
            return None
        if case == "sliding1024":
            return lambda b, h, q, kv: (q >= kv) & (q - kv <= 1024)
        if case == "prefix_lm":
            return lambda b, h, q, kv: (kv < seq_len // 4) | (q >= kv)
        if case in ("document12", "doc_causal12"):
            ids = self.document_ids()
            if case == "document12":
                return lambda b, h, q, kv: ids[q] == ids[kv]
            return lambda b, h, q, kv: (ids[q] == ids[kv]) & (q >= kv)
        if case == "natten13":
            width, reach = math.isqrt(seq_len), 13 // 2

            def natten(b, h, q, kv):
                row = (q // width).clamp(reach, width - 1 - reach) - kv // width
                column = (q % width).clamp(reach, width - 1 - reach) - kv % width
                return (row.abs() <= reach) & (column.abs() <= reach)

            return natten
        return lambda b, h, q, kv: q >= kv

    def score(self, case):
        torch, heads, seq_len = self.torch, self.shape.heads, self.shape.seq_len
        if case == "alibi_causal":
            slopes = 2.0 ** (-8.0 * torch.arange(1, heads + 1, device="cuda") / heads)
            return lambda score, b, h, q, kv: score + slopes[h] * (kv - q)
        if case == "softcap20_causal":
            return lambda score, b, h, q, kv: 20 * torch.tanh(score / 20)
        if case == "relpos_dense":
            table = torch.randn(2 * seq_len, device="cuda")
            return lambda score, b, h, q, kv: score + table[q - kv + seq_len]
        return None


class Torch:
    """The peers. `measure` gives the milliseconds of each that has the case."""

    names = ("triton_flex", "cudnn", "fa2", "fa3")

    def __init__(self):
        import torch
        import triton.testing
        from torch.nn import attention
        from torch.nn.attention import flex_attention

        self.torch, self.bench, self.attention, self.flex = torch, triton.testing.do_bench, attention, flex_attention
        # Otherwise torch gives up compiling after a few shapes and falls back to a slow path.
        torch._dynamo.config.recompile_limit = 256
        try:
            import fa3_fwd_interface as fa3
        except ImportError:
            fa3 = None
        self.fa3 = fa3

    def gemm_tflops(self):
        """What a plain bf16 product of 8192³ reaches: the state of the card."""
        a, b = (self.torch.randn(8192, 8192, device="cuda", dtype=self.torch.bfloat16) for _ in range(2))
        return 2 * 8192**3 / self.median_ms(lambda: a @ b) / 1e9

    def median_ms(self, call):
        return self.bench(call, warmup=15, rep=100, return_mode="median")

    def measure(self, shape, case):
        torch, grouped = self.torch, shape.heads != shape.kv_heads
        sizes = [(shape.batch, heads, shape.seq_len, shape.head_dim) for heads in (shape.heads, *[shape.kv_heads] * 2)]
        query, key, value = (torch.randn(size, device="cuda", dtype=torch.bfloat16) for size in sizes)
        calls = {"triton_flex": lambda: self.triton_flex(shape, case, query, key, value, grouped)}
        if case in WITHOUT_MODS:
            backends = self.attention.SDPBackend
            for name, backend in (("cudnn", backends.CUDNN_ATTENTION), ("fa2", backends.FLASH_ATTENTION)):
                calls[name] = lambda b=backend: self.sdpa(b, query, key, value, case == "causal", grouped)
            if self.fa3:
                calls["fa3"] = lambda: self.fa3_forward(query, key, value, case == "causal")
        times = {}
        for name, call in calls.items():
            try:
                times[name] = call()
            except Exception as error:  # a case that a peer cannot do is a result, too
                print(f"{name}, {case} {shape}: {type(error).__name__}: {str(error)[:200]}", file=sys.stderr)
        return times

    def triton_flex(self, shape, case, query, key, value, grouped):
        self.torch._dynamo.reset()
        mods, length = Mods(self.torch, shape), shape.seq_len
        mask = mods.mask(case)
        block_mask = self.flex.create_block_mask(mask, None, None, length, length, device="cuda") if mask else None
        compiled = self.torch.compile(self.flex.flex_attention, dynamic=False)
        options = dict(score_mod=mods.score(case), block_mask=block_mask, enable_gqa=grouped)
        return self.median_ms(lambda: compiled(query, key, value, **options))

    def sdpa(self, backend, query, key, value, causal, grouped):
        attend = self.torch.nn.functional.scaled_dot_product_attention
        with self.attention.sdpa_kernel(backend):
            return self.median_ms(lambda: attend(query, key, value, is_causal=causal, enable_gqa=grouped))

    def fa3_forward(self, query, key, value, causal):
        query, key, value = (tensor.transpose(1, 2).contiguous() for tensor in (query, key, value))
        return self.median_ms(lambda: self.fa3.flash_attn_func(query, key, value, causal=causal))


def unmasked_pairs(shape, case):
    """Pairs of one head that the case keeps, as `flex bench` counts them."""
    length = shape.seq_len
    if case in ("dense", "relpos_dense"):
        return length * length
    if case == "sliding1024":
        return sum(min(q, 1024) + 1 for q in range(length))
    if case == "prefix_lm":
        return sum(max(q + 1, length // 4) for q in range(length))
    if case in ("document12", "doc_causal12"):
        weights = [5 * i % 12 + 1 for i in range(12)]
        cuts = [0, *(length * sum(weights[: i + 1]) // sum(weights) for i in range(12))]
        lengths = [end - start for start, end in zip(cuts, cuts[1:])]
        return sum(n * n if case == "document12" else n * (n + 1) // 2 for n in lengths)
    if case == "natten13":
        return length * 13 * 13
    return length * (length + 1) // 2


def tflops(shape, case, ms):
    pairs = shape.batch * shape.heads * unmasked_pairs(shape, case)
    return 4 * shape.head_dim * pairs / ms / 1e9


def main():
    args = arguments()
    started = time.monotonic()
    flex = Flex(args)
    try:
        peers = Torch()
    except ImportError as error:
        print(f"only flex is measured: {error}")
        peers = None
    if peers:
        print(f"{peers.torch.cuda.get_device_name()}, torch {peers.torch.__version__}, ", end="")
        print(f"bf16 product of 8192³: {peers.gemm_tflops():.0f} TFLOP/s, FA3 {'measured' if peers.fa3 else 'not there'}")
    columns = ("flex", *Torch.names)
    print(f"{'shape':24} {'case':17}" + "".join(f"{name:>12}" for name in columns) + f"{'/ triton':>10}{'/ best':>8}")
    lines = []
    only = args.cases.split(",") if args.cases else None
    for shape in (SHAPES[name] for name in args.shapes.split(",")):
        for case in shape.cases:
            if only and case not in only:
                continue
            if time.monotonic() - started > args.budget:
                print(f"{shape!s:24} {case:17} not measured: the budget of {args.budget:.0f} s is spent")
                continue
            times = {"flex": flex.measure(shape, case)} | (peers.measure(shape, case) if peers else {})
            rates = {name: tflops(shape, case, ms) for name, ms in times.items()}
            row = "".join(f"{rates[name]:12.1f}" if name in rates else f"{'-':>12}" for name in columns)
            best = max((rate for name, rate in rates.items() if name != "flex"), default=None)
            ratios = [rates.get("triton_flex"), best]
            row += "".join(
                f"{rates['flex'] / peer:{width}.2f}" if peer else f"{'-':>{width}}" for peer, width in zip(ratios, (10, 8))
            )
            print(f"{shape!s:24} {case:17}{row}", flush=True)
            for name, ms in times.items():
                line = dict(peer=name, shape=str(shape), case=case, ms=round(ms, 4), tflops=round(rates[name], 1))
                lines.append(json.dumps(line))
    if args.json:
        args.json.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
