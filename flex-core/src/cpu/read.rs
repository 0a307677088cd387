//! What memory gives on this machine, to compare decoding with.

use std::fmt;

use super::CpuOptions;
use super::kernel::{Prefetch, Reader};
use super::schedule;
use crate::isa::{Available, InstructionSet};

/// A way of reading memory that does nothing else: some streams side by side in each thread, with or without asking for
/// cache lines ahead. Which one is fastest depends on the machine and on what else it does; the fastest one is what
/// decoding, which has to read all keys and values, is measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLoop {
    streams: usize,
    prefetch: Prefetch,
}

/// What a thread reads at a time.
const CHUNK_BYTES: usize = 1 << 20;

impl ReadLoop {
    /// All of them: 1, 2, 4 and 8 streams, each with hardware prefetching alone, with prefetches into the second cache and
    /// with non-temporal ones.
    pub fn all() -> impl Iterator<Item = Self> {
        let prefetches = [Prefetch::Hardware, Prefetch::SecondCache, Prefetch::NonTemporal];
        [1, 2, 4, 8]
            .into_iter()
            .flat_map(move |streams| prefetches.map(|prefetch| Self { streams, prefetch }))
    }

    /// Reads all of `memory` once, but for a few lines at the ends of stretches of a MiB, with the threads and the
    /// instruction set that attention would use.
    pub fn run(self, options: &CpuOptions, memory: &[&[u8]]) {
        let isa = Available::new(options.instruction_set.unwrap_or_else(InstructionSet::current));
        let reader = Reader::new(isa);
        let chunks: Vec<&[u8]> = memory.iter().flat_map(|memory| memory.chunks(CHUNK_BYTES)).collect();
        schedule::run(options.threads, chunks.len(), |i| reader.read(chunks[i], self.streams, self.prefetch));
    }
}

impl fmt::Display for ReadLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefetch = match self.prefetch {
            Prefetch::Hardware => "no prefetch",
            Prefetch::SecondCache => "prefetch",
            Prefetch::NonTemporal => "non-temporal prefetch",
        };
        write!(f, "{} stream{}, {prefetch}", self.streams, if self.streams == 1 { "" } else { "s" })
    }
}
