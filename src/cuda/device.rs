//! GPUs by number: their context, what they can do, and what stays on them between calls.

use std::ffi::{CStr, c_int, c_uint};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::{fmt, ptr};

use flex_codegen::Arch;

use super::calls::CallCache;
use super::counters::WorkCounters;
use super::driver::{Driver, Handle, MemPoolProps, constants};
use super::faults::FaultRecords;
use super::modules::ModuleCache;
use super::{CudaError, CudaStream};

/// A GPU, by its number in the process (CUDA_VISIBLE_DEVICES renumbers). Cheap to copy; two of one number are equal.
///
/// It uses the device's primary context, the one that PyTorch, candle and the CUDA runtime use, so memory and streams
/// may be exchanged with them. Calls leave the current context of the thread as it was.
#[derive(Clone, Copy)]
pub struct CudaDevice(&'static DeviceState);

/// What is kept of a device for the life of the process: nothing of it is torn down at exit, when the driver may
/// already be gone.
struct DeviceState {
    driver: &'static Driver,
    ordinal: usize,
    name: String,
    arch: Arch,
    multiprocessors: u32,
    smem_bytes: u32,
    l2_bytes: usize,
    total_memory: usize,
    context: Handle,
    pool: Option<Handle>,
    stream: OnceLock<CudaStream>,
    modules: ModuleCache,
    calls: CallCache,
    faults: FaultRecords,
    work_counters: WorkCounters,
}

impl CudaDevice {
    /// The GPU of that number.
    ///
    /// # Errors
    /// If there is no driver, it is too old, there is no such device, or the device is older than compute capability
    /// 8.0.
    pub fn new(ordinal: usize) -> Result<Self, CudaError> {
        static DEVICES: Mutex<Vec<CudaDevice>> = Mutex::new(Vec::new());
        // Nothing in the critical section leaves the list half-changed.
        let mut devices = DEVICES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&device) = devices.iter().find(|device| device.0.ordinal == ordinal) {
            return Ok(device);
        }
        let device = Self(Box::leak(Box::new(DeviceState::open(ordinal)?)));
        devices.push(device);
        Ok(device)
    }

    /// How many GPUs there are.
    ///
    /// # Errors
    /// If there is no driver or it is too old. No device at all is an error too.
    pub fn count() -> Result<usize, CudaError> {
        let driver = Driver::get()?;
        let mut count = 0;
        // SAFETY: `count` is a valid place to write.
        unsafe { driver.device_count(&mut count)? };
        usize::try_from(count).ok().filter(|&count| count > 0).ok_or(CudaError::NoDevice)
    }

    /// Its number.
    pub fn ordinal(self) -> usize {
        self.0.ordinal
    }

    /// Its name, as `nvidia-smi` has it.
    pub fn name(self) -> &'static str {
        &self.0.name
    }

    /// The architecture that kernels are compiled for.
    pub fn arch(self) -> Arch {
        self.0.arch
    }

    /// The number of multiprocessors.
    pub fn multiprocessors(self) -> u32 {
        self.0.multiprocessors
    }

    /// The shared memory that a block of threads may use, in bytes.
    pub fn smem_bytes(self) -> u32 {
        self.0.smem_bytes
    }

    /// The size of the L2 cache, in bytes.
    pub fn l2_bytes(self) -> usize {
        self.0.l2_bytes
    }

    /// The size of the device memory, in bytes.
    pub fn total_memory(self) -> usize {
        self.0.total_memory
    }

    /// The bytes of device memory that nothing uses at the moment.
    ///
    /// # Errors
    /// If the driver fails.
    pub fn free_memory(self) -> Result<usize, CudaError> {
        let _context = self.enter()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: both are valid places to write, and the context is current.
        unsafe { self.driver().memory_info(&mut free, &mut total)? };
        Ok(free)
    }

    /// The stream on which tensors of this device are made, unless another is given. It does not wait for the legacy
    /// default stream.
    ///
    /// # Errors
    /// If the driver fails.
    pub fn stream(self) -> Result<&'static CudaStream, CudaError> {
        if let Some(stream) = self.0.stream.get() {
            return Ok(stream);
        }
        let stream = CudaStream::new(self)?;
        Ok(self.0.stream.get_or_init(|| stream))
    }

    /// Gives back what is kept on the device for later calls: prepared calls with their captures and block masks,
    /// loaded kernels stay. Waits for the device to finish what uses it.
    ///
    /// Captures and block masks of mods that were dropped are also given back when the next new mod or mask comes.
    ///
    /// # Errors
    /// If the driver fails.
    pub fn trim(self) -> Result<(), CudaError> {
        self.0.calls.clear();
        self.0.faults.clear();
        self.stream()?.synchronize()?;
        let _context = self.enter()?;
        if let Some(pool) = self.0.pool {
            // SAFETY: the pool is this device's and lives as long as the process.
            unsafe { self.driver().pool_trim(pool, 0)? };
        }
        Ok(())
    }

    /// Checks that kernels can be had for it: from NVRTC, or from a compiler that was [set](super::set_compiler).
    ///
    /// # Errors
    /// If NVRTC is missing or does not know the device's architecture.
    pub fn check_compiler(self) -> Result<(), CudaError> {
        super::compiler::check(self.arch())
    }

    pub(super) fn driver(self) -> &'static Driver {
        self.0.driver
    }

    pub(super) fn pool(self) -> Option<Handle> {
        self.0.pool
    }

    pub(super) fn modules(self) -> &'static ModuleCache {
        &self.0.modules
    }

    pub(super) fn work_counters(self) -> &'static WorkCounters {
        &self.0.work_counters
    }

    pub(super) fn calls(self) -> &'static CallCache {
        &self.0.calls
    }

    pub(super) fn faults(self) -> &'static FaultRecords {
        &self.0.faults
    }

    pub(super) fn context(self) -> Handle {
        self.0.context
    }

    /// Makes the device's context current until the guard is dropped.
    pub(super) fn enter(self) -> Result<CurrentContext, CudaError> {
        let driver = self.driver();
        let mut previous = Handle::NULL;
        // SAFETY: `previous` is a valid place to write; the context is retained for the life of the process.
        unsafe {
            driver.context_get_current(&mut previous)?;
            if previous != self.0.context {
                driver.context_set_current(self.0.context)?;
            }
        }
        Ok(CurrentContext { driver, previous, changed: previous != self.0.context })
    }
}

