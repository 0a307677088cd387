//! NVRTC: found and loaded at run time, so that nothing of CUDA is needed to build or to start a program.

mod compile;
mod library;
mod locate;
mod log;

pub use compile::Compilation;
pub use library::Nvrtc;
pub use log::CompileLog;

/// Why NVRTC gave no cubin.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NvrtcError {
    /// The library is nowhere.
    #[error(
        "NVRTC was not found (looked for {}): install the CUDA toolkit (12.8 or newer) or `pip install nvidia-cuda-nvrtc`, or set \
         FLEX_NVRTC_DIR to the folder of libnvrtc.so.13",
        .tried.join(", ")
    )]
    NotFound {
        /// What was tried.
        tried: Vec<String>,
    },
    /// The library lacks a function.
    #[error("{library} has no function {symbol}: it is no NVRTC 12 or 13, install another")]
    MissingSymbol {
        /// Which library.
        library: String,
        /// Which function.
        symbol: &'static str,
    },
    /// NVRTC does not know the architecture.
    #[error("NVRTC {version} cannot compile for {arch}, it knows {known}: install a newer NVRTC")]
    UnsupportedArch {
        /// The architecture.
        arch: String,
        /// The version found.
        version: String,
        /// What it supports.
        known: String,
    },
    /// The source was refused. A mod that passed the front end never gets here: please report it.
    #[error("NVRTC refused the generated source ({status}); FLEX_DUMP_CUDA=DIR keeps the source:\n{log}")]
    Rejected {
        /// What NVRTC calls it.
        status: String,
        /// What the compiler said.
        log: String,
    },
    /// A call failed for another reason.
    #[error("NVRTC failed in {call}: {status}")]
    Call {
        /// The function.
        call: &'static str,
        /// What NVRTC calls it.
        status: String,
    },
}
