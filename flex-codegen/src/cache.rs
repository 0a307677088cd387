//! Compiled kernels on disk. Nothing that goes wrong here costs more than a compilation.
//!
//! One file a kernel, named by its key and the compiler's version: magic, the hash of the rest, the length of the
//! description, the description (JSON), the cubin. A file is written under another name and renamed, so that a reader
//! sees a whole file or none; what does not match its hash is ignored and overwritten.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::CompiledKernel;

const MAGIC: &[u8; 8] = b"flexk\0\0\x01";

/// A folder of compiled kernels.
#[derive(Clone, Debug)]
pub(crate) struct DiskCache {
    dir: PathBuf,
}

impl DiskCache {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Whether nothing was ever stored here.
    pub(crate) fn is_empty(&self) -> bool {
        fs::read_dir(&self.dir).map_or(true, |mut files| files.next().is_none())
    }

    /// The kernel stored under `key`, if it is there and whole.
    pub(crate) fn load(&self, key: &str, compiler: &str) -> Option<CompiledKernel> {
        let path = self.path(key, compiler);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "cached kernel not readable, compiling");
                return None;
            }
        };
        let kernel = decode(&bytes).filter(|kernel| kernel.key == key);
        if kernel.is_none() {
            tracing::warn!(path = %path.display(), "cached kernel is damaged, compiling it again");
        }
        kernel
    }

    /// Stores a kernel. Trouble is logged and otherwise ignored.
    pub(crate) fn store(&self, kernel: &CompiledKernel, compiler: &str) {
        if let Err(error) = self.try_store(kernel, compiler) {
            tracing::debug!(dir = %self.dir.display(), %error, "kernel not cached");
        }
    }

    fn try_store(&self, kernel: &CompiledKernel, compiler: &str) -> io::Result<()> {
        create_private_dir(&self.dir)?;
        // tempfile creates with mode 0600.
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(&self.dir)?;
        file.write_all(&encode(kernel)?)?;
        file.persist(self.path(&kernel.key, compiler)).map_err(|error| error.error)?;
        Ok(())
    }

    fn path(&self, key: &str, compiler: &str) -> PathBuf {
        self.dir.join(format!("{key}-nvrtc{compiler}.kernel"))
    }
}

fn encode(kernel: &CompiledKernel) -> io::Result<Vec<u8>> {
    let description = serde_json::to_vec(kernel)?;
    let mut body = Vec::with_capacity(8 + description.len() + kernel.cubin.len());
    body.extend((description.len() as u64).to_le_bytes());
    body.extend(description);
    body.extend(&kernel.cubin);
    let mut bytes = MAGIC.to_vec();
    bytes.extend(blake3::hash(&body).as_bytes());
    bytes.extend(body);
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Option<CompiledKernel> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (hash, body) = rest.split_at_checked(blake3::OUT_LEN)?;
    if blake3::hash(body).as_bytes() != hash {
        return None;
    }
    let (len, body) = body.split_at_checked(8)?;
    let len = usize::try_from(u64::from_le_bytes(len.try_into().ok()?)).ok()?;
    let (description, cubin) = body.split_at_checked(len)?;
    let mut kernel: CompiledKernel = serde_json::from_slice(description).ok()?;
    kernel.cubin = cubin.to_vec();
    Some(kernel)
}

/// Other users must not be able to put code there that this one runs.
fn create_private_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::tests::sample;

    fn cache() -> (tempfile::TempDir, DiskCache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = DiskCache::new(dir.path().join("kernels"));
        (dir, cache)
    }

    #[test]
    fn what_was_stored_comes_back() {
        let (_dir, cache) = cache();
        let kernel = sample();
        assert_eq!(cache.load(&kernel.key, "13.0"), None);
        cache.store(&kernel, "13.0");
        assert_eq!(cache.load(&kernel.key, "13.0"), Some(kernel.clone()));
        assert_eq!(cache.load(&kernel.key, "12.9"), None, "another compiler's kernel");
    }

    #[test]
    fn no_damaged_byte_goes_unnoticed() {
        let (_dir, cache) = cache();
        let kernel = sample();
        cache.store(&kernel, "13.0");
        let path = cache.path(&kernel.key, "13.0");
        let whole = fs::read(&path).unwrap();
        for i in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[i] ^= 0x40;
            fs::write(&path, bytes).unwrap();
            assert_eq!(cache.load(&kernel.key, "13.0"), None, "byte {i}");
        }
        for len in 0..whole.len() {
            assert_eq!(decode(&whole[..len]), None, "cut to {len}");
        }
        cache.store(&kernel, "13.0");
        assert_eq!(cache.load(&kernel.key, "13.0"), Some(kernel), "a damaged file is overwritten");
    }

    #[test]
    fn a_kernel_under_another_key_is_not_taken() {
        let (_dir, cache) = cache();
        let kernel = sample();
        cache.store(&kernel, "13.0");
        fs::rename(cache.path(&kernel.key, "13.0"), cache.path("other", "13.0")).unwrap();
        assert_eq!(cache.load("other", "13.0"), None);
    }

    #[test]
    fn a_folder_that_cannot_be_written_costs_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let cache = DiskCache::new(file.path().join("below-a-file"));
        cache.store(&sample(), "13.0");
        assert_eq!(cache.load(&sample().key, "13.0"), None);
    }

    #[cfg(unix)]
    #[test]
    fn only_the_user_can_read_and_write() {
        use std::os::unix::fs::PermissionsExt;
        let (_dir, cache) = cache();
        let kernel = sample();
        cache.store(&kernel, "13.0");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&cache.dir), 0o700);
        assert_eq!(mode(&cache.path(&kernel.key, "13.0")), 0o600);
    }

    #[test]
    fn many_writers_leave_one_whole_file() {
        let (_dir, cache) = cache();
        let kernel = sample();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        cache.store(&kernel, "13.0");
                        assert_eq!(cache.load(&kernel.key, "13.0").as_ref(), Some(&kernel));
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(&cache.dir).unwrap().count(), 1);
    }
}
