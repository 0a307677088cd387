//! The CUDA driver, found when it is first asked for. A machine without one gets an error, never a panic.
//!
//! The functions are looked up by name here, rather than through a binding, because a binding that loads lazily panics
//! where the library or one of its functions is missing.

use std::error::Error;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

use libloading::Library;

use super::CudaError;

/// The oldest driver that has every function used here, as `cuDriverGetVersion` counts: CUDA 12.0.
const OLDEST_DRIVER: i32 = 12_000;

/// A handle of the driver: a context, stream, event, module, function or pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub(super) struct Handle(pub(super) *mut c_void);

// SAFETY: the driver's handles are names that any thread may use; the driver does its own locking.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Handle {
    pub(super) const NULL: Self = Self(std::ptr::null_mut());
}

/// An address in device memory.
pub(super) type DevicePtr = u64;

/// The launch geometry, `CUlaunchConfig`.
#[derive(Debug)]
#[repr(C)]
pub(super) struct LaunchConfig {
    pub(super) grid: [c_uint; 3],
    pub(super) block: [c_uint; 3],
    pub(super) dynamic_smem_bytes: c_uint,
    pub(super) stream: Handle,
    pub(super) attributes: *mut c_void,
    pub(super) attribute_count: c_uint,
}

/// `CUmemPoolProps`: pinned memory of one device, without handles for other processes.
#[repr(C)]
pub(super) struct MemPoolProps {
    pub(super) allocation_type: c_uint,
    pub(super) handle_types: c_uint,
    pub(super) location_type: c_uint,
    pub(super) location_id: c_int,
    pub(super) security_attributes: *mut c_void,
    pub(super) reserved: [u8; 64],
}

const _: () = assert!(size_of::<MemPoolProps>() == 88 && size_of::<LaunchConfig>() == 56);

/// Values of the driver's enumerations.
pub(super) mod constants {
    use std::ffi::{c_int, c_uint};

    pub(crate) const DEVICE_L2_BYTES: c_int = 38;
    pub(crate) const DEVICE_MULTIPROCESSORS: c_int = 16;
    pub(crate) const DEVICE_CAPABILITY_MAJOR: c_int = 75;
    pub(crate) const DEVICE_CAPABILITY_MINOR: c_int = 76;
    pub(crate) const DEVICE_SMEM_PER_BLOCK_OPTIN: c_int = 97;
    pub(crate) const DEVICE_MEMORY_POOLS: c_int = 115;

    pub(crate) const FUNCTION_MAX_DYNAMIC_SMEM: c_int = 8;

    pub(crate) const POOL_RELEASE_THRESHOLD: c_uint = 4;
    pub(crate) const ALLOCATION_PINNED: c_uint = 1;
    pub(crate) const LOCATION_DEVICE: c_uint = 1;

    pub(crate) const STREAM_NON_BLOCKING: c_uint = 1;
    pub(crate) const CAPTURE_RELAXED: c_uint = 2;
    pub(crate) const EVENT_DISABLE_TIMING: c_uint = 2;

    pub(crate) const ERROR_OUT_OF_MEMORY: c_uint = 2;
    pub(crate) const ERROR_STUB_LIBRARY: c_uint = 34;
    pub(crate) const ERROR_NO_DEVICE: c_uint = 100;
    pub(crate) const ERROR_INVALID_IMAGE: c_uint = 200;
    pub(crate) const ERROR_NO_BINARY_FOR_GPU: c_uint = 209;
    pub(crate) const ERROR_UNSUPPORTED_PTX_VERSION: c_uint = 222;
    pub(crate) const ERROR_DRIVER_MISMATCH: c_uint = 803;
}

