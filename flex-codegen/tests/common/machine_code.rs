//! The instructions of a cubin, as far as tests look at them: a cubin is an ELF file of 64 bits, an instruction of sm_70 and
//! later takes 16 bytes, and the lowest 12 bits are its operation.

/// `wgmma` with both operands in shared memory.
pub(crate) const HGMMA_SHARED: u16 = 0x9f0;
/// `wgmma` with the first operand in registers.
pub(crate) const HGMMA_REGISTERS: u16 = 0xdf0;
/// Loads and stores of local memory, which is where spilled registers are.
pub(crate) const LOCAL: [u16; 2] = [0x983, 0x387];

/// The operations of a kernel, in order.
pub(crate) fn operations(cubin: &[u8], kernel: &str) -> Vec<u16> {
    let wanted = format!(".text.{kernel}");
    let code = sections(cubin).find(|(name, _)| *name == wanted.as_bytes()).expect("the kernel's section").1;
    let (instructions, rest) = code.as_chunks::<16>();
    assert!(rest.is_empty(), "whole instructions");
    instructions.iter().map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]) & 0xfff).collect()
}

/// Name and contents of every section.
fn sections(elf: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    assert_eq!(&elf[..5], b"\x7fELF\x02", "an ELF file of 64 bits");
    let number = |at: usize, bytes: usize| {
        let little_endian = elf[at..at + bytes].iter().rev();
        little_endian.fold(0usize, |number, &byte| number << 8 | usize::from(byte))
    };
    let (headers, header_bytes, count, names) =
        (number(0x28, 8), number(0x3a, 2), number(0x3c, 2), number(0x3e, 2));
    let header = move |i: usize| headers + i * header_bytes;
    let names_at = number(header(names) + 0x18, 8);
    const WITHOUT_CONTENTS: usize = 8;
    (0..count).filter(move |&i| number(header(i) + 4, 4) != WITHOUT_CONTENTS).map(move |i| {
        let name = &elf[names_at + number(header(i), 4)..];
        let name = &name[..name.iter().position(|&byte| byte == 0).expect("names end with 0")];
        let (at, bytes) = (number(header(i) + 0x18, 8), number(header(i) + 0x20, 8));
        (name, &elf[at..at + bytes])
    })
}
