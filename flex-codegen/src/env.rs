//! The environment variables that flex-attention reads, in one place.
//!
//! | variable | meaning |
//! |---|---|
//! | `FLEX_CACHE_DIR` | where compiled kernels are kept; default `flex-attention` in the user's cache folder (`$XDG_CACHE_HOME` or `~/.cache`). Empty: none are kept. |
//! | `FLEX_NVRTC_DIR` | the folder of `libnvrtc.so.13` (or a folder that `pip install --target` put the wheel into); only this folder is looked at |
//! | `FLEX_DUMP_CUDA` | a folder: the source of every compiled kernel is written there as `KEY.cu`, with the compiler's findings |
//! | `FLEX_CPU_ISA` | the instruction set of the CPU backend, where it is not to be the best that the CPU has: see `flex_core::isa` |
//! | `FLEX_LOG` | what the `flex` program logs, in the syntax of tracing-subscriber: `debug`, `flex_codegen=trace` |

use std::path::PathBuf;

use etcetera::BaseStrategy;

/// See the [table](self).
pub const CACHE_DIR: &str = "FLEX_CACHE_DIR";
/// See the [table](self).
pub const NVRTC_DIR: &str = "FLEX_NVRTC_DIR";
/// See the [table](self).
pub const DUMP_CUDA: &str = "FLEX_DUMP_CUDA";
/// See the [table](self).
pub const LOG: &str = "FLEX_LOG";

/// Where compiled kernels are kept; `None` if nowhere.
pub fn cache_dir() -> Option<PathBuf> {
    match std::env::var_os(CACHE_DIR) {
        Some(dir) => Some(PathBuf::from(dir)).filter(|dir| !dir.as_os_str().is_empty()),
        None => etcetera::choose_base_strategy().ok().map(|user| user.cache_dir().join("flex-attention")),
    }
}

/// The only folder to look for NVRTC in, if the user names one.
pub fn nvrtc_dir() -> Option<PathBuf> {
    folder(NVRTC_DIR)
}

/// Where to write generated sources, if the user wants them.
pub fn dump_cuda_dir() -> Option<PathBuf> {
    folder(DUMP_CUDA)
}

fn folder(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|dir| !dir.as_os_str().is_empty())
}
