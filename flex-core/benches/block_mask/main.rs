//! Building block masks: proved, evaluated, and by hand.
//!
//! `cargo bench -p flex-core --bench block_mask`; with `FLEX_BENCH_TABLE=1` prints one table instead, of the quickest and
//! the median of many builds, and their work on all cores together.

mod by_hand;
mod masks;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion};
use flex_core::mask::{BlockMask, create_block_mask};
use flex_core::mods::MaskMod;
use masks::{common, square};

fn harder(len: usize) -> Vec<(MaskMod, usize)> {
    let short = len / 8;
    vec![
        (masks::natten(512, 6), 512 * 512),
        (masks::block_diffusion(len as i32 / 2, 32), len),
        (masks::sliding_tiles(48, 4, 1), 48 * 48 * 48),
        (masks::tree(&masks::last_descendants(short as i32)), short),
        (masks::permuted_tiles(&masks::shuffled(short / 128), 128), short),
        (masks::xor_tiles(128, 3), short),
        (masks::unprovable(), short),
    ]
}

/// Milliseconds of work of all threads of this process so far, which other processes do not disturb; 0 where the system
/// does not tell.
fn cpu_ms() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let of_task = |path: std::path::PathBuf| {
        let text = std::fs::read_to_string(path.join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    };
    tasks.filter_map(|task| of_task(task.path())).sum::<f64>() / 1e6
}

/// The quickest and the median of builds over at least half a second, and the work of one.
fn times(mut build: impl FnMut() -> Duration) -> (f64, f64, f64) {
    let mut all = Vec::new();
    build();
    let cpu = cpu_ms();
    let begin = Instant::now();
    while all.len() < 9 || begin.elapsed() < Duration::from_millis(500) {
        all.push(build().as_secs_f64() * 1e3);
        if all.len() > 2 && begin.elapsed() > Duration::from_secs(3) {
            break;
        }
    }
    let work = (cpu_ms() - cpu) / all.len() as f64;
    all.sort_by(f64::total_cmp);
    (all[0], all[all.len() / 2], work)
}

fn print_row(mask: &MaskMod, len: usize) {
    let mut built = None;
    let (least, median, work) = times(|| {
        let begin = Instant::now();
        built = Some(create_block_mask(mask, square(len)).expect("the mask does not fault"));
        begin.elapsed()
    });
    let built: BlockMask = built.expect("built at least once");
    // On two cores that have nothing else to do.
    let rate = built.elements_evaluated() as f64 / (work / 2.0) / 1e6;
    println!(
        "| {} | {} | {least:.3} | {median:.3} | {work:.3} | {} | {:.2} | {} | {} | {} | {rate:.2} |",
        mask.name(),
        len,
        built.bytes(),
        built.sparsity(),
        built.tiles_full(),
        built.tiles_partial(),
        built.elements_evaluated(),
    );
}

fn print_by_hand(name: &str, len: usize, build: impl Fn() -> by_hand::Rows, mask: &MaskMod) {
    let (least, median, work) = times(|| {
        let begin = Instant::now();
        black_box(build());
        begin.elapsed()
    });
    let built = create_block_mask(mask, square(len)).expect("the mask does not fault");
    for (row, expected) in build().into_iter().enumerate() {
        let found = built.row(0, 0, row).iter().map(|run| (run.first(), run.len(), run.kind()));
        assert!(found.eq(expected), "row {row} of {name} by hand differs");
    }
    println!("| {name} by hand | {len} | {least:.3} | {median:.3} | {work:.3} | | | | | | |");
}

fn table() {
    println!(
        "| mask | tokens | least ms | median ms | CPU ms | bytes | sparsity % | full | partial | evaluated | G elements/s |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for len in [1 << 17, 1 << 20] {
        common(len).iter().for_each(|mask| print_row(mask, len));
    }
    print_row(&masks::causal(), 1 << 24);
    let len = 1 << 17;
    harder(len).iter().for_each(|(mask, len)| print_row(mask, *len));
    let (side, half) = (512, len as i32 / 2);
    print_by_hand("natten", 512 * 512, || by_hand::natten(side, 6, 128), &masks::natten(side, 6));
    let diffusion = masks::block_diffusion(half, 32);
    print_by_hand("block_diffusion", len, || by_hand::block_diffusion(half, 32, 128), &diffusion);
}

fn criterion_benches() {
    let mut criterion = Criterion::default().configure_from_args().sample_size(20);
    let mut group = criterion.benchmark_group("create_block_mask");
    for len in [1 << 17, 1 << 20] {
        for mask in common(len) {
            let id = BenchmarkId::new(mask.name(), len);
            group.bench_with_input(id, &mask, |b, mask| b.iter(|| create_block_mask(mask, square(len))));
        }
    }
    for (mask, len) in harder(1 << 17) {
        let id = BenchmarkId::new(mask.name(), len);
        group.bench_with_input(id, &mask, |b, mask| b.iter(|| create_block_mask(mask, square(len))));
    }
    group.bench_function("natten by hand", |b| b.iter(|| by_hand::natten(512, 6, 128)));
    group
        .bench_function("block_diffusion by hand", |b| b.iter(|| by_hand::block_diffusion(1 << 16, 32, 128)));
    group.bench_function("transposed causal 1M", |b| {
        let built = create_block_mask(&masks::causal(), square(1 << 20)).expect("causal does not fault");
        b.iter_batched(
            || built.retile(128).expect("causal does not fault"),
            |built| built.transposed().rows(),
            criterion::BatchSize::LargeInput,
        );
    });
    group.finish();
    criterion.final_summary();
}

fn main() {
    match std::env::var_os("FLEX_BENCH_TABLE") {
        Some(v) if v == "probe" => threads_probe(),
        Some(_) => table(),
        None => criterion_benches(),
    }
}

#[allow(dead_code)]
fn threads_probe() {
    let len = 1 << 17;
    let mask = masks::block_diffusion(len as i32 / 2, 32);
    for threads in [1usize, 2] {
        let mut v = Vec::new();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            for _ in 0..2000 {
                let t = Instant::now();
                black_box(BlockMask::builder(&mask).build(square(len)).unwrap());
                v.push(t.elapsed().as_secs_f64() * 1e6);
            }
        });
        v.sort_by(f64::total_cmp);
        println!("threads {threads}: least {:.1} median {:.1} us", v[0], v[1000]);
    }
    let mut v = Vec::new();
    for _ in 0..2000 {
        let t = Instant::now();
        black_box(BlockMask::builder(&mask).threads(1).build(square(len)).unwrap());
        v.push(t.elapsed().as_secs_f64() * 1e6);
    }
    v.sort_by(f64::total_cmp);
    println!("serial: least {:.1} median {:.1} us", v[0], v[1000]);
}
