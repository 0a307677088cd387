//! One compilation: source and headers in memory, cubin and log out.

use std::ffi::{CString, c_char, c_int};
use std::time::Instant;

use super::library::Program;
use super::{CompileLog, Nvrtc, NvrtcError};

/// What a compilation gave.
#[derive(Clone, Debug)]
pub struct Compilation {
    /// The binary.
    pub cubin: Vec<u8>,
    /// Registers, spills, warnings.
    pub log: CompileLog,
    /// How long it took.
    pub compile_ms: u64,
}

/// Destroys the program at the end, whatever happens.
struct Guard<'a> {
    nvrtc: &'a Nvrtc,
    program: Program,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // SAFETY: the program was created by this library and is destroyed once. Nothing can be done about a failure.
        unsafe { (self.nvrtc.functions.destroy)(&mut self.program) };
    }
}

impl Nvrtc {
    /// Compiles `source` to a cubin; `headers` are `(name as included, text)`.
    ///
    /// # Errors
    /// [`NvrtcError::Rejected`] with the compiler's log if the source is refused.
    pub fn compile(
        &self,
        name: &str,
        source: &str,
        headers: &[(&str, &str)],
        options: &[String],
    ) -> Result<Compilation, NvrtcError> {
        let start = Instant::now();
        let text = |text: &str| {
            CString::new(text).map_err(|_| NvrtcError::Rejected {
                status: "the source has a zero byte".into(),
                log: String::new(),
            })
        };
        let (source, name) = (text(source)?, text(name)?);
        let header_names = headers.iter().map(|(name, _)| text(name)).collect::<Result<Vec<_>, _>>()?;
        let header_texts = headers.iter().map(|(_, body)| text(body)).collect::<Result<Vec<_>, _>>()?;
        let options = options.iter().map(|option| text(option)).collect::<Result<Vec<_>, _>>()?;
        let pointers =
            |strings: &[CString]| strings.iter().map(|s| s.as_ptr()).collect::<Vec<*const c_char>>();
        let (name_ptrs, text_ptrs, option_ptrs) =
            (pointers(&header_names), pointers(&header_texts), pointers(&options));

        let mut guard = Guard { nvrtc: self, program: std::ptr::null_mut() };
        let count = headers.len() as c_int;
        // SAFETY: all strings end in zero and live to the end of this function; the arrays have `count` elements.
        let status = unsafe {
            (self.functions.create)(
                &mut guard.program,
                source.as_ptr(),
                name.as_ptr(),
                count,
                text_ptrs.as_ptr(),
                name_ptrs.as_ptr(),
            )
        };
        self.check("nvrtcCreateProgram", status)?;
        // SAFETY: the program is valid, the options end in zero and are as many as said.
        let status = unsafe {
            (self.functions.compile)(guard.program, option_ptrs.len() as c_int, option_ptrs.as_ptr())
        };
        let log = self.log(&guard)?;
        if status != 0 {
            return Err(NvrtcError::Rejected { status: self.status_name(status), log });
        }
        let cubin = self.cubin(&guard)?;
        let compile_ms = start.elapsed().as_millis() as u64;
        Ok(Compilation { cubin, log: CompileLog::parse(&log), compile_ms })
    }

    fn log(&self, guard: &Guard<'_>) -> Result<String, NvrtcError> {
        let mut size = 0;
        // SAFETY: the program is valid, the pointer is to a local.
        self.check("nvrtcGetProgramLogSize", unsafe { (self.functions.log_size)(guard.program, &mut size) })?;
        let mut log = vec![0u8; size];
        // SAFETY: the buffer has the size that NVRTC asked for.
        let status = unsafe { (self.functions.log)(guard.program, log.as_mut_ptr().cast()) };
        self.check("nvrtcGetProgramLog", status)?;
        log.truncate(log.iter().position(|&byte| byte == 0).unwrap_or(log.len()));
        Ok(String::from_utf8_lossy(&log).into_owned())
    }

    fn cubin(&self, guard: &Guard<'_>) -> Result<Vec<u8>, NvrtcError> {
        let mut size = 0;
        // SAFETY: the program is valid and compiled, the pointer is to a local.
        self.check("nvrtcGetCUBINSize", unsafe { (self.functions.cubin_size)(guard.program, &mut size) })?;
        let mut cubin = vec![0u8; size];
        // SAFETY: the buffer has the size that NVRTC asked for.
        let status = unsafe { (self.functions.cubin)(guard.program, cubin.as_mut_ptr().cast()) };
        self.check("nvrtcGetCUBIN", status)?;
        Ok(cubin)
    }
}
