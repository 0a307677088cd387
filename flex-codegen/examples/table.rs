//! Compiles the portable kernel without mods for one architecture and prints what it takes.
use flex_codegen::{Arch, KernelSource, KernelSpec, Schedule, Template, nvrtc::Nvrtc};
use flex_core::attention::DType;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let arch: Arch = args[1].parse().unwrap();
    let nvrtc = Nvrtc::get().unwrap();
    for (dtype, d, q, kv, w, b) in [
        (DType::BF16, 128, 128, 64, 4, 2),
        (DType::BF16, 64, 128, 64, 4, 2),
        (DType::BF16, 64, 128, 128, 4, 1),
        (DType::BF16, 128, 64, 64, 4, 2),
        (DType::BF16, 128, 128, 32, 4, 1),
        (DType::BF16, 256, 128, 64, 8, 1),
        (DType::BF16, 192, 128, 64, 8, 1),
        (DType::BF16, 256, 64, 32, 4, 1),
        (DType::F32, 128, 64, 32, 4, 2),
        (DType::F32, 256, 64, 32, 4, 1),
    ] {
        let schedule =
            Schedule { template: Template::ForwardPortable, tile_q: q, tile_kv: kv, warps: w, blocks_per_sm: b };
        for tf32 in [false, true] {
            if tf32 && dtype != DType::F32 {
                continue;
            }
            let mut spec = KernelSpec::new(arch, schedule, dtype, d, d);
            if tf32 {
                spec.matmul = flex_codegen::Matmul::Tf32;
            }
            let source = KernelSource::new(&spec).unwrap();
            match source.compile_with(&nvrtc) {
                Ok(c) => {
                    println!("{}: {} regs, {} spill, {} ms, smem {}, {:?}", source.describe, c.log.registers, c.log.spill_bytes, c.compile_ms, source.smem_bytes, c.log.warnings);
                    std::fs::write(format!("/tmp/k_{dtype}_{d}_{q}_{kv}_{tf32}.cubin"), &c.cubin).unwrap();
                }
                Err(e) => println!("{e}"),
            }
        }
    }
}
