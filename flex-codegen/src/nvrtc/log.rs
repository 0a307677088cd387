//! What the compiler said, as data.

use serde::{Deserialize, Serialize};

/// The log of a compilation with `--ptxas-options=-v`, of a source with one kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompileLog {
    /// Registers a thread.
    pub registers: u32,
    /// Spill stores and loads of a thread, in bytes.
    pub spill_bytes: u32,
    /// Stack of a thread, in bytes.
    pub stack_bytes: u32,
    /// Statically allocated shared memory, in bytes.
    pub static_smem_bytes: u32,
    /// Warnings of the compiler, and the diagnostics of ptxas that mean lost speed.
    pub warnings: Vec<String>,
}

impl CompileLog {
    /// Reads the text of a log.
    pub fn parse(text: &str) -> Self {
        let mut log = Self::default();
        for line in text.lines() {
            log.registers = log.registers.max(number_before(line, " registers").unwrap_or(0));
            log.stack_bytes = log.stack_bytes.max(number_before(line, " bytes stack frame").unwrap_or(0));
            let stores = number_before(line, " bytes spill stores").unwrap_or(0);
            let loads = number_before(line, " bytes spill loads").unwrap_or(0);
            log.spill_bytes += stores + loads;
            log.static_smem_bytes =
                log.static_smem_bytes.max(number_before(line, " bytes smem").unwrap_or(0));
            if is_warning(line) {
                log.warnings.push(line.trim().to_owned());
            }
        }
        log
    }
}

/// Warnings; and `(C75xx)`, under which ptxas reports wgmma that it serialises and setmaxnreg that it ignores.
fn is_warning(line: &str) -> bool {
    let lower = line.to_ascii_lowercase();
    lower.contains("warning") || lower.contains("error") || line.contains("(C75")
}

fn number_before(line: &str, unit: &str) -> Option<u32> {
    let head = &line[..line.find(unit)?];
    let digits = head.rfind(|c: char| !c.is_ascii_digit()).map_or(head, |i| &head[i + 1..]);
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_and_diagnostics_are_read() {
        let log = CompileLog::parse(
            "flex.cu(12): warning #177-D: variable \"x\" was declared but never referenced\n\
             ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized\n\
             ptxas info    : Function properties for forward\n\
             \x20   40 bytes stack frame, 12 bytes spill stores, 16 bytes spill loads\n\
             ptxas info    : Used 168 registers, used 1 barriers, 40 bytes cumulative stack size, 1024 bytes smem",
        );
        assert_eq!((log.registers, log.spill_bytes, log.stack_bytes), (168, 28, 40));
        assert_eq!(log.static_smem_bytes, 1024);
        assert_eq!(log.warnings.len(), 2);
    }
}
