//! Calls that were made before: everything about a call that does not change from launch to launch, found again by
//! cheap identities, so that a steady call compiles, uploads and allocates nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use flex_codegen::{Arch, CallPlan, CallRequest, KernelSpec, Matmul, Precision, Template, abi, plan};
use flex_core::attention::{DType, Shape};
use flex_core::capture::{Array, Capture};
use flex_core::ir::Expr;
use flex_core::mask::{BlockMask, BlockSize, Extent, RunTable, create_block_mask};
use flex_core::mods::{BoundExpr, MaskMod, ScoreMod};

use super::captures::{self, CaptureCopies};
use super::kept_keys::KeptKeys;
use super::mask_building;
use super::masks::{self, DeviceMask, DeviceMasks, MaskKey};
use super::memory::DeviceBuffer;
use super::modules::LoadedKernel;
use super::tiling::TiledRuns;
use super::{CudaDevice, CudaError, compiler};
use crate::Error;

/// How many calls are kept; the ones not used for longest go first.
const KEPT_CALLS: usize = 128;

/// What a call asks for, lengths and all, but no addresses.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallSpec<'a> {
    pub(super) shape: Shape,
    pub(super) dtype: DType,
    /// All addresses, strides and rows are multiples of 16 bytes.
    pub(super) vector_access: bool,
    /// The copy engine can address query, key and value, and the scale is above 0.
    pub(super) bulk_copies: bool,
    /// Other scales take kernels that make fewer assumptions.
    pub(super) positive_scale: bool,
    pub(super) precision: Option<Precision>,
    pub(super) matmul: Matmul,
    pub(super) force: plan::Force,
    pub(super) mask: MaskSource<'a>,
    pub(super) score: Option<&'a ScoreMod>,
}

/// Where the mask of a call comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum MaskSource<'a> {
    /// Every query sees every key.
    None,
    /// Tiles that are known.
    Block(&'a BlockMask),
    /// A block mask is to be built.
    Mod(&'a MaskMod),
}

impl<'a> CallSpec<'a> {
    /// The tiles of the mask: those given, or those that `build` makes. Building them also proves that no kept element
    /// faults, which kernels do not look for in masks.
    fn block_mask<'m>(
        &self,
        built: &'m mut Option<BlockMask>,
        build: impl FnOnce(&MaskMod, Extent) -> Result<BlockMask, Error>,
    ) -> Result<Option<&'m BlockMask>, Error>
    where
        'a: 'm,
    {
        match self.mask {
            MaskSource::None => Ok(None),
            MaskSource::Block(mask) => Ok(Some(mask)),
            MaskSource::Mod(mask) => Ok(Some(built.insert(build(mask, self.shape.extent())?))),
        }
    }

    /// What is asked of the kernel, on a device of this kind.
    fn request<'m>(&self, arch: Arch, smem_limit: u32, mask: Option<&'m BlockMask>) -> CallRequest<'m>
    where
        'a: 'm,
    {
        CallRequest {
            arch,
            smem_limit,
            dtype: self.dtype,
            shape: self.shape,
            vector_access: self.vector_access,
            bulk_copies: self.bulk_copies,
            positive_scale: self.positive_scale,
            precision: self.precision,
            matmul: self.matmul,
            force: self.force,
            mask,
            score: self.score.map(ScoreMod::bound),
        }
    }

    /// The kernel that the call takes on a device of this architecture.
    pub(super) fn kernel(&self, arch: Arch) -> Result<KernelSpec, Error> {
        let mut built = None;
        let mask = self.block_mask(&mut built, |mask, extent| Ok(create_block_mask(mask, extent)?))?;
        Ok(self.request(arch, arch.smem_limit(), mask).plan().map_err(CudaError::from)?.spec)
    }
}

impl<'a> MaskSource<'a> {
    /// Of what a call was given; a block mask goes before a mask mod.
    pub(crate) fn of(block_mask: Option<&'a BlockMask>, mask_mod: Option<&'a MaskMod>) -> Self {
        match (block_mask, mask_mod) {
            (Some(mask), _) => Self::Block(mask),
            (None, Some(mask)) => Self::Mod(mask),
            (None, None) => Self::None,
        }
    }

    /// The mask of partial tiles.
    pub(super) fn bound(self) -> Option<&'a BoundExpr> {
        match self {
            Self::None => None,
            Self::Block(mask) => Some(mask.mask_mod().bound()),
            Self::Mod(mask) => Some(mask.bound()),
        }
    }
}

/// A call that can be launched again and again.
#[derive(Debug)]
pub(super) struct PreparedCall {
    pub(super) kernel: Arc<LoadedKernel>,
    /// Without addresses, strides and scale.
    pub(super) problem: abi::Problem,
    pub(super) captures: Vec<u64>,
    pub(super) blocks: u32,
    _copies: Vec<Arc<DeviceBuffer>>,
    _mask: Option<Arc<DeviceMask>>,
    used: AtomicU64,
    in_graph: AtomicBool,
    owners: Owners,
}

