//! The loaded library: its functions, checked to be there.

use std::error::Error;
use std::ffi::{CStr, c_char, c_int};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

use super::{NvrtcError, locate};
use crate::Arch;

/// `nvrtcResult`; 0 is success.
pub(super) type Status = c_int;
/// `nvrtcProgram`, an opaque pointer.
pub(super) type Program = *mut std::ffi::c_void;

/// Declares the function table and how to fill it from a library.
macro_rules! functions {
    ($($field:ident = $symbol:literal: fn($($arg:ty),*) -> $result:ty;)*) => {
        #[derive(Clone, Copy, Debug)]
        pub(super) struct Functions {
            $(pub(super) $field: unsafe extern "C" fn($($arg),*) -> $result,)*
        }

        impl Functions {
            fn of(library: &Library, path: &str) -> Result<Self, NvrtcError> {
                Ok(Self {
                    $($field: {
                        // SAFETY: the type is that of the function in nvrtc.h, the same since CUDA 12.
                        let symbol = unsafe {
                            library.get::<unsafe extern "C" fn($($arg),*) -> $result>($symbol)
                        };
                        *symbol.map_err(|_| NvrtcError::MissingSymbol {
                            library: path.to_owned(),
                            symbol: stringify!($field),
                        })?
                    },)*
                })
            }
        }
    };
}

functions! {
    error_string = b"nvrtcGetErrorString": fn(Status) -> *const c_char;
    version = b"nvrtcVersion": fn(*mut c_int, *mut c_int) -> Status;
    num_archs = b"nvrtcGetNumSupportedArchs": fn(*mut c_int) -> Status;
    archs = b"nvrtcGetSupportedArchs": fn(*mut c_int) -> Status;
    create = b"nvrtcCreateProgram":
        fn(*mut Program, *const c_char, *const c_char, c_int, *const *const c_char, *const *const c_char) -> Status;
    destroy = b"nvrtcDestroyProgram": fn(*mut Program) -> Status;
    compile = b"nvrtcCompileProgram": fn(Program, c_int, *const *const c_char) -> Status;
    log_size = b"nvrtcGetProgramLogSize": fn(Program, *mut usize) -> Status;
    log = b"nvrtcGetProgramLog": fn(Program, *mut c_char) -> Status;
    cubin_size = b"nvrtcGetCUBINSize": fn(Program, *mut usize) -> Status;
    cubin = b"nvrtcGetCUBIN": fn(Program, *mut c_char) -> Status;
}

/// The compiler library. Loaded once a process and never unloaded.
#[derive(Debug)]
pub struct Nvrtc {
    pub(super) functions: Functions,
    path: PathBuf,
    version: (u32, u32),
    archs: Vec<u32>,
    /// Held so that the code stays mapped: the builtins, then NVRTC itself.
    _libraries: Vec<Library>,
}

impl Nvrtc {
    /// The library of this process, loaded at the first call.
    ///
    /// # Errors
    /// If it is not found or is not NVRTC 12 or newer. The outcome of the first call stays.
    pub fn get() -> Result<Arc<Self>, NvrtcError> {
        static LOADED: OnceLock<Result<Arc<Nvrtc>, NvrtcError>> = OnceLock::new();
        LOADED.get_or_init(|| Self::load().map(Arc::new)).clone()
    }

    fn load() -> Result<Self, NvrtcError> {
        let mut tried = Vec::new();
        for path in locate::candidates() {
            let mut libraries: Vec<Library> =
                locate::builtins_beside(&path).iter().filter_map(|p| open(p).ok()).collect();
            let library = match open(&path) {
                Ok(library) => library,
                Err(error) => {
                    // Why a file that is there cannot be loaded says the error's source, in the loader's words.
                    tried.push(match error.source().filter(|_| path.exists()) {
                        Some(words) => words.to_string(),
                        None => path.display().to_string(),
                    });
                    continue;
                }
            };
            let functions = Functions::of(&library, &path.display().to_string())?;
            libraries.push(library);
            let nvrtc = Self::query(functions, libraries, path.clone())?;
            tracing::debug!(library = %path.display(), version = nvrtc.version(), "NVRTC loaded");
            return Ok(nvrtc);
        }
        if let Some(dir) = crate::env::nvrtc_dir().filter(|_| tried.is_empty()) {
            tried.push(format!("{} in {}", locate::SONAMES.join(" and "), dir.display()));
        }
        Err(NvrtcError::NotFound { tried })
    }

    fn query(functions: Functions, libraries: Vec<Library>, path: PathBuf) -> Result<Self, NvrtcError> {
        let mut nvrtc = Self { functions, path, version: (0, 0), archs: Vec::new(), _libraries: libraries };
        let (mut major, mut minor, mut count) = (0, 0, 0);
        // SAFETY: the pointers are to locals of the right type.
        let status = unsafe { (functions.version)(&mut major, &mut minor) };
        nvrtc.check("nvrtcVersion", status)?;
        // SAFETY: as above.
        let status = unsafe { (functions.num_archs)(&mut count) };
        nvrtc.check("nvrtcGetNumSupportedArchs", status)?;
        let mut archs = vec![0; usize::try_from(count).unwrap_or(0)];
        // SAFETY: the buffer has as many elements as NVRTC said that it writes.
        let status = unsafe { (functions.archs)(archs.as_mut_ptr()) };
        nvrtc.check("nvrtcGetSupportedArchs", status)?;
        nvrtc.version = (major as u32, minor as u32);
        nvrtc.archs = archs.into_iter().map(|arch| arch as u32).collect();
        Ok(nvrtc)
    }

    /// Where it was found: a file, or a bare name that the dynamic loader resolved.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The version, as `13.0`: part of every kernel's key.
    pub fn version(&self) -> String {
        format!("{}.{}", self.version.0, self.version.1)
    }

    /// Checks that the library can compile for an architecture.
    ///
    /// # Errors
    /// [`NvrtcError::UnsupportedArch`].
    pub fn check_arch(&self, arch: Arch) -> Result<(), NvrtcError> {
        if self.archs.contains(&(arch.major * 10 + arch.minor)) {
            return Ok(());
        }
        let known: Vec<String> = self.archs.iter().map(|n| format!("sm_{n}")).collect();
        Err(NvrtcError::UnsupportedArch {
            arch: arch.to_string(),
            version: self.version(),
            known: known.join(", "),
        })
    }

    pub(super) fn status_name(&self, status: Status) -> String {
        // SAFETY: the function returns a static string for every value.
        let text = unsafe { CStr::from_ptr((self.functions.error_string)(status)) };
        text.to_string_lossy().into_owned()
    }

    pub(super) fn check(&self, call: &'static str, status: Status) -> Result<(), NvrtcError> {
        if status == 0 { Ok(()) } else { Err(NvrtcError::Call { call, status: self.status_name(status) }) }
    }
}

fn open(path: &Path) -> Result<Library, libloading::Error> {
    // SAFETY: loading runs the library's initialisers; these are NVIDIA's compiler libraries, by name.
    unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) }
}
