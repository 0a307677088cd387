"""Block masks: flex and torch's create_block_mask on this machine's CPU, in one run, with ratios.

    cargo build --release
    pip install torch            # the CPU build is enough; without torch only flex is measured
    python benches/peers_masks.py [--seq-lens 2048,8192] [--no-compile]

torch evaluates the mask at every pair of a query and a key, so that its time and memory grow with the square of the length.
Medians; block 128; the masks are those of `flex mask list`.
"""
import argparse
import json
import math
import pathlib
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CASES = ["causal", "sliding_window", "prefix_lm", "document", "document_causal", "global_sliding", "natten", "block_diffusion"]


def document_ids(length):
    """12 documents whose lengths are as 1 to 12, mixed, as the library's."""
    until, ids = 0, []
    for number, part in enumerate([5, 1, 9, 3, 12, 7, 2, 10, 4, 8, 6, 11]):
        until += part
        ids += [number] * (until * length // 78 - len(ids))
    return ids


def torch_masks(torch, length):
    """The library's masks as torch writes them."""
    window, prefix = max(length // 8, 1), max(length // 4, 1)
    near, first = max(length // 16, 1), max(length // 32, 1)
    doc = torch.tensor(document_ids(length))
    half, block = max(length // 2, 1), max(min(length // 16, 32), 1)
    side = math.isqrt(length)
    height, kernel = -(-length // side), 13 if side >= 13 else side - (side + 1) % 2
    reach = kernel // 2

    def natten(b, h, q, kv):
        x = (q % side).clamp(reach, side - 1 - reach)
        y = (q // side).clamp(reach, height - 1 - reach)
        return ((x - kv % side).abs() <= reach) & ((y - kv // side).abs() <= reach)

    def block_diffusion(b, h, q, kv):
        q_clean, kv_clean = q >= half, kv >= half
        q_block = torch.where(q_clean, q - half, q) // block
        kv_block = torch.where(kv_clean, kv - half, kv) // block
        return (q_block == kv_block) & (q_clean == kv_clean) | kv_clean & (q_block > kv_block)

    return {
        "causal": lambda b, h, q, kv: q >= kv,
        "sliding_window": lambda b, h, q, kv: (q >= kv) & (q - kv <= window),
        "prefix_lm": lambda b, h, q, kv: (kv < prefix) | (q >= kv),
        "document": lambda b, h, q, kv: doc[q] == doc[kv],
        "document_causal": lambda b, h, q, kv: (doc[q] == doc[kv]) & (q >= kv),
        "natten": natten,
        "block_diffusion": block_diffusion,
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
        masks = torch_masks(torch, length) if torch else {}
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
