//! The language of attention mods, its analyses, block masks and the CPU backend. Knows no GPU.

pub mod capture;
pub mod ir;
pub mod mods;