impl PreparedCall {
    /// Keeps the call for as long as its mods live: a graph may launch it at any time.
    pub(super) fn keep_for_graph(&self) {
        self.in_graph.store(true, Ordering::Relaxed);
    }
}

/// The identity of a call. Addresses stand for what lies there: a [`PreparedCall`] holds weak references, so that no
/// address is given to anything else while it is a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct CallKey {
    shape: Shape,
    dtype: DType,
    vector_access: bool,
    bulk_copies: bool,
    positive_scale: bool,
    precision: Option<Precision>,
    matmul: Matmul,
    force: plan::Force,
    mask: Option<[usize; 2]>,
    table: Option<usize>,
    score: Option<[usize; 2]>,
}

/// Those whose addresses are in the key.
#[derive(Debug, Default)]
struct Owners {
    mods: Vec<(Weak<Expr>, Weak<[Capture]>)>,
    table: Option<Weak<RunTable>>,
}

/// The calls of a device, and the captures and masks that they share.
#[derive(Debug, Default)]
pub(super) struct CallCache {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    calls: HashMap<CallKey, Arc<PreparedCall>>,
    copies: CaptureCopies,
    masks: DeviceMasks,
    clock: u64,
}

impl CallCache {
    /// The call, prepared now or before.
    pub(super) fn get(&self, device: CudaDevice, spec: &CallSpec<'_>) -> Result<Arc<PreparedCall>, Error> {
        let key = CallKey::of(spec);
        let unused;
        {
            let mut kept = self.lock();
            kept.clock += 1;
            if let Some(call) = kept.calls.get(&key) {
                call.used.store(kept.clock, Ordering::Relaxed);
                return Ok(call.clone());
            }
            unused = kept.sweep();
        }
        let _beside = device.beside_captures()?;
        // Outside the lock: freeing waits for the device, and other threads must not wait for that, or for a
        // compilation.
        drop(unused);
        let call = Arc::new(self.prepare(device, spec)?);
        let mut kept = self.lock();
        call.used.store(kept.clock, Ordering::Relaxed);
        Ok(kept.calls.entry(key).or_insert(call).clone())
    }

    /// A captured array on the device, copied now or before.
    pub(super) fn copy_of(
        &self,
        device: CudaDevice,
        array: &Arc<Array>,
    ) -> Result<Arc<DeviceBuffer>, CudaError> {
        if let Some(known) = self.lock().copies.get(array) {
            return Ok(known);
        }
        let copy = captures::upload(device, array)?;
        Ok(self.lock().copies.keep(array, copy))
    }

    /// Uses memory that is on the device already instead of a copy.
    pub(super) fn adopt(&self, array: &Arc<Array>, memory: DeviceBuffer) {
        self.lock().copies.keep(array, memory);
    }

    /// Forgets all calls, captures and masks.
    pub(super) fn clear(&self) {
        let mut kept = self.lock();
        let forgotten =
            (std::mem::take(&mut kept.calls), std::mem::take(&mut kept.masks), kept.copies.clear());
        drop(kept);
        // Outside the lock, because freeing waits for the device.
        drop(forgotten);
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // The maps are consistent after every step, so another thread's panic does no harm.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn prepare(&self, device: CudaDevice, spec: &CallSpec<'_>) -> Result<PreparedCall, Error> {
        let shape = spec.shape;
        let mut built = None;
        let block_mask =
            spec.block_mask(&mut built, |mask, extent| mask_building::for_call(device, mask, extent))?;
        let request = spec.request(device.arch(), device.smem_bytes(), block_mask);
        let CallPlan { spec: kernel_spec, kept_keys, reason } = request.plan().map_err(CudaError::from)?;
        let compiled = compiler().kernel(&kernel_spec).map_err(CudaError::from)?;
        tracing::debug!(%device, key = compiled.key, reason, "call prepared");

        let items = compiled.grid(shape.batch, shape.heads, shape.q_len).ok_or_else(|| {
            CudaError::TooManyTiles { items: shape.batch * shape.heads * compiled.q_tiles(shape.q_len) }
        })?;
        let blocks = match compiled.template {
            // Persistent: its blocks draw items until none is left.
            Template::ForwardSm90 => items.min(device.multiprocessors()),
            _ => items,
        };
        let kernel = device.modules().load(device, compiled)?;

        let kept = kept_keys.zip(block_mask).map(|(intervals, mask)| KeptKeys::new(intervals, mask));
        let mask = spec.mask.bound().filter(|_| kept.is_none());
        let score = spec.score.map(ScoreMod::bound);
        let device_mask = block_mask
            .map(|mask| self.device_mask(device, spec, mask, kept.as_ref(), &kernel))
            .transpose()?;
        let mut copies = Vec::new();
        let mut captures = Vec::new();
        kernel.compiled.captures.pack(
            mask,
            score,
            |array| -> Result<u64, CudaError> {
                let copy = self.copy_of(device, array)?;
                let ptr = copy.ptr();
                copies.push(copy);
                Ok(ptr)
            },
            &mut captures,
        )?;

        let problem = abi::Problem {
            batch: shape.batch as i32,
            heads: shape.heads as i32,
            kv_heads: shape.kv_heads as i32,
            q_len: shape.q_len as i32,
            kv_len: shape.kv_len as i32,
            block_mask: device_mask.as_ref().map(|mask| mask.tables).unwrap_or_default(),
            work_order: device_mask.as_ref().map_or(0, |mask| mask.work_order),
            ..abi::Problem::default()
        };
        Ok(PreparedCall {
            kernel,
            problem,
            captures,
            blocks,
            _copies: copies,
            _mask: device_mask,
            used: AtomicU64::new(0),
            in_graph: AtomicBool::new(false),
            owners: Owners::of(spec),
        })
    }

