//! Block masks whose undecided tiles are judged on a GPU.
//!
//! The analysis on the host proves what it can, as for any block mask. What is left is a list of tiles: a warp looks at the
//! elements of each, until it has seen a kept and a skipped one, and the host puts the verdicts between what was proved.

use std::ffi::c_void;
use std::sync::Arc;

use flex_codegen::{MaskTilesSpec, abi};
use flex_core::mask::{
    BlockMask, BlockMaskOptions, Extent, MaskSurvey, OpenTile, TileVerdict, create_block_mask,
};
use flex_core::mods::MaskMod;

use super::driver::LaunchConfig;
use super::memory::DeviceBuffer;
use super::modules::LoadedKernel;
use super::{CudaDevice, CudaError, CudaStream, compiler};
use crate::Error;

/// Tiles of a launch: enough to fill any GPU, and 16 MiB.
const TILES_A_LAUNCH: usize = 1 << 20;
/// Blocks a multiprocessor in a launch; each takes tiles until none is left.
const BLOCKS_PER_MULTIPROCESSOR: u32 = 32;
/// Up to so many elements are evaluated on the host when a call needs a block mask: compiling the kernel takes longer.
const FEW_ELEMENTS: usize = 1 << 26;

impl CudaDevice {
    /// Builds a block mask with tiles of 128×128: the same as [`create_block_mask`](flex_core::mask::create_block_mask),
    /// with the tiles that the analysis cannot decide judged on this GPU. For masks that are mostly undecided (samples,
    /// hashes, documents in no order), where the host would evaluate nearly every element.
    ///
    /// The captures are copied to the GPU, and stay there for calls with the same mask. Masks are evaluated as Rust does;
    /// only transcendental functions may differ in the last bit.
    ///
    /// ```no_run
    /// use flex_attention::{cuda::CudaDevice, prelude::*};
    ///
    /// # fn main() -> Result<(), flex_attention::Error> {
    /// let group: Vec<i32> = (0..65536u32).map(|token| (token.wrapping_mul(2654435761) >> 30) as i32).collect();
    /// let same_group = flex_attention::mask_mod!(|b, h, q, kv| group[q] == group[kv] && q >= kv);
    /// let extent = Extent { batch: 1, heads: 1, q_len: group.len(), kv_len: group.len() };
    /// let block_mask = CudaDevice::new(0)?.create_block_mask(&same_group, extent)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As `create_block_mask`, and if there is no compiler, the device's memory is full, or the driver fails.
    pub fn create_block_mask(self, mask: &MaskMod, extent: Extent) -> Result<BlockMask, Error> {
        self.create_block_mask_with(mask, extent, BlockMaskOptions::default())
    }

    /// As [`create_block_mask`](Self::create_block_mask), with other tiles, or threads for the analysis.
    ///
    /// # Errors
    /// As `create_block_mask`.
    pub fn create_block_mask_with(
        self,
        mask: &MaskMod,
        extent: Extent,
        options: BlockMaskOptions,
    ) -> Result<BlockMask, Error> {
        let survey = BlockMask::builder(mask).options(options).survey(extent)?;
        let verdicts = judge(self, &survey)?;
        Ok(survey.finish(&verdicts)?)
    }
}

/// The block mask for a call with a mask mod: built where it is faster, with tiles of 128×128.
pub(super) fn for_call(device: CudaDevice, mask: &MaskMod, extent: Extent) -> Result<BlockMask, Error> {
    let survey = BlockMask::builder(mask).survey(extent)?;
    let block = survey.options().block_size;
    if survey.open_count().saturating_mul(block.q * block.kv) <= FEW_ELEMENTS {
        return Ok(create_block_mask(mask, extent)?);
    }
    match judge(device, &survey) {
        Ok(verdicts) => Ok(survey.finish(&verdicts)?),
        // A program with a bundle may have the kernel of the call alone.
        Err(CudaError::Codegen(error)) => {
            tracing::debug!(%device, %error, "block mask built on the host");
            Ok(create_block_mask(mask, extent)?)
        }
        Err(error) => Err(error.into()),
    }
}

