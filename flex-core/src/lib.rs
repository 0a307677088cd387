//! The language of attention mods, its analyses, block masks and the CPU backend. Knows no GPU.

pub mod analysis;
pub mod attention;
pub mod capture;
pub mod cpu;
pub mod ir;
pub mod isa;
pub mod mask;
pub mod mods;
pub mod reference;
pub mod rows;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod testing;