    /// The block mask in the kernel's tiles, uploaded now or before.
    fn device_mask(
        &self,
        device: CudaDevice,
        spec: &CallSpec<'_>,
        mask: &BlockMask,
        kept: Option<&KeptKeys>,
        kernel: &LoadedKernel,
    ) -> Result<Arc<DeviceMask>, Error> {
        let (tile_q, tile_kv) = (kernel.compiled.tile_q, kernel.compiled.tile_kv);
        let tiles = BlockSize { q: tile_q as usize, kv: tile_kv as usize };
        let element_bytes = spec.dtype.size();
        let key = MaskKey {
            table: address(mask.shared_table()),
            tile_q,
            tile_kv,
            shape: spec.shape,
            element_bytes,
        };
        if let Some(known) = self.lock().masks.get(&key) {
            return Ok(known);
        }
        let tiled = TiledRuns::of(mask, tiles)?;
        let uploaded = Arc::new(masks::upload(device, mask, &tiled, kept, &spec.shape, element_bytes)?);
        self.lock().masks.remember(key, &uploaded);
        Ok(uploaded)
    }
}

/// What is not kept any more.
type Unused = (Vec<Arc<PreparedCall>>, Vec<Arc<DeviceBuffer>>);

impl Kept {
    /// Takes out what belongs to mods and masks that were dropped, and what has not been used for longest.
    fn sweep(&mut self) -> Unused {
        let oldest_kept = match self.calls.len() >= KEPT_CALLS {
            true => {
                let mut used: Vec<u64> =
                    self.calls.values().map(|call| call.used.load(Ordering::Relaxed)).collect();
                used.sort_unstable();
                used[KEPT_CALLS / 4]
            }
            false => 0,
        };
        let is_unused = |call: &PreparedCall| {
            let is_old = call.used.load(Ordering::Relaxed) < oldest_kept;
            !call.owners.are_alive() || is_old && !call.in_graph.load(Ordering::Relaxed)
        };
        let calls = self.calls.extract_if(|_, call| is_unused(call)).map(|(_, call)| call).collect();
        self.masks.sweep();
        (calls, self.copies.sweep())
    }
}

impl CallKey {
    fn of(spec: &CallSpec<'_>) -> Self {
        let identity = |bound: &BoundExpr| [address(bound.expr()), address(bound.captures())];
        Self {
            shape: spec.shape,
            dtype: spec.dtype,
            vector_access: spec.vector_access,
            bulk_copies: spec.bulk_copies,
            positive_scale: spec.positive_scale,
            precision: spec.precision,
            matmul: spec.matmul,
            force: spec.force,
            mask: spec.mask.bound().map(identity),
            table: match spec.mask {
                MaskSource::Block(mask) => Some(address(mask.shared_table())),
                _ => None,
            },
            score: spec.score.map(|score| identity(score.bound())),
        }
    }
}

impl Owners {
    fn of(spec: &CallSpec<'_>) -> Self {
        let bounds = spec.mask.bound().into_iter().chain(spec.score.map(ScoreMod::bound));
        Self {
            mods: bounds.map(|b| (Arc::downgrade(b.expr()), Arc::downgrade(b.captures()))).collect(),
            table: match spec.mask {
                MaskSource::Block(mask) => Some(Arc::downgrade(mask.shared_table())),
                _ => None,
            },
        }
    }

    fn are_alive(&self) -> bool {
        let mods_live =
            self.mods.iter().all(|(expr, captures)| expr.strong_count() > 0 && captures.strong_count() > 0);
        mods_live && self.table.as_ref().is_none_or(|table| table.strong_count() > 0)
    }
}

fn address<T: ?Sized>(shared: &Arc<T>) -> usize {
    Arc::as_ptr(shared).cast::<()>().addr()
}