/// What is seen at the open tiles, in their order.
fn judge(device: CudaDevice, survey: &MaskSurvey) -> Result<Vec<TileVerdict>, CudaError> {
    let count = survey.open_count();
    let mut verdicts = vec![TileVerdict::default(); count];
    if count == 0 {
        return Ok(verdicts);
    }
    let stream = device.stream()?;
    let kernel = TilesKernel::prepare(device, survey)?;
    let tiles_a_launch = count.min(TILES_A_LAUNCH);
    let tiles = DeviceBuffer::on_stream(stream, tiles_a_launch * size_of::<OpenTile>())?;
    let judged = DeviceBuffer::on_stream(stream, tiles_a_launch)?;
    let (extent, block) = (survey.extent(), survey.options().block_size);
    let mut open = survey.open_tiles();
    let mut batch: Vec<OpenTile> = Vec::with_capacity(tiles_a_launch);
    for verdicts in verdicts.chunks_mut(tiles_a_launch) {
        batch.clear();
        batch.extend(open.by_ref().take(verdicts.len()));
        tiles.upload(stream, 0, bytemuck::cast_slice(&batch))?;
        let job = abi::MaskTiles {
            tiles: tiles.ptr(),
            verdicts: judged.ptr(),
            count: verdicts.len() as u32,
            q_len: extent.q_len as i32,
            kv_len: extent.kv_len as i32,
            // Lengths are positions in i32; a tile beyond them is as good as one of their size.
            tile_q: block.q.min(extent.q_len) as i32,
            tile_kv: block.kv.min(extent.kv_len) as i32,
            ..abi::MaskTiles::default()
        };
        kernel.launch(stream, &job)?;
        judged.download(stream, 0, bytemuck::cast_slice_mut(verdicts))?;
    }
    Ok(verdicts)
}

/// The kernel with the captures of one mask.
struct TilesKernel {
    kernel: Arc<LoadedKernel>,
    captures: Vec<u64>,
    _copies: Vec<Arc<DeviceBuffer>>,
}

impl TilesKernel {
    fn prepare(device: CudaDevice, survey: &MaskSurvey) -> Result<Self, CudaError> {
        let mask = survey.mask_mod().bound();
        let spec = MaskTilesSpec::new(device.arch(), mask, &survey.extent());
        let kernel = device.modules().load(device, compiler().mask_tiles(&spec)?)?;
        let (mut captures, mut copies) = (Vec::new(), Vec::new());
        kernel.compiled.captures.pack(
            Some(mask),
            None,
            |array| -> Result<u64, CudaError> {
                let copy = device.calls().copy_of(device, array)?;
                let ptr = copy.ptr();
                copies.push(copy);
                Ok(ptr)
            },
            &mut captures,
        )?;
        Ok(Self { kernel, captures, _copies: copies })
    }

    fn launch(&self, stream: &CudaStream, job: &abi::MaskTiles) -> Result<(), CudaError> {
        let device = stream.device();
        let compiled = &self.kernel.compiled;
        let tiles_a_block = compiled.threads / 32;
        let blocks =
            job.count.div_ceil(tiles_a_block).min(device.multiprocessors() * BLOCKS_PER_MULTIPROCESSOR);
        let config = LaunchConfig {
            grid: [blocks, 1, 1],
            block: [compiled.threads, 1, 1],
            dynamic_smem_bytes: compiled.smem_bytes,
            stream: stream.raw(),
            attributes: std::ptr::null_mut(),
            attribute_count: 0,
        };
        let mut params: [*mut c_void; 2] =
            [(&raw const *job).cast_mut().cast(), self.captures.as_ptr().cast_mut().cast()];
        let _context = device.enter()?;
        // SAFETY: the kernel takes (MaskTiles, Captures), and `captures` was packed by its own layout. Tiles and verdicts
        // have `count` elements, the copies live as long as `self`, and the caller waits for the stream before it lets go
        // of any of them. Loads that are not proved to be in bounds are guarded.
        unsafe {
            device.driver().launch(&config, self.kernel.function, params.as_mut_ptr(), std::ptr::null_mut())
        }
    }
}