macro_rules! driver_functions {
    ($( $name:ident = $symbol:literal ( $($arg:ident: $ty:ty),* ); )*) => {
        /// The functions of the driver that are used, each returning the driver's error as ours.
        pub(super) struct Driver {
            $($name: unsafe extern "system" fn($($ty),*) -> c_uint,)*
            version: i32,
            // The functions point into it.
            _library: Library,
        }

        impl Driver {
            /// The driver behind a library, or the function that it lacks.
            fn from_library(library: Library) -> Result<Self, &'static str> {
                // SAFETY: the symbols have these signatures in every driver that exports them.
                unsafe {
                    Ok(Self {
                        $($name: *library
                            .get(concat!($symbol, "\0").as_bytes())
                            .map_err(|_| $symbol)?,)*
                        version: 0,
                        _library: library,
                    })
                }
            }

            $(
                #[doc = concat!("`", $symbol, "`.")]
                #[allow(clippy::too_many_arguments, reason = "as the driver has them")]
                pub(super) unsafe fn $name(&self, $($arg: $ty),*) -> Result<(), CudaError> {
                    // SAFETY: the caller keeps the contract of the driver's function.
                    let code = unsafe { (self.$name)($($arg),*) };
                    if code == 0 { Ok(()) } else { Err(self.failure($symbol, code)) }
                }
            )*
        }
    };
}

driver_functions! {
    init = "cuInit"(flags: c_uint);
    driver_version = "cuDriverGetVersion"(version: *mut c_int);
    error_name = "cuGetErrorName"(code: c_uint, name: *mut *const c_char);
    error_string = "cuGetErrorString"(code: c_uint, text: *mut *const c_char);

    device_count = "cuDeviceGetCount"(count: *mut c_int);
    device_get = "cuDeviceGet"(device: *mut c_int, ordinal: c_int);
    device_name = "cuDeviceGetName"(name: *mut c_char, len: c_int, device: c_int);
    device_attribute = "cuDeviceGetAttribute"(value: *mut c_int, attribute: c_int, device: c_int);
    device_total_memory = "cuDeviceTotalMem_v2"(bytes: *mut usize, device: c_int);
    primary_context_retain = "cuDevicePrimaryCtxRetain"(context: *mut Handle, device: c_int);
    context_get_current = "cuCtxGetCurrent"(context: *mut Handle);
    context_set_current = "cuCtxSetCurrent"(context: Handle);

    memory_info = "cuMemGetInfo_v2"(free: *mut usize, total: *mut usize);
    memory_alloc = "cuMemAlloc_v2"(ptr: *mut DevicePtr, bytes: usize);
    memory_free = "cuMemFree_v2"(ptr: DevicePtr);
    pool_create = "cuMemPoolCreate"(pool: *mut Handle, props: *const MemPoolProps);
    pool_set_attribute = "cuMemPoolSetAttribute"(pool: Handle, attribute: c_uint, value: *mut c_void);
    pool_trim = "cuMemPoolTrimTo"(pool: Handle, keep_bytes: usize);
    pool_alloc = "cuMemAllocFromPoolAsync"(ptr: *mut DevicePtr, bytes: usize, pool: Handle, stream: Handle);
    pool_free = "cuMemFreeAsync"(ptr: DevicePtr, stream: Handle);
    copy_to_device = "cuMemcpyHtoDAsync_v2"(to: DevicePtr, from: *const c_void, bytes: usize, stream: Handle);
    copy_to_host = "cuMemcpyDtoHAsync_v2"(to: *mut c_void, from: DevicePtr, bytes: usize, stream: Handle);
    fill = "cuMemsetD8Async"(ptr: DevicePtr, byte: u8, bytes: usize, stream: Handle);

    stream_create = "cuStreamCreate"(stream: *mut Handle, flags: c_uint);
    stream_destroy = "cuStreamDestroy_v2"(stream: Handle);
    stream_synchronize = "cuStreamSynchronize"(stream: Handle);
    stream_wait_event = "cuStreamWaitEvent"(stream: Handle, event: Handle, flags: c_uint);
    stream_id = "cuStreamGetId"(stream: Handle, id: *mut u64);
    stream_context = "cuStreamGetCtx"(stream: Handle, context: *mut Handle);
    exchange_capture_mode = "cuThreadExchangeStreamCaptureMode"(mode: *mut c_uint);
    stream_is_capturing = "cuStreamIsCapturing"(stream: Handle, status: *mut c_uint);
    event_create = "cuEventCreate"(event: *mut Handle, flags: c_uint);
    event_record = "cuEventRecord"(event: Handle, stream: Handle);
    event_synchronize = "cuEventSynchronize"(event: Handle);
    event_elapsed = "cuEventElapsedTime"(milliseconds: *mut f32, start: Handle, end: Handle);
    event_destroy = "cuEventDestroy_v2"(event: Handle);

    module_load = "cuModuleLoadData"(module: *mut Handle, image: *const c_void);
    module_function = "cuModuleGetFunction"(function: *mut Handle, module: Handle, name: *const c_char);
    function_set_attribute = "cuFuncSetAttribute"(function: Handle, attribute: c_int, value: c_int);
    launch = "cuLaunchKernelEx"(config: *const LaunchConfig, function: Handle, params: *mut *mut c_void, extra: *mut *mut c_void);
    encode_tensor_map = "cuTensorMapEncodeTiled"(map: *mut c_void, dtype: c_uint, rank: u32, address: *mut c_void, dims: *const u64, byte_strides: *const u64, box_dims: *const u32, element_strides: *const u32, interleave: c_uint, swizzle: c_uint, l2_promotion: c_uint, out_of_bounds_fill: c_uint);
}

