//! The instructions of the tile unit (AMX).
//!
//! There are eight registers of up to 16 rows of 64 bytes. They are configured when a session begins and released when it
//! ends, so that nothing outlives a call. A thread has one session at a time. The functions are unsafe because a session has to exist, with shapes that fit
//! each other, and because memory has to hold the rows of a register.

use std::arch::asm;
use std::cell::Cell;

/// Rows of a tile register.
pub(super) const TILE_ROWS: usize = 16;

/// bf16 elements of a row of a tile register: 64 bytes.
pub(super) const TILE_ELEMENTS: usize = 32;

/// 32-bit units of a row of a tile register: sums, or pairs of elements.
pub(super) const TILE_UNITS: usize = 16;

/// The shapes of the registers in palette 1: bytes a row and rows.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Configuration([u8; 64]);

impl Configuration {
    /// The shape of every register as (rows, 32-bit units a row), at most 16 each; (0, 0) if it is not used.
    pub(super) const fn new(shapes: [(usize, usize); 8]) -> Self {
        let mut bytes = [0; 64];
        bytes[0] = 1;
        let mut register = 0;
        while register < 8 {
            let (rows, units) = shapes[register];
            assert!(rows <= TILE_ROWS && units <= TILE_UNITS, "registers are so large");
            bytes[16 + 2 * register] = 4 * units as u8;
            bytes[48 + register] = rows as u8;
            register += 1;
        }
        Self(bytes)
    }
}

thread_local! {
    /// Whether this thread has configured the registers.
    static CONFIGURED: Cell<bool> = const { Cell::new(false) };
}

/// The registers while they are configured.
pub(super) struct Session;

impl Session {
    /// # Panics
    /// If this thread has a session already, whose shapes would be gone.
    ///
    /// # Safety
    /// The CPU has the tile unit and the kernel has given its permission.
    #[inline(always)]
    pub(super) unsafe fn begin(configuration: &Configuration) -> Self {
        assert!(!CONFIGURED.replace(true), "one session of the tile unit at a time");
        // SAFETY: the configuration is valid, and the caller's promise.
        unsafe { asm!("ldtilecfg [{}]", in(reg) configuration, options(nostack, readonly)) }
        Self
    }
}

impl Drop for Session {
    #[inline(always)]
    fn drop(&mut self) {
        CONFIGURED.set(false);
        // SAFETY: a session exists only where the tile unit does.
        unsafe { asm!("tilerelease", options(nostack, nomem)) }
    }
}

/// Sets register `T` to zeros.
///
/// # Safety
/// In a session.
#[inline(always)]
pub(super) unsafe fn zero<const T: usize>() {
    // SAFETY: only a register changes.
    unsafe { asm!("tilezero tmm{}", const T, options(nostack, nomem)) }
}

/// Reads the rows of register `T`, `stride` bytes apart.
///
/// # Safety
/// In a session; the rows are there.
#[inline(always)]
pub(super) unsafe fn load<const T: usize>(from: *const f32, stride: usize) {
    // SAFETY: the caller's.
    unsafe {
        asm!("tileloadd tmm{}, [{} + {}]", const T, in(reg) from, in(reg) stride, options(nostack, readonly))
    }
}

/// Asks for a cache line, which need not be there.
#[inline(always)]
pub(super) fn ask_for(line: *const f32) {
    // SAFETY: no memory is accessed.
    unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.cast()) }
}

/// Writes the rows of register `T`, `stride` bytes apart.
///
/// # Safety
/// In a session; the rows are there.
#[inline(always)]
pub(super) unsafe fn store<const T: usize>(to: *mut f32, stride: usize) {
    // SAFETY: the caller's.
    unsafe { asm!("tilestored [{1} + {2}], tmm{0}", const T, in(reg) to, in(reg) stride, options(nostack)) }
}

/// Adds to register `SUMS` the products of the rows of `LEFT` and the columns of `RIGHT`, whose units are pairs of bf16.
///
/// # Safety
/// In a session, with shapes that fit each other.
#[inline(always)]
pub(super) unsafe fn add_products<const SUMS: usize, const LEFT: usize, const RIGHT: usize>() {
    // SAFETY: only registers change.
    unsafe {
        asm!("tdpbf16ps tmm{}, tmm{}, tmm{}", const SUMS, const LEFT, const RIGHT, options(nostack, nomem))
    }
}