impl CudaDevice {
    /// For what a call does once, which may be while a graph is captured.
    pub(super) fn beside_captures(self) -> Result<BesideCaptures, CudaError> {
        let driver = self.driver();
        let mut mode = constants::CAPTURE_RELAXED;
        // SAFETY: `mode` is a mode, and a valid place to write.
        unsafe { driver.exchange_capture_mode(&mut mode)? };
        Ok(BesideCaptures { driver, previous: mode })
    }
}

impl PartialEq for CudaDevice {
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(self.0, other.0)
    }
}

impl Eq for CudaDevice {}

impl fmt::Debug for CudaDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CudaDevice({}: {}, {})", self.0.ordinal, self.0.name, self.0.arch)
    }
}

impl fmt::Display for CudaDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cuda:{}", self.0.ordinal)
    }
}

/// Lets the thread allocate, copy and wait, on streams that are not captured, while some stream is captured into a graph;
/// until the guard is dropped.
pub(super) struct BesideCaptures {
    driver: &'static Driver,
    previous: c_uint,
}

impl Drop for BesideCaptures {
    fn drop(&mut self) {
        // SAFETY: it was the thread's mode before, and `previous` is a valid place to write.
        let _ = unsafe { self.driver.exchange_capture_mode(&mut self.previous) };
    }
}

/// Puts the thread's previous context back when dropped.
pub(super) struct CurrentContext {
    driver: &'static Driver,
    previous: Handle,
    changed: bool,
}

