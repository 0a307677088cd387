"""Block masks: flex and torch's create_block_mask on this machine's CPU, in one run, with ratios.

    cargo build --release
    pip install torch            # the CPU build is enough; without torch only flex is measured
    python benches/peers_masks.py [--seq-lens 2048,8192] [--no-compile]

torch evaluates the mask at every pair of a query and a key, so that its time and memory grow with the square of the length.
Medians; block 128; the masks are those of `flex mask list`.
"""
import argparse
import json
import pathlib
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CASES = ["causal", "sliding_window", "prefix_lm", "global_sliding"]


def torch_masks(length):
    """The library's masks as torch writes them."""
    window, prefix = max(length // 8, 1), max(length // 4, 1)
    near, first = max(length // 16, 1), max(length // 32, 1)
    return {
        "causal": lambda b, h, q, kv: q >= kv,
        "sliding_window": lambda b, h, q, kv: (q >= kv) & (q - kv <= window),
        "prefix_lm": lambda b, h, q, kv: (kv < prefix) | (q >= kv),
        "global_sliding": lambda b, h, q, kv: ((q - kv).abs() <= near) | (q < first) | (kv < first),
    }


def flex(case, length):
    command = [ROOT / "target/release/flex", "mask", case, "--seq-len", length, "--json"]
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    return json.loads(result.stdout)


def median_ms(call, times=5):
    call()
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        taken.append((time.perf_counter() - start) * 1e3)
    return sorted(taken)[times // 2]


def torch_ms(torch, create_block_mask, mask, length, compiled):
    try:
        torch._dynamo.reset()
        build = torch.compile(create_block_mask) if compiled else create_block_mask
        return median_ms(lambda: build(mask, None, None, length, length, device="cpu"))
    except Exception as error:  # what fails differs from version to version, and is told
        print(f"  torch {'compiled' if compiled else 'eager'}: {type(error).__name__}: {error}"[:160])
        return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seq-lens", default="2048,8192")
    parser.add_argument("--no-compile", action="store_true", help="leave torch's compiled builder out")
    args = parser.parse_args()
    try:
        import torch
        from torch.nn.attention.flex_attention import create_block_mask
    except ImportError as error:
        torch = create_block_mask = None
        print(f"torch is missing ({error}): only flex is measured. `pip install torch` to compare.")
    print(f"{'mask':16} {'tokens':>8} {'flex ms':>9} {'eager ms':>10} {'ratio':>8} {'compiled ms':>12} {'ratio':>8}")
    for length in map(int, args.seq_lens.split(",")):
        masks = torch_masks(length)
        for case in CASES:
            ours = flex(case, length)["build_ms"]
            row = f"{case:16} {length:8} {ours:9.3f}"
            for width, compiled in [(10, False), (12, True)]:
                peer = None
                if torch and not (compiled and args.no_compile):
                    peer = torch_ms(torch, create_block_mask, masks[case], length, compiled)
                row += f" {peer:{width}.1f} {peer / ours:7.0f}×" if peer else f" {'-':>{width}} {'-':>8}"
            print(row, flush=True)


if __name__ == "__main__":
    main()