impl Driver {
    /// The driver of this process, initialised.
    ///
    /// # Errors
    /// If there is no driver, no device, or the driver is too old; the first answer is kept.
    pub(super) fn get() -> Result<&'static Self, CudaError> {
        static DRIVER: OnceLock<Result<Driver, CudaError>> = OnceLock::new();
        DRIVER.get_or_init(Self::load).as_ref().map_err(CudaError::clone)
    }

    /// The newest CUDA version that the driver serves, `1000 · major + 10 · minor`.
    pub(super) fn version(&self) -> i32 {
        self.version
    }

    fn load() -> Result<Self, CudaError> {
        let mut driver = Self::from_library(open()?)
            .map_err(|function| CudaError::DriverTooOld { found: format!("one without {function}") })?;
        // SAFETY: `cuInit` and `cuDriverGetVersion` may be called at any time; `version` is a valid place to write.
        unsafe {
            match driver.init(0) {
                Err(CudaError::Driver { code: constants::ERROR_NO_DEVICE, .. }) => {
                    return Err(CudaError::NoDevice);
                }
                Err(CudaError::Driver {
                    code: constants::ERROR_STUB_LIBRARY | constants::ERROR_DRIVER_MISMATCH,
                    text,
                    ..
                }) => return Err(CudaError::NoDriver { reason: text }),
                other => other?,
            }
            let mut version = 0;
            driver.driver_version(&mut version)?;
            driver.version = version;
        }
        if driver.version < OLDEST_DRIVER {
            let (major, minor) = (driver.version / 1000, driver.version % 1000 / 10);
            return Err(CudaError::DriverTooOld { found: format!("CUDA {major}.{minor}") });
        }
        Ok(driver)
    }

    /// The driver's error in our terms.
    fn failure(&self, call: &'static str, code: c_uint) -> CudaError {
        let text = |written: Result<(), CudaError>, text: *const c_char| {
            // SAFETY: the driver wrote a pointer to a static string.
            written.is_ok().then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
        };
        let (mut name, mut string) = (std::ptr::null(), std::ptr::null());
        // SAFETY: both are valid places to write. A code that the driver does not know is an error that it does know.
        let (named, described) =
            unsafe { (self.error_name(code, &mut name), self.error_string(code, &mut string)) };
        let name = text(named, name).unwrap_or_else(|| format!("unknown error {code}"));
        let text = text(described, string).map_or(name.clone(), |string| format!("{name}: {string}"));
        CudaError::Driver { call, code, text }
    }
}

fn open() -> Result<Library, CudaError> {
    const NAMES: &[&str] = if cfg!(windows) {
        &["nvcuda.dll"]
    } else {
        &["libcuda.so.1", "libcuda.so", "/usr/lib/wsl/lib/libcuda.so.1"]
    };
    let mut reason = String::new();
    for name in NAMES {
        // SAFETY: loading the driver runs its initialisers, which are made for that.
        match unsafe { Library::new(*name) } {
            Ok(library) => return Ok(library),
            // The loader's words are in the error's source.
            Err(error) if reason.is_empty() => {
                reason = error.source().map_or_else(|| error.to_string(), |words| words.to_string());
            }
            Err(_) => {}
        }
    }
    Err(CudaError::NoDriver { reason })
}