impl Drop for CurrentContext {
    fn drop(&mut self) {
        if self.changed {
            // SAFETY: it was current before; a failure leaves ours current, which later calls cope with.
            let _ = unsafe { self.driver.context_set_current(self.previous) };
        }
    }
}

impl DeviceState {
    fn open(ordinal: usize) -> Result<Self, CudaError> {
        let driver = Driver::get()?;
        let count = CudaDevice::count()?;
        if ordinal >= count {
            return Err(CudaError::NoSuchDevice { ordinal, count });
        }
        let mut device: c_int = 0;
        // SAFETY: the ordinal is one of the driver's, `device` a valid place to write.
        unsafe { driver.device_get(&mut device, ordinal as c_int)? };
        let attribute = |which| {
            let mut value: c_int = 0;
            // SAFETY: `device` came from the driver, `value` is a valid place to write.
            unsafe { driver.device_attribute(&mut value, which, device)? };
            Ok::<_, CudaError>(value as u32)
        };

        let name = device_name(driver, device)?;
        let major = attribute(constants::DEVICE_CAPABILITY_MAJOR)?;
        let minor = attribute(constants::DEVICE_CAPABILITY_MINOR)?;
        let arch = Arch::of_device(major, minor);
        if !arch.is_supported() {
            return Err(CudaError::UnsupportedDevice { ordinal, name, major, minor });
        }

        let (mut context, mut total_memory) = (Handle::NULL, 0);
        let compiler = super::compiler();
        std::thread::scope(|scope| {
            // A context takes about as long as NVRTC does to be ready.
            let ready = std::thread::Builder::new().name("flex-nvrtc".into());
            let _ = ready.spawn_scoped(scope, || compiler.ready(arch));
            // SAFETY: `device` came from the driver; both are valid places to write.
            unsafe {
                driver.primary_context_retain(&mut context, device)?;
                driver.device_total_memory(&mut total_memory, device)
            }
        })?;
        let pool = match attribute(constants::DEVICE_MEMORY_POOLS)? {
            0 => None,
            _ => Some(create_pool(driver, device)?),
        };
        Ok(Self {
            driver,
            ordinal,
            name,
            arch,
            multiprocessors: attribute(constants::DEVICE_MULTIPROCESSORS)?,
            smem_bytes: attribute(constants::DEVICE_SMEM_PER_BLOCK_OPTIN)?,
            l2_bytes: attribute(constants::DEVICE_L2_BYTES)? as usize,
            total_memory,
            context,
            pool,
            stream: OnceLock::new(),
            modules: ModuleCache::default(),
            calls: CallCache::default(),
            faults: FaultRecords::default(),
            work_counters: WorkCounters::default(),
        })
    }
}

fn device_name(driver: &Driver, device: c_int) -> Result<String, CudaError> {
    let mut name = [0; 256];
    // SAFETY: the length is the buffer's without its last byte, which stays 0, so the name is terminated.
    unsafe {
        driver.device_name(name.as_mut_ptr(), name.len() as c_int - 1, device)?;
        Ok(CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned())
    }
}

/// A pool of our own, so that keeping memory between calls changes nothing for other users of the device's pool. Freed
/// memory stays in it until [`CudaDevice::trim`]: giving it back at every synchronisation would make the next
/// allocation a matter of milliseconds.
fn create_pool(driver: &Driver, device: c_int) -> Result<Handle, CudaError> {
    let props = MemPoolProps {
        allocation_type: constants::ALLOCATION_PINNED,
        handle_types: 0,
        location_type: constants::LOCATION_DEVICE,
        location_id: device,
        security_attributes: ptr::null_mut(),
        reserved: [0; 64],
    };
    let mut pool = Handle::NULL;
    let mut threshold = u64::MAX;
    // SAFETY: `props` has the form of the driver's struct with its reserved part zero; the attribute is a u64.
    unsafe {
        driver.pool_create(&mut pool, &props)?;
        driver.pool_set_attribute(pool, constants::POOL_RELEASE_THRESHOLD, (&raw mut threshold).cast())?;
    }
    Ok(pool)
}
