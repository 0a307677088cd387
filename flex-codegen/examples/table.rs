//! Compiles kernels and prints what they take.
#[path = "../tests/common/mod.rs"]
mod common;
use flex_codegen::{Arch, Guards, KernelSource, KernelSpec, Schedule, Template, nvrtc::Nvrtc};
use flex_core::attention::DType;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let arch: Arch = args[1].parse().unwrap();
    let nvrtc = Nvrtc::get().unwrap();
    let schedule = |q, kv, w, b| Schedule { template: Template::ForwardPortable, tile_q: q, tile_kv: kv, warps: w, blocks_per_sm: b };
    let mut specs = Vec::new();
    for (dtype, d, q, kv, w, b) in [
        (DType::BF16, 128, 128, 32, 4, 2),(DType::BF16, 128, 64, 64, 4, 2),
        (DType::BF16, 64, 128, 64, 4, 2),
        (DType::BF16, 256, 128, 64, 8, 1),
        (DType::F32, 128, 64, 32, 4, 2),
    ] {
        let base = KernelSpec::new(arch, schedule(q, kv, w, b), dtype, d, d);
        specs.push((base.clone(), "none"));
        for guards in [Guards::Guarded, Guards::Proved] {
            for (name, _) in common::MASKS {
                specs.push((KernelSpec { mask: Some(common::expr(name)), guards, ..base.clone() }, name));
            }
            for (name, _) in common::SCORES {
                specs.push((KernelSpec { mask: Some(common::expr("causal")), score: Some(common::expr(name)), guards, ..base.clone() }, name));
            }
        }
    }
    for (spec, name) in specs {
        let filter = args.get(2).map(String::as_str).unwrap_or("");
        if !format!("{} {} {name}", spec.dtype, spec.head_dim).contains(filter) {
            continue;
        }
        let source = KernelSource::new(&spec).unwrap();
        if args.len() > 3 {
            println!("{}", source.text);
        }
        match source.compile_with(&nvrtc) {
            Ok(c) => println!(
                "{name} {}: {} regs, {} spill, {} ms, {:?}",
                source.describe, c.log.registers, c.log.spill_bytes, c.compile_ms, c.log.warnings
            ),
            Err(e) => println!("{name}: {e}"),
        }
    }
}
